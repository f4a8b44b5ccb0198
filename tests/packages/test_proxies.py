"""The portal behind each proxy that deploy/ has a file for: the real nginx, Caddy and Traefik, each before a home of its own.

The files are used as they are, but for the addresses in them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from certificates import ThrowAwayAuthority
from clientside import ClientSide
from conftest import DEPLOY, TOOLS
from front import Front, PublicAddress
from homeward import Agent, Broker
from person import Person
from processes import PATIENCE_S, Program
from strangers import Strangers
from website import Account

GRETA = Account("greta", "gladly given gravel", "greta@garage.example", "Greta", "Gray")
CALLBACK = "https://127.9.9.9/callback"

CADDY = """
{{
    admin off
    auto_https off
}}
{site}
"""

TRAEFIK = """
entryPoints:
  websecure:
    address: {address}
providers:
  file:
    filename: {routes}
global:
  checkNewVersion: false
  sendAnonymousUsage: false
"""

TRAEFIK_CERTIFICATE = """
tls:
  certificates:
    - certFile: {chain}
      keyFile: {key}
"""


@dataclass
class House:
    """A home whose users are in a file, behind one of the proxies."""

    public: PublicAddress
    agent: Agent
    # Where the agent itself listens.
    portal: str

    @property
    def name(self) -> str:
        return self.public.name


@pytest.fixture(scope="session")
def application() -> Iterator[ClientSide]:
    """What is behind each proxy beside the agent. It keeps the headers that come."""
    side = ClientSide()
    side.shows("/", "the application", "text/plain")
    yield side
    side.stop()


@pytest.fixture(scope="module", params=["nginx", "caddy", "traefik"])
def house(
    request: pytest.FixtureRequest,
    folder: Path,
    authority: ThrowAwayAuthority,
    front: Front,
    broker: Broker,
    application: ClientSide,
) -> Iterator[House]:
    kind = request.param
    public = front.address(kind)
    with ExitStack() as stack:
        agent = Agent(folder / kind / "agent", public, authority.file)
        stack.callback(agent.stop)
        users = {"users_file": str(folder / kind / "users.toml")}
        home = {"methods": ["file"], "file": users}
        app = {"url": f"http://{application.address}"}
        agent.enrols(broker.join_token(kind), recipe="generic-oidc", app=app, home=home)
        user = ["user", "add", GRETA.username, "--email", GRETA.email, "--name", "Greta Gray"]
        agent.says(*user, stdin=f"{GRETA.password}\n")
        agent.runs()
        portal = public.behind.pop("/homeward/")
        if kind == "nginx":
            public.locations = with_addresses((DEPLOY / "nginx-portal.conf").read_text(), {"127.0.0.1:9811": portal})
            public.behind["/"] = application.address
            front.start()
        else:
            # They take no socket from anybody.
            public.socket.close()
            start = {"caddy": caddy, "traefik": traefik}[kind]
            behind = {"127.0.0.1:9811": portal, "127.0.0.1:8000": application.address}
            stack.callback(start(folder / kind, public, authority.issue(kind, [public.host]), behind).stop)
            awaits_answer(public, authority)
        broker.awaits_acknowledgement(kind)
        yield House(public, agent, portal)


def caddy(folder: Path, public: PublicAddress, files: tuple[Path, Path], behind: dict[str, str]) -> Program:
    site = with_addresses((DEPLOY / "Caddyfile").read_text(), behind)
    chain, key = files
    site = site.replace("alpha.example.org {", f"{public.url} {{\n\tbind {public.host}\n\ttls {chain} {key}\n")
    file = folder / "Caddyfile"
    file.write_text(CADDY.format(site=site))
    return Program("caddy", ["caddy", "run", "--adapter", "caddyfile", "--config", file], env={"HOME": str(folder)})


def traefik(folder: Path, public: PublicAddress, files: tuple[Path, Path], behind: dict[str, str]) -> Program:
    routes = with_addresses((DEPLOY / "traefik.yml").read_text(), behind).replace("alpha.example.org", public.host)
    chain, key = files
    (folder / "routes.yml").write_text(routes + TRAEFIK_CERTIFICATE.format(chain=chain, key=key))
    file = folder / "traefik.yml"
    file.write_text(TRAEFIK.format(address=f"{public.host}:{public.port}", routes=folder / "routes.yml"))
    return Program("traefik", [TOOLS / "traefik", f"--configFile={file}"])


def with_addresses(text: str, behind: dict[str, str]) -> str:
    for written, real in behind.items():
        assert written in text, f"{written} is not in the file any more"
        text = text.replace(written, real)
    return text


def awaits_answer(public: PublicAddress, authority: ThrowAwayAuthority) -> None:
    """Until it passes something on: Traefik listens before it has read its routes."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if requests.get(public.url, verify=str(authority.file), timeout=5).text == "the application":
                return
        except requests.exceptions.RequestException:
            pass
        assert time.monotonic() < deadline, f"nothing answers at {public.url}"
        time.sleep(0.05)


def found_by_doctor(house: House) -> dict[str, dict]:
    """What the agent's doctor sees through the proxy, by what it is about."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        _, told = house.agent.tells("doctor")
        found = {finding["about"]: finding for finding in told["findings"]}
        if found["portal"]["verdict"] == "ok" or time.monotonic() > deadline:
            return found


def test_the_portal_is_reached_and_knows_its_visitors(house: House) -> None:
    """The doctor claims to come from elsewhere, and sees whether the proxy believes it."""
    found = found_by_doctor(house)
    assert found["portal"]["verdict"] == "ok", found
    assert found["X-Forwarded-For"]["verdict"] == "ok", found
    # It speaks of these only if they are wrong.
    assert "X-Forwarded-Proto" not in found and "cookies" not in found, found


def test_the_rest_is_the_applications(house: House, authority: ThrowAwayAuthority) -> None:
    for path in ("/", "/homewards"):
        answer = requests.get(f"{house.public.url}{path}", verify=str(authority.file), timeout=30)
        assert answer.text in ("the application", "nothing here"), answer.text


def test_greta_logs_in_through_it(house: House, broker: Broker, authority: ThrowAwayAuthority) -> None:
    strangers = Strangers(broker, authority.file, f"shop-{house.name}", clients=1)
    strangers.may_log_in_from(house.name)
    client = strangers.registers(CALLBACK)
    query = {
        "response_type": "code",
        "client_id": client["client_id"],
        "redirect_uri": CALLBACK,
        "scope": "openid",
        "state": "s",
        "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        "code_challenge_method": "S256",
    }
    greta = Person(authority.file, GRETA, home=house.name.capitalize())
    arrival = greta.logs_in(f"{broker.public.url}/authorize", CALLBACK, params=query)
    assert "code" in arrival.parameters, arrival
    assert any(page.url.startswith(f"{house.public.url}/homeward/") for page in greta.pages)
    assert greta.passwords == 1


def test_what_a_visitor_claims_does_not_reach_the_portal(house: House, authority: ThrowAwayAuthority) -> None:
    """Tries of a password count by address: one who claims another with each is not let through for that."""
    house.agent.stop()
    portal = ClientSide(int(house.portal.rsplit(":", 1)[1]))
    claims = {"X-Forwarded-For": "192.0.2.66", "X-Forwarded-Proto": "gopher"}
    requests.get(f"{house.public.url}/homeward/claims", headers=claims, verify=str(authority.file), timeout=30)
    headers = portal.awaits("/homeward/claims")[-1].headers
    portal.stop()
    assert headers.get_all("X-Forwarded-For") == ["127.0.0.1"]
    assert headers.get_all("X-Forwarded-Proto") == ["https"]
    assert headers.get_all("Host") == [house.public.url.removeprefix("https://")]
