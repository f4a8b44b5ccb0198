"""A small federation of real processes, all on loopback: brokers, and agents for one home and one relying party.

The members' sites are one small server of the harness: at the home everybody is who their cookie says.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from homeward import BINARIES, Agent, as_toml
from processes import PATIENCE_S, Program

RECIPE = Path(__file__).with_name("member.toml")

# Agents that lost their broker come back in this time, and no run waits longer for anything.
RETURN_S = 60


@dataclass
class Address:
    """What the stage's Agent asks of a public address."""

    name: str
    url: str
    behind: dict[str, str] = field(default_factory=dict)


class Server:
    """A program that is killed and started again, many times."""

    def __init__(self, name: str, argv: list[str | Path], env: Mapping[str, str]) -> None:
        self.name = name
        self.argv = argv
        self.env = dict(env)
        self._program: Program | None = None

    @property
    def pid(self) -> int:
        return self._program.pid

    def starts(self, wrapper: list[str | Path] = (), env: Mapping[str, str] = {}) -> dict:
        """Waits until it says that it can be used."""
        self._program = Program(self.name, [*wrapper, *self.argv], env=self.env | env)
        return self._program.announced()

    def is_killed(self) -> None:
        """SIGKILL, whatever state it is in."""
        if self._program is not None:
            self._program.kill()
            self._program = None

    def ends(self) -> int:
        """SIGTERM."""
        program, self._program = self._program, None
        return program.stop() if program else 0

    @property
    def running(self) -> bool:
        return self._program is not None and self._program.running

    def pauses(self, seconds: float) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGCONT)


class Town:
    """The federation. `store` is an address, or unset for what `init` makes by itself."""

    def __init__(self, folder: Path, *, brokers: int = 1, store: str | None = None, **further: object) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._sites = _Sites()
        self.home = Address("home", f"http://home.localhost:{self._sites.port}")
        self.party = Address("party", f"http://party.localhost:{self._sites.port}")
        # With several brokers, the public address is a balancer's (balancer.py).
        self.http, self.grpc = free_port(), free_port()
        self.url = f"http://localhost:{self.http}"
        ports = [(self.http, self.grpc)] if brokers == 1 else [(free_port(), free_port()) for _ in range(brokers)]
        self.ports = ports
        self.brokers = []
        for number, (http, grpc) in enumerate(ports):
            config = self._configures(number, http, grpc, store, further)
            command = [BINARIES / "homeward-broker", "--config", config, "serve"]
            self.brokers.append(Server(f"broker-{number}", command, {"HOMEWARD_LOG": "info"}))
        self.agents: list[Agent] = []
        self.client: dict[str, str] = {}

    @property
    def broker(self) -> Server:
        return self.brokers[0]

    @property
    def store(self) -> Path:
        """The folder of the embedded store."""
        return self.folder / "broker-0" / "store"

    def opens(self) -> None:
        """`init`, brokers, agents; everybody is in sync at the end."""
        self.says("init")
        for broker in self.brokers:
            broker.starts()
        self.member(self.home, home={"methods": ["session"], "watch_every": 0})
        self.member(self.party, relying_party={"credentials_dir": str(self.folder / "party" / "credentials")})
        self.says("trust", "allow", "--relying-party", "party", "--home", "home", "--email-domain", "home.example")
        self.awaits("party")
        file = self.folder / "party" / "credentials" / "current" / "homeward.json"
        self.client = json.loads(file.read_text())

    def member(self, address: Address, **settings: object) -> None:
        agent = Agent(self.folder / address.name / "agent", address)
        app = {"url": f"http://127.0.0.1:{self._sites.port}"}
        agent.enrols(self.join_token(address.name), recipe_file=str(RECIPE), app=app, **settings)
        agent.runs()
        self.agents.append(agent)
        self.awaits(address.name)

    def rouses(self) -> None:
        """Starts the agents again: one that loses its broker many times a minute soon waits for minutes."""
        for agent in self.agents:
            agent.stop()
            agent.runs()

    def stranger(self, name: str, number: int) -> Agent:
        """An agent that has no identity yet and asks for none by itself."""
        address = Address(name, f"http://{name}.localhost:{self._sites.port}")
        agent = Agent(self.folder / "strangers" / f"{name}-{number}", address)
        app = {"url": f"http://127.0.0.1:{self._sites.port}"}
        agent.is_configured(recipe_file=str(RECIPE), app=app, home={"methods": ["session"], "watch_every": 0})
        return agent

    def join_token(self, name: str) -> str:
        return json.loads(self.says("token", "create", "--instance", name, "--output", "json"))["text"]

    def says(self, *arguments: str, env: Mapping[str, str] = {}) -> str:
        """What a command prints, of a broker that runs if there is one."""
        broker = next((broker for broker in self.brokers if broker.running), self.broker)
        command = [*broker.argv[:-1], *arguments]
        every = {"env": os.environ | env, "capture_output": True, "text": True}
        done = subprocess.run(command, timeout=PATIENCE_S, check=False, **every)
        if done.returncode:
            raise Refused(f"{' '.join(arguments)}: {done.returncode}: {done.stderr}")
        return done.stdout

    def awaits(self, name: str) -> None:
        """Until an instance uses what it should use."""
        deadline = time.monotonic() + RETURN_S
        while True:
            shown = json.loads(self.says("instance", "show", name, "--output", "json"))
            if shown["online"] and shown["applied_revision"] == shown["wanted_revision"] != 0:
                return
            assert time.monotonic() < deadline, f"{name} is not in sync: {shown}"
            time.sleep(0.1)

    def route(self, host: str, port: int, path: str) -> tuple[str, int]:
        """Where a browser's request goes: this is all the DNS and all the reverse proxies there are."""
        if port == self._sites.port and path.startswith("/homeward/"):
            name = host.split(".")[0]
            agent = next(agent for agent in self.agents if agent.public.name == name)
            to, _, number = agent.public.behind["/homeward/"].partition(":")
            return to, int(number)
        return "127.0.0.1", port

    def closes(self) -> None:
        for agent in self.agents:
            agent.stop()
        for broker in self.brokers:
            broker.is_killed()
        self._sites.stop()

    def _configures(self, number: int, http: int, grpc: int, store: str | None, further: Mapping[str, object]) -> Path:
        settings: dict[str, object] = {
            "public_url": self.url,
            "agent_url": f"https://127.0.0.1:{self.grpc}",
            "trust_domain": "faults.example",
            "data_dir": str(self.folder / f"broker-{number}"),
        }
        if store:
            settings["store"] = store
        if len(self.ports) > 1:
            settings["key_encryption_key_file"] = str(self.folder / "broker-0" / "kek")
        if number > 0:
            (self.folder / f"broker-{number}").mkdir(mode=0o700)
        listen = {"http": f"127.0.0.1:{http}", "grpc": f"127.0.0.1:{grpc}"}
        file = self.folder / f"broker-{number}.toml"
        file.write_text(as_toml(settings | {"listen": listen} | further))
        return file


class Refused(Exception):
    """A command said no."""


class _Sites:
    """Every member's application."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Site)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked was killed."""


class _Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        account = next((part[8:] for part in self.headers.get("Cookie", "").split("; ") if part.startswith("account=")), "")
        if not self.path.startswith("/whoami"):
            self._answers(200, {"page": self.path})
        elif account:
            known = {"id": account, "username": account, "name": account.title(), "email": f"{account}@home.example"}
            self._answers(200, known | {"email_verified": True})
        else:
            self._answers(401, {})

    def _answers(self, status: int, document: dict) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nobody reads it."""


def free_port() -> int:
    """Of the lower half: nothing that connects is given one of these while a killed broker's is free."""
    while True:
        port = random.randrange(15000, 32000)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
