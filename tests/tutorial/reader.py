"""Reads docs/tutorial.md as its reader does: from the top, typing each block of commands into one shell."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from processes import REPOSITORY, artefacts

PAGE = REPOSITORY / "docs" / "tutorial.md"
# How long a block may take: one of them installs packages.
PATIENCE_S = 180
DONE = "--- done ---"
FAILED = "--- failed ---"


class Reader:
    """One shell, from the first block to the last. Ports of the page are others here, for a machine where they are taken."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._text = PAGE.read_text()
        self._ports = {port: str(_free_port()) for port in sorted(set(re.findall(r"\b(?:80|84|98)\d\d\b", self._text)))}
        self._errors = (artefacts() / "tutorial.log").open("w")
        self._shell = subprocess.Popen(
            ["/bin/bash"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self._types(f"set -uo pipefail\ntrap 'echo \"{FAILED} $BASH_COMMAND\"' ERR\n")

    def at(self, address: str) -> str:
        """An address of the page as it is here."""
        assert address in self._text, f"{address} is not on the page any more"
        for port, here in self._ports.items():
            address = address.replace(port, here)
        return address

    def steps(self) -> Iterator[str]:
        """Types block after block, and stops at each heading: its text is what the caller may do by hand."""
        pieces = re.findall(r"^## ([^\n]*)$|^```(\w*)\n(.*?)^```$", self._text, re.MULTILINE | re.DOTALL)
        printed: str | None = None
        for heading, language, block in pieces:
            if heading:
                yield heading
            elif language == "sh":
                printed = self._types(self._here(block))
            elif printed is not None:
                pattern = re.escape(_words(self._here(block))).replace("…", ".*")
                assert re.fullmatch(pattern, _words(printed), re.DOTALL), f"the page shows\n{block}and it is\n{printed}"

    def stop(self) -> None:
        """Ends the shell and whatever it left running."""
        try:
            os.killpg(self._shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._shell.wait()
        self._shell.stdin.close()
        self._shell.stdout.close()
        self._errors.close()

    def _here(self, text: str) -> str:
        for port, here in self._ports.items():
            text = text.replace(port, here)
        return text

    def _types(self, block: str) -> str:
        """Types a block and gives what it printed. Whatever fails in it fails the test."""
        self._errors.write(f"$ {block}")
        self._errors.flush()
        self._shell.stdin.write(f"{block}\necho '{DONE}'\n")
        self._shell.stdin.flush()
        alarm = signal.signal(signal.SIGALRM, _too_late)
        signal.alarm(PATIENCE_S)
        lines: list[str] = []
        try:
            for line in self._shell.stdout:
                assert not line.startswith(FAILED), f"{line}{''.join(lines)}{self._said()}"
                if line.strip() == DONE:
                    return "".join(lines)
                lines.append(line)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, alarm)
        raise AssertionError(f"the shell ended: {self._said()}")

    def _said(self) -> str:
        return "\n".join((artefacts() / "tutorial.log").read_text().splitlines()[-20:])


def _words(text: str) -> str:
    """As it reads, whatever the width of columns."""
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())


def _too_late(*_: object) -> None:
    raise AssertionError(f"a block took longer than {PATIENCE_S} s: see {artefacts() / 'tutorial.log'}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return unused.getsockname()[1]
