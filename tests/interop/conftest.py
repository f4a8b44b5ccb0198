"""The story before the tests: a CA, three addresses behind nginx, two websites, a broker, the agents, two trust edges.

Each fixture is a chapter; a test asks for the last one it needs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from certificates import ThrowAwayAuthority
from clientside import ClientSide
from front import Front, PublicAddress
from homeward import Agent, Broker, WebsiteAgent
from node import Node
from person import Person
from strangers import Strangers
from visitor import DESKTOP, Visitor
from website import Account, Website

pytest_plugins = ["foundation"]

SITES = Path(__file__).parent / "sites"

ALICE = Account("alice", "correct horse battery", "alice@alpha.example", "Alice", "Archer")
BOB = Account("bob", "staple in the mail", "bob@alpha.example", "Bob", "Baker")


@dataclass
class Addresses:
    """Loopback has many hosts: no names to resolve, and cookies apart as on the web."""

    broker: PublicAddress
    alpha: PublicAddress
    beta: PublicAddress
    gamma: PublicAddress
    delta: PublicAddress
    clients: PublicAddress
    mozilla: PublicAddress
    social: PublicAddress
    authlib: PublicAddress
    apache: PublicAddress

    @property
    def all(self) -> list[PublicAddress]:
        return [getattr(self, address.name) for address in fields(self)]


@pytest.fixture(scope="session")
def addresses() -> Iterator[Addresses]:
    names = [address.name for address in fields(Addresses)]
    addresses = Addresses(*(PublicAddress(name, f"127.0.0.{number}") for number, name in enumerate(names, start=1)))
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
    """Where alice has her account, and bob his."""
    site = Website("alpha", folder / "alpha", addresses.alpha.host, authority.file)
    site.add(ALICE)
    site.add(BOB)
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
def broker(folder: Path, authority: ThrowAwayAuthority, addresses: Addresses, front: Front) -> Iterator[Broker]:
    """`init` and `serve`. Relying parties are on loopback here, which a broker on the web would never ask anything."""
    broker = Broker(folder / "broker", addresses.broker, authority.file)
    front.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def alpha_agent(
    folder: Path, addresses: Addresses, front: Front, broker: Broker, alpha_site: Website
) -> Iterator[Agent]:
    """A home by `session`: whoever is signed in at alpha is recognised. A relying party too, with an API."""
    agent = WebsiteAgent(folder / "alpha" / "agent", addresses.alpha, alpha_site)
    agent.enrols(broker.join_token("alpha"), methods=["session"], relying_party=True)
    agent.runs()
    front.start()
    yield agent
    agent.stop()


@pytest.fixture(scope="session")
def beta_agent(folder: Path, addresses: Addresses, front: Front, broker: Broker, beta_site: Website) -> Iterator[Agent]:
    """A relying party. Nobody but this agent sets anything up at beta."""
    agent = WebsiteAgent(folder / "beta" / "agent", addresses.beta, beta_site)
    agent.enrols(broker.join_token("beta"), relying_party=True)
    agent.runs()
    front.start()
    yield agent
    agent.stop()


@pytest.fixture(scope="session")
def gamma_agent(folder: Path, addresses: Addresses, broker: Broker, alpha_site: Website) -> Agent:
    """A home that enrolled and was never seen again: people can see it, and cannot go there."""
    agent = WebsiteAgent(folder / "gamma" / "agent", addresses.gamma, alpha_site)
    agent.enrols(broker.join_token("gamma"), methods=["session"])
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
    alpha_agent.is_configured(methods=["password"], relying_party=True)
    alpha_agent.runs()
    return alpha_agent


@pytest.fixture(scope="session")
def alpha_by_session(broker: Broker, alpha_agent: Agent) -> Agent:
    """For the other clients: whoever is signed in at alpha is recognised, so that most logins ask for nothing."""
    alpha_agent.stop()
    alpha_agent.is_configured(methods=["session"], relying_party=True)
    alpha_agent.runs()
    broker.awaits_acknowledgement("alpha")
    return alpha_agent


@pytest.fixture(scope="session")
def client_side(addresses: Addresses, front: Front) -> Iterator[ClientSide]:
    """The web address of every client that lives in the test itself."""
    side = ClientSide()
    addresses.clients.behind["/"] = side.address
    front.start()
    yield side
    side.stop()


@pytest.fixture(scope="session")
def strangers(
    broker: Broker,
    authority: ThrowAwayAuthority,
    alpha_by_session: Agent,
    gamma_agent: Agent,
    client_side: ClientSide,
) -> Strangers:
    """A relying party without agent, whose clients register themselves. Ops answer for it: nobody is asked."""
    strangers = Strangers(broker, authority.file, "strangers", clients=300)
    strangers.may_log_in_from("alpha", "--email-domain", "alpha.example", "--api")
    strangers.may_log_in_from("gamma")
    return strangers


@pytest.fixture(scope="session")
def alices_home(authority: ThrowAwayAuthority) -> Person:
    """Alice's cookies at alpha. Alpha counts logins: one has to do for many tests."""
    return Person(authority.file, ALICE)


@pytest.fixture
def alice(authority: ThrowAwayAuthority, addresses: Addresses, alices_home: Person, alpha_by_session: Agent) -> Person:
    """Alice in a browser where she is signed in at alpha, and which has never seen the broker."""
    if 'id="who">alice<' not in alices_home.opens(f"{addresses.alpha.url}/").text:
        # A test before has logged her out.
        alices_home.answers(alices_home.opens(f"{addresses.alpha.url}/accounts/login/"))
    person = Person(authority.file, ALICE)
    person.http.cookies.update(alices_home.http.cookies)
    return person


@pytest.fixture(scope="session")
def node(strangers: Strangers, authority: ThrowAwayAuthority, addresses: Addresses, beta_agent: Agent) -> Node:
    settings = {
        "redirectUri": f"{addresses.clients.url}/callback",
        "alphaUrl": addresses.alpha.url,
        "betaUrl": addresses.beta.url,
    }
    return Node(strangers, authority.file, settings)


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


def client_environment(client: dict, broker: Broker, authority: ThrowAwayAuthority) -> dict[str, str]:
    """What the operator of a site without agent copies into its configuration."""
    return {
        "REQUESTS_CA_BUNDLE": str(authority.file),
        "SITE_ISSUER": broker.public.url,
        "SITE_CLIENT_ID": client["client_id"],
        "SITE_CLIENT_SECRET": client["client_secret"],
    }


def alpha_asks(visitor: Visitor, addresses: Addresses, account: Account = ALICE) -> None:
    """Alpha's own login page, on the way from somewhere else."""
    visitor.sees("Sign In")
    assert visitor.page.url.startswith(addresses.alpha.url), "alpha's own login page"
    visitor.fills_in({"Username": account.username, "Password": account.password})
    visitor.clicks("Sign In")
