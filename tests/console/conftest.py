"""A federation for the web console: a broker, a home whose users are in a file, a relying party whose agent comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from front import Front
from homeward import Agent, Broker
from ops import Ops

pytest_plugins = ["foundation"]

PASSWORD = "gladly given gravel"


# An application that does not answer.
RECIPE = {"recipe": "generic-oidc", "app": {"url": "http://127.0.0.1:9"}}


@contextmanager
def home(name: str, groups: dict[str, str | None], folder: Path, front: Front, broker: Broker) -> Iterator[Agent]:
    """A home whose users stand in a file, each with his group."""
    agent = Agent(folder / name, front.address(name), front.ca_file)
    users_file = str(folder / f"{name}-users.toml")
    agent.enrols(broker.join_token(name), **RECIPE, home={"methods": ["file"], "file": {"users_file": users_file}})
    for user, group in groups.items():
        in_group = ["--group", group] if group else []
        agent.says("user", "add", user, "--email", f"{user}@{name}.example", *in_group, stdin=f"{PASSWORD}\n")
    agent.runs()
    front.start()
    broker.awaits_acknowledgement(name)
    yield agent
    agent.stop()


@contextmanager
def relying_party(name: str, folder: Path, front: Front, broker: Broker) -> Iterator[Agent]:
    """A relying party; what turns has to wait for its application."""
    agent = Agent(folder / name, front.address(name), front.ca_file)
    party = {"credentials_dir": str(folder / f"{name}-credentials")}
    agent.enrols(broker.join_token(name), **RECIPE, relying_party=party)
    agent.runs()
    front.start()
    yield agent
    agent.stop()


@pytest.fixture(scope="session")
def garage(folder: Path, front: Front, broker: Broker) -> Iterator[Agent]:
    """Home of greta, who is an admin, and of hugo, who is not."""
    with home("garage", {"greta": "admins", "hugo": "people"}, folder, front, broker) as agent:
        yield agent


@pytest.fixture(scope="session")
def workshop(folder: Path, front: Front, broker: Broker) -> Iterator[Agent]:
    """Where they log in."""
    with relying_party("workshop", folder, front, broker) as agent:
        yield agent


@pytest.fixture
def ops(request: pytest.FixtureRequest, chromium: Browser, broker: Broker, front: Front) -> Iterator[Ops]:
    """Somebody with a fresh browser profile and a shell on the broker's machine. In the console still nobody."""
    ops = Ops(request.node.name.removeprefix("test_"), chromium, broker, front)
    yield ops
    ops.leaves()
    assert not ops.complaints, "\n".join(ops.complaints)
