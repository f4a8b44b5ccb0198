"""The shipped broker and agent, set up with the commands that ops and operators type."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from front import PublicAddress
from processes import PATIENCE_S, REPOSITORY, Program
from website import Website

BINARIES = REPOSITORY / "target" / "debug"


class Broker:
    """The broker behind `public`. `further` are sections of its configuration that most brokers can do without."""

    def __init__(self, folder: Path, public: PublicAddress, ca_file: Path, **further: Mapping[str, Any]) -> None:
        folder.mkdir()
        self.public = public
        self._config_file = folder / "broker.toml"
        port = _free_port()
        self._config_file.write_text(
            f"""
            public_url = "{public.url}"
            agent_url = "https://127.0.0.1:{port}"
            trust_domain = "federation.test"
            data_dir = "{folder / "data"}"
            [listen]
            http = "127.0.0.1:0"
            grpc = "127.0.0.1:{port}"
            [outbound]
            ca_file = "{ca_file}"
            private_networks = ["127.0.0.0/8"]
            {as_toml(further)}
            """
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

    def join_token(self, instance: str) -> str:
        return self.shows("token", "create", "--instance", instance)["text"]

    def awaits_acknowledgement(self, instance: str) -> dict:
        """Waits until an instance uses what it should use, and returns what ops see of it then."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            shown = self.shows("instance", "show", instance)
            if shown["online"] and shown["applied_revision"] == shown["wanted_revision"] != 0:
                return shown
            assert time.monotonic() < deadline, f"{instance} has not acknowledged: {shown}"
            # Each question is a program, which takes time from those that are waited for.
            time.sleep(0.25)

    @property
    def pid(self) -> int:
        return self._program.pid

    def stop(self) -> int:
        return self._program.stop()

    def _command(self, *arguments: str) -> list[str | Path]:
        return [BINARIES / "homeward-broker", "--config", self._config_file, *arguments]


class Agent:
    """The agent beside one application, behind /homeward/ of the application's public address."""

    def __init__(self, folder: Path, public: PublicAddress, ca_file: Path | None = None) -> None:
        """`ca_file` is of an authority that its machine trusts."""
        folder.mkdir(parents=True)
        self.public = public
        self.folder = folder
        self._machine = {"SSL_CERT_FILE": str(ca_file)} if ca_file else {}
        self.config_file = folder / "agent.toml"
        self._portal = "127.0.0.1:0"
        # What it says when it can be used.
        self.announced: dict[str, str] = {}
        self._program: Program | None = None

    def enrols(self, token: str, **settings: Any) -> None:
        """Becomes a member of the federation. The token goes in by standard input, never by argv."""
        self.is_configured(**settings)
        _output(self._command("enrol", "--token-file", "-"), stdin=token)

    def is_configured(self, **settings: Any) -> None:
        """Writes its configuration file: what every agent needs, and these settings."""
        every = {
            "public_url": self.public.url,
            "display_name": self.public.name.capitalize(),
            "data_dir": str(self.folder / "data"),
        }
        self.config_file.write_text(as_toml(every | settings | {"portal": {"listen": self._portal}}))

    def says(self, *arguments: str, stdin: str = "") -> str:
        """Runs a command of the agent and returns what it prints."""
        return _output(self._command(*arguments), stdin=stdin)

    def tells(self, *arguments: str) -> tuple[int, dict | list]:
        """Runs a command that may have bad news, and returns its exit code and its answer as JSON."""
        done = _run([*self._command(*arguments), "--output", "json"], environment=self._machine)
        return done.returncode, json.loads(done.stdout)

    def runs(self) -> None:
        name = f"{self.public.name}-agent"
        self._program = Program(name, self._command("run"), env={"HOMEWARD_LOG": "debug"} | self._machine)
        self.announced = self._program.announced()
        # Kept for the next start, so that nginx finds it again.
        self._portal = self.announced["portal"]
        self.public.behind["/homeward/"] = self._portal

    def stop(self) -> None:
        if self._program is not None:
            self._program.stop()

    def _command(self, *arguments: str) -> list[str | Path]:
        return [BINARIES / "homeward-agent", "--config", self.config_file, *arguments]


class WebsiteAgent(Agent):
    """The agent of one of our own Django sites, as home, as relying party or both."""

    def __init__(self, folder: Path, public: PublicAddress, website: Website) -> None:
        super().__init__(folder, public)
        self._website = website

    def is_configured(self, *, methods: list[str] | None = None, relying_party: bool = False) -> None:
        """As a home with these methods, as a relying party, or both."""
        website = self._website
        parameters = {"python": str(website.python), "manage": str(website.manage)}
        settings: dict[str, Any] = {
            "recipe": "django-allauth",
            "app": {"url": f"http://{website.address}", "parameters": parameters},
        }
        if methods:
            settings["home"] = {"methods": methods}
        if relying_party:
            files = {"credentials_dir": str(website.credentials_dir), "reload": website.reload_command}
            settings["relying_party"] = website.owner | files
        super().is_configured(**settings)


def as_toml(document: Mapping[str, Any], path: str = "") -> str:
    """A configuration file: plain values first, then a section for each table."""
    tables = {name: value for name, value in document.items() if isinstance(value, Mapping)}
    lines = [f"{json.dumps(name)} = {_toml_value(value)}" for name, value in document.items() if name not in tables]
    for name, table in tables.items():
        inner = f"{path}{json.dumps(name)}"
        lines += [f"[{inner}]", as_toml(table, f"{inner}.")]
    return "\n".join(lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml_value(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(_toml_value(inner) for inner in value)}]"
    return json.dumps(value)


def _run(
    command: list[str | Path], stdin: str | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(word) for word in command],
        env=os.environ | (environment or {}),
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
