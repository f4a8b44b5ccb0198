"""The shipped broker and agent, set up with the commands that ops and operators type."""

import json
import socket
import subprocess
import time
from pathlib import Path

from front import PublicAddress
from processes import PATIENCE_S, REPOSITORY, Program, application_user
from website import Website

BINARIES = REPOSITORY / "target" / "debug"


class Broker:
    """The broker behind `public`."""

    def __init__(self, folder: Path, public: PublicAddress, ca_file: Path) -> None:
        folder.mkdir()
        self.public = public
        self._config_file = folder / "broker.toml"
        self._config_file.write_text(
            f"""
            public_url = "{public.url}"
            agent_url = "https://127.0.0.1:{{port}}"
            trust_domain = "federation.test"
            data_dir = "{folder / "data"}"
            [listen]
            http = "127.0.0.1:0"
            grpc = "127.0.0.1:{{port}}"
            [outbound]
            ca_file = "{ca_file}"
            private_networks = ["127.0.0.0/8"]
            """.format(port=_free_port())
        )
        self.says("init")
        self._program = Program("broker", self._command("serve"), env={"HOMEWARD_LOG": "debug"})
        public.behind["/"] = self._program.announced()["http"]

    def says(self, *arguments: str) -> str:
        """Runs a command of the broker and returns what it prints."""
        return _output(self._command(*arguments))

    def tells(self, *arguments: str) -> tuple[int, dict | list]:
        """Runs a command that may have bad news, and returns its exit code and its answer as JSON."""
        done = _run([*self._command(*arguments), "--output", "json"])
        return done.returncode, json.loads(done.stdout)

    def shows(self, *arguments: str) -> dict:
        """Runs a command and returns its answer as JSON."""
        return json.loads(self.says(*arguments, "--output", "json"))

    def awaits_acknowledgement(self, instance: str) -> dict:
        """Waits until an instance uses what it should use, and returns what ops see of it then."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            shown = self.shows("instance", "show", instance)
            if shown["online"] and shown["applied_revision"] == shown["wanted_revision"] != 0:
                return shown
            assert time.monotonic() < deadline, f"{instance} has not acknowledged: {shown}"
            time.sleep(0.1)

    @property
    def pid(self) -> int:
        return self._program.pid

    def stop(self) -> int:
        return self._program.stop()

    def _command(self, *arguments: str) -> list[str | Path]:
        return [BINARIES / "homeward-broker", "--config", self._config_file, *arguments]


class Agent:
    """The agent beside one website, behind /homeward/ of the website's public address."""

    def __init__(self, folder: Path, public: PublicAddress, website: Website) -> None:
        folder.mkdir(parents=True)
        self.public = public
        self._website = website
        self.folder = folder
        self.config_file = folder / "agent.toml"
        self._portal = "127.0.0.1:0"
        self._program: Program | None = None

    def enrols(self, token: str, *, methods: list[str] | None = None, relying_party: bool = False) -> None:
        """Becomes a member of the federation. The token goes in by standard input, never by argv."""
        self.is_configured(methods=methods, relying_party=relying_party)
        _output(self._command("enrol", "--token-file", "-"), stdin=token)

    def is_configured(self, *, methods: list[str] | None = None, relying_party: bool = False) -> None:
        """Writes its configuration file: as a home with these methods, as a relying party, or both."""
        website = self._website
        sections = [
            f"""
            public_url = "{self.public.url}"
            display_name = "{self.public.name.capitalize()}"
            data_dir = "{self.folder / "data"}"
            recipe = "django-allauth"
            [app]
            url = "http://{website.address}"
            [app.parameters]
            python = "{website.python}"
            manage = "{website.manage}"
            [portal]
            listen = "{self._portal}"
            """
        ]
        if methods:
            sections.append(f"[home]\nmethods = {json.dumps(methods)}\n")
        if relying_party:
            user = application_user()
            owner = f'owner = "{user}"\ngroup = "{user}"\n' if user else ""
            sections.append(
                f"[relying_party]\n{owner}"
                f'credentials_dir = "{website.credentials_dir}"\n'
                f"reload = {json.dumps(website.reload_command)}\n"
            )
        self.config_file.write_text("\n".join(sections))

    def runs(self) -> None:
        name = f"{self.public.name}-agent"
        self._program = Program(name, self._command("run"), env={"HOMEWARD_LOG": "debug"})
        # Kept for the next start, so that nginx finds it again.
        self._portal = self._program.announced()["portal"]
        self.public.behind["/homeward/"] = self._portal

    def stop(self) -> None:
        if self._program is not None:
            self._program.stop()

    def _command(self, *arguments: str) -> list[str | Path]:
        return [BINARIES / "homeward-agent", "--config", self.config_file, *arguments]


def _run(command: list[str | Path], stdin: str | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(word) for word in command],
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def _output(command: list[str | Path], stdin: str | None = None) -> str:
    done = _run(command, stdin)
    assert done.returncode == 0, f"{' '.join(str(word) for word in command)}: {done.returncode}\n{done.stderr}"
    return done.stdout


def _free_port() -> int:
    """For the one listener whose port has to be in a configuration file before it listens."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return unused.getsockname()[1]
