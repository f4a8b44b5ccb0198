"""A user who has accounts at two homes links them on the account page, and takes it back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from conftest import PASSWORD, home, relying_party
from front import Front
from homeward import Agent, Broker
from ops import Ops


@pytest.fixture(scope="module")
def pantry(folder: Path, front: Front, broker: Broker) -> Iterator[Agent]:
    """Another home, where greta is called gerda; there she has another name."""
    with home("pantry", {"gerda": None}, folder, front, broker) as agent:
        yield agent


@pytest.fixture(scope="module")
def library(folder: Path, front: Front, broker: Broker) -> Iterator[Agent]:
    """Who accepts both."""
    with relying_party("library", folder, front, broker) as agent:
        yield agent


@pytest.fixture
def greta(ops: Ops) -> Ops:
    """Whose browser it is here."""
    return ops


def signs_in(user: Ops, name: str) -> None:
    user.page.get_by_label("User name").fill(name)
    user.page.get_by_label("Password").first.fill(PASSWORD)
    user.page.get_by_role("button", name="Log in").click()


def test_two_homes_are_linked_and_unlinked(
    greta: Ops, broker: Broker, garage: Agent, pantry: Agent, library: Agent
) -> None:
    broker.says("trust", "allow", "--relying-party", "console", "--home", "garage", "--group", "admins=ops")
    broker.says("trust", "allow", "--relying-party", "library", "--home", "garage")
    greta.page.goto(f"{broker.public.url}/console/")
    greta.clicks("Sign in with your account at home")
    signs_in(greta, "greta")
    greta.reads("Needs attention")
    # As long as ops have not allowed it anywhere, nobody is asked to link anything.
    greta.opens("/account", "Your account")
    expect(greta.page.locator("main")).not_to_contain_text("Linked homes")
    broker.says("trust", "allow", "--relying-party", "library", "--home", "pantry", "--linked")
    greta.opens("/account", "Your account")
    greta.reads("You sign in at both to link them.")
    greta.page.get_by_role("button", name="Link Pantry").click()
    signs_in(greta, "greta")
    greta.sees("Link two homes")
    greta.reads("Now sign in at Pantry")
    greta.clicks("Go to Pantry")
    signs_in(greta, "gerda")
    greta.sees("Link two homes")
    greta.reads("for greta from Garage")
    greta.reads("Library")
    greta.clicks("Both are mine: link them")
    greta.sees("Your account")
    greta.reads("gerda from Pantry is taken for greta from Garage")
    (link,) = broker.shows("link", "list")
    assert (link["primary"], link["alias"]) == ("greta@garage", "gerda@pantry")
    # A link that a home could have forged while it was cut off stays void.
    broker.says("instance", "quarantine", "pantry", "--reason", "a test")
    assert broker.shows("link", "list")[0]["void_reason"]
    broker.says("instance", "release", "pantry")
    greta.opens("/account", "Your account")
    assert broker.shows("link", "list")[0]["void_reason"]
    greta.clicks("Unlink: Pantry")
    greta.reads("You sign in at both to link them.")
    assert broker.shows("link", "list") == []
