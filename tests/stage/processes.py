"""Programs as the tests run them: a log each, awaited until they say that they can be used, and ended at the end."""

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 30

# The end of a program's standard output.
_END = object()


# Set once a run, by the part of the tests that runs.
_artefacts: list[Path] = []


def fresh_artefacts(part: str) -> None:
    """Logs and screenshots of this part's last run only. ARTEFACTS names another folder, for runs side by side."""
    folder = Path(os.environ.get("ARTEFACTS", REPOSITORY / "tests" / "artefacts")) / part
    # Of several processes, each has its own.
    folder /= os.environ.get("PYTEST_XDIST_WORKER", "")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _artefacts[:] = [folder]


def artefacts() -> Path:
    """Where the logs and screenshots of the running part go."""
    return _artefacts[0]


class Program:
    """A running program. Its environment is what it is given and nothing of ours."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log_file = artefacts() / f"{name}.log"
        self._log = self.log_file.open("ab")
        self._lines: queue.Queue = queue.Queue()
        self._process = subprocess.Popen(
            [str(word) for word in argv],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            pass_fds=pass_fds,
            **identity(user),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def signals(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def announced(self) -> dict:
        """Waits for the JSON line with which our programs say where they listen."""
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE_S)
            except queue.Empty:
                raise AssertionError(f"{self.name} did not say that it listens: {self.tail()}") from None
            if line is _END:
                raise AssertionError(f"{self.name} ended with {self._process.wait()}: {self.tail()}")
            if line.startswith(b"{") and json.loads(line).get("event") == "listening":
                return json.loads(line)

    def stop(self) -> int:
        """Ends it as systemd would."""
        if self.running:
            self._process.terminate()
        try:
            code = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"{self.name} did not end within {PATIENCE_S} s of SIGTERM: {self.tail()}") from None
        self._reader.join()
        self._process.stdout.close()
        self._log.close()
        return code

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._reader.join()
        self._process.stdout.close()
        self._log.close()

    def tail(self) -> str:
        """The last lines of its log, for the message of a failed test."""
        return "\n" + "\n".join(self.log_file.read_text(errors="replace").splitlines()[-20:])

    def _read(self) -> None:
        for line in self._process.stdout:
            self._log.write(line)
            self._log.flush()
            self._lines.put(line)
        self._lines.put(_END)


def identity(user: str | None) -> dict:
    """What Popen and run need to become another user; only root may ask for one."""
    return {"user": user, "group": user, "extra_groups": []} if user else {}


def application_user() -> str | None:
    """Who the websites run as: not the agent's user where there is a choice, so that file owners are put to the test."""
    readable = os.geteuid() == 0 and subprocess.run(["test", "-r", __file__], **identity("www-data")).returncode == 0
    return "www-data" if readable else None
