"""The story before the tests: a CA, three addresses behind nginx, two websites, a broker, the agents, two trust edges.

Each fixture is a chapter; a test asks for the last one it needs.
"""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from certificates import ThrowAwayAuthority
from front import Front, PublicAddress
from homeward import Agent, Broker
from processes import fresh_artefacts
from visitor import CHROMIUM_FLAGS, DESKTOP, Visitor
from website import Account, Website

ALICE = Account("alice", "correct horse battery", "alice@alpha.example", "Alice", "Archer")


@dataclass
class Addresses:
    """Loopback has many hosts: no names to resolve, and cookies apart as on the web."""

    broker: PublicAddress
    alpha: PublicAddress
    beta: PublicAddress
    gamma: PublicAddress

    @property
    def all(self) -> list[PublicAddress]:
        return [self.broker, self.alpha, self.beta, self.gamma]


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Short, for the broker's Unix socket, and open to the websites' user; what is secret in it has modes of its own."""
    fresh_artefacts()
    path = Path(tempfile.mkdtemp(prefix="homeward-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def authority(folder: Path) -> ThrowAwayAuthority:
    return ThrowAwayAuthority(folder)


@pytest.fixture(scope="session")
def addresses() -> Iterator[Addresses]:
    hosts = {"broker": "127.0.0.1", "alpha": "127.0.0.2", "beta": "127.0.0.3", "gamma": "127.0.0.4"}
    addresses = Addresses(**{name: PublicAddress(name, host) for name, host in hosts.items()})
    yield addresses
    for address in addresses.all:
        address.socket.close()


@pytest.fixture(scope="session")
def front(folder: Path, authority: ThrowAwayAuthority, addresses: Addresses) -> Iterator[Front]:
    front = Front(folder, authority, addresses.all)
    yield front
    front.stop()


@pytest.fixture(scope="session")
def alpha_site(folder: Path, addresses: Addresses, authority: ThrowAwayAuthority, front: Front) -> Iterator[Website]:
    """Where alice has her account."""
    site = Website("alpha", folder / "alpha", addresses.alpha.host, authority.file)
    site.add(ALICE)
    addresses.alpha.behind["/"] = site.address
    front.start()
    yield site
    site.stop()


@pytest.fixture(scope="session")
def beta_site(folder: Path, addresses: Addresses, authority: ThrowAwayAuthority, front: Front) -> Iterator[Website]:
    """Where nobody has an account, and no login provider is configured."""
    site = Website("beta", folder / "beta", addresses.beta.host, authority.file)
    addresses.beta.behind["/"] = site.address
    front.start()
    yield site
    site.stop()


@pytest.fixture(scope="session")
def broker(folder: Path, addresses: Addresses, front: Front) -> Iterator[Broker]:
    """`init` and `serve`."""
    broker = Broker(folder / "broker", addresses.broker)
    front.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def alpha_agent(
    folder: Path, addresses: Addresses, front: Front, broker: Broker, alpha_site: Website
) -> Iterator[Agent]:
    """A home by `session`: whoever is signed in at alpha is recognised."""
    agent = Agent(folder / "alpha" / "agent", addresses.alpha, alpha_site)
    agent.enrols(_join_token(broker, "alpha"), methods=["session"])
    agent.runs()
    front.start()
    yield agent
    agent.stop()


@pytest.fixture(scope="session")
def beta_agent(folder: Path, addresses: Addresses, front: Front, broker: Broker, beta_site: Website) -> Iterator[Agent]:
    """A relying party. Nobody but this agent sets anything up at beta."""
    agent = Agent(folder / "beta" / "agent", addresses.beta, beta_site)
    agent.enrols(_join_token(broker, "beta"), relying_party=True)
    agent.runs()
    front.start()
    yield agent
    agent.stop()


@pytest.fixture(scope="session")
def gamma_agent(folder: Path, addresses: Addresses, broker: Broker, alpha_site: Website) -> Agent:
    """A home that enrolled and was never seen again: people can see it, and cannot go there."""
    agent = Agent(folder / "gamma" / "agent", addresses.gamma, alpha_site)
    agent.enrols(_join_token(broker, "gamma"), methods=["session"])
    return agent


@pytest.fixture(scope="session")
def federation(broker: Broker, alpha_agent: Agent, beta_agent: Agent, gamma_agent: Agent) -> Broker:
    """Beta accepts users of alpha and gamma, and believes alpha about addresses in alpha.example."""
    broker.says("trust", "allow", "--relying-party", "beta", "--home", "alpha", "--email-domain", "alpha.example")
    broker.says("trust", "allow", "--relying-party", "beta", "--home", "gamma")
    broker.awaits_acknowledgement("alpha")
    broker.awaits_acknowledgement("beta")
    return broker


@pytest.fixture(scope="module")
def alpha_by_password(federation: Broker, alpha_agent: Agent) -> Agent:
    """From here on alpha is a home by `password`: its agent asks, and checks with the website."""
    alpha_agent.stop()
    alpha_agent.is_configured(methods=["password"])
    alpha_agent.runs()
    return alpha_agent


@pytest.fixture(scope="session")
def chromium(authority: ThrowAwayAuthority) -> Iterator[Browser]:
    """Debian's Chromium, with a profile of its own that trusts the throw-away CA."""
    flags = [*CHROMIUM_FLAGS, f"--ignore-certificate-errors-spki-list={authority.pin}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        yield browser
        browser.close()


@pytest.fixture
def visitor(request: pytest.FixtureRequest, chromium: Browser, addresses: Addresses) -> Iterator[Visitor]:
    """A person with a fresh profile. A test that is marked `without_javascript` gets one whose browser runs none."""
    javascript = request.node.get_closest_marker("without_javascript") is None
    context = chromium.new_context(viewport=DESKTOP, locale="en-GB", java_script_enabled=javascript)
    known = {address.url for address in addresses.all}
    homeward = (
        addresses.broker.url,
        f"{addresses.alpha.url}/homeward/",
        f"{addresses.beta.url}/homeward/",
    )
    visitor = Visitor(request.node.name.removeprefix("test_"), context, known, homeward)
    yield visitor
    context.close()
    assert not visitor.complaints, "\n".join(visitor.complaints)


def _join_token(broker: Broker, instance: str) -> str:
    return broker.shows("token", "create", "--instance", instance)["text"]
