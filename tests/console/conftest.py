"""A federation for the web console: a broker, a home whose users are in a file, a relying party whose agent comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from front import Front
from homeward import Agent, Broker
from ops import Ops

pytest_plugins = ["foundation"]

PASSWORD = "gladly given gravel"


@pytest.fixture(scope="session")
def garage(folder: Path, front: Front, broker: Broker) -> Iterator[Agent]:
    """Home of greta, who is an admin, and of hugo, who is not."""
    public = front.address("garage")
    agent = Agent(folder / "garage", public, front.ca_file)
    users_file = str(folder / "garage-users.toml")
    settings = {"recipe": "generic-oidc", "app": {"url": "http://127.0.0.1:9"}}
    home = {"methods": ["file"], "file": {"users_file": users_file}}
    agent.enrols(broker.join_token("garage"), **settings, home=home)
    for name, group in (("greta", "admins"), ("hugo", "people")):
        agent.says("user", "add", name, "--email", f"{name}@garage.example", "--group", group, stdin=f"{PASSWORD}\n")
    agent.runs()
    front.start()
    broker.awaits_acknowledgement("garage")
    yield agent
    agent.stop()


@pytest.fixture(scope="session")
def workshop(folder: Path, front: Front, broker: Broker) -> Iterator[Agent]:
    """A relying party whose application does not answer: what turns has to wait for it."""
    public = front.address("workshop")
    agent = Agent(folder / "workshop", public, front.ca_file)
    party = {"credentials_dir": str(folder / "workshop-credentials")}
    agent.enrols(
        broker.join_token("workshop"),
        recipe="generic-oidc",
        app={"url": "http://127.0.0.1:9"},
        relying_party=party,
    )
    agent.runs()
    front.start()
    yield agent
    agent.stop()


@pytest.fixture
def ops(request: pytest.FixtureRequest, chromium: Browser, broker: Broker, front: Front) -> Iterator[Ops]:
    """Somebody with a fresh browser profile and a shell on the broker's machine. In the console still nobody."""
    ops = Ops(request.node.name.removeprefix("test_"), chromium, broker, front)
    yield ops
    ops.leaves()
    assert not ops.complaints, "\n".join(ops.complaints)
