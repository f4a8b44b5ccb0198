"""The smallest home there is: a file of users, written by the agent's own command."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import ThrowAwayAuthority
from federation import Member, accepts, chooses, eventually, gives_password, is_let_through, joins, who
from front import Front
from homeward import Agent, Broker
from person import Page, Person
from processes import artefacts
from visitor import Visitor
from website import Account

GRETA = Account("greta", "gladly given gravel", "greta@garage.example", "Greta", "Gray")
HUGO = Account("hugo", "hundreds of hats", "hugo@garage.example", "Hugo", "Hall")


@pytest.fixture(scope="module")
def garage(folder: Path, front: Front, broker: Broker, desk: Member) -> Iterator[Agent]:
    """A home with no application behind it."""
    public = front.address("garage")
    users_file = folder / "garage-users.toml"
    settings = {
        "recipe": "generic-oidc",
        "app": {"url": "http://127.0.0.1:9"},
        "home": {"methods": ["file"], "watch_every": 1, "file": {"users_file": str(users_file)}},
    }
    agent = joins(broker, front, public, folder, settings)
    for account in (GRETA, HUGO):
        adds(agent, account)
    accepts(broker, "desk", "garage", "--email-domain", "garage.example")
    broker.awaits_acknowledgement("desk")
    yield agent
    agent.stop()


def adds(agent: Agent, account: Account) -> None:
    """The password goes in by standard input, never by argv."""
    name = f"{account.first_name} {account.last_name}"
    agent.says("user", "add", account.username, "--email", account.email, "--name", name, stdin=f"{account.password}\n")


def test_the_file_is_private_and_has_no_password_in_it(garage: Agent, folder: Path) -> None:
    file = folder / "garage-users.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    assert text.count("$argon2id$") == 2
    for account in (GRETA, HUGO):
        assert account.password not in text
        assert account.password not in (artefacts() / "garage-agent.log").read_text()
    assert "greta" in garage.says("user", "list")


def test_greta_signs_in(garage: Agent, desk: Member, visitor: Visitor) -> None:
    visitor.opens(f"{desk.public.url}/", title="Welcome")
    visitor.clicks("Sign in with Homeward")
    chooses(visitor, "Garage")
    gives_password(visitor, GRETA, "Garage")
    visitor.sees("Parts")
    visitor.reads("#who", "greta@garage")
    visitor.reads("#email", GRETA.email)


def test_a_wrong_password_is_refused(garage: Agent, desk: Member, authority: ThrowAwayAuthority) -> None:
    for account in (Account("greta", "guessed", "", "", ""), Account("nobody-here", GRETA.password, "", "", "")):
        page = tries(account, desk, authority)
        assert page.url.startswith(garage.public.url) and 'id="who"' not in page.text


def test_the_doctor_rehearses_a_login_at_desk_with_greta(garage: Agent, desk: Member, folder: Path) -> None:
    """A whole login at a real site, through nginx and over TLS, and out again; and one with a wrong password."""
    password = folder / "canary"
    password.write_text(f"{GRETA.password}\n")
    password.chmod(0o600)
    canary = ("--canary", "greta", "--password-file", str(password), "--home", "garage")
    _, found = desk.agent.tells("doctor", *canary)
    assert GRETA.password not in json.dumps(found)
    steps = [finding for finding in found["findings"] if finding["about"].startswith("rehearsal")]
    assert all(step["verdict"] == "ok" for step in steps), steps
    said = {step["about"].removeprefix("rehearsal: "): step["sentence"] for step in steps}
    assert "as greta@garage" in said["account"] and "signed out again" in said["end"], steps
    password.write_text("wrong\n")
    code, found = desk.agent.tells("doctor", *canary)
    (wrong,) = [finding for finding in found["findings"] if finding["about"] == "rehearsal: password"]
    assert code == 1 and "password is wrong" in wrong["sentence"] and wrong["remedy"], wrong


def test_who_is_disabled_is_out_everywhere_and_comes_back_nowhere(
    garage: Agent, desk: Member, authority: ThrowAwayAuthority
) -> None:
    hugo = signs_in(HUGO, desk, authority)
    greta = signs_in(GRETA, desk, authority)
    garage.says("user", "disable", "hugo")
    eventually("hugo is out", lambda: who(hugo.opens(f"{desk.public.url}/")) == "nobody")
    assert who(greta.opens(f"{desk.public.url}/")) == "greta@garage"
    assert 'id="who"' not in tries(HUGO, desk, authority).text


def test_g8_the_chooser_puts_the_home_of_last_time_first(
    garage: Agent, desk: Member, broker: Broker, authority: ThrowAwayAuthority
) -> None:
    person = Person(authority.file, GRETA, home="Garage")
    start = f"{desk.public.url}/accounts/oidc/homeward/login/?next=/parts/"
    page = person.opens(start)
    assert page.text.index('value="alpha"') < page.text.index('value="garage"') and "Used last time" not in page.text
    is_let_through(person, page)
    person.opens(f"{broker.public.url}/account")
    person.presses("Sign out everywhere")
    page = person.opens(start)
    assert page.text.index('value="garage"') < page.text.index("Used last time") < page.text.index('value="alpha"')


def signs_in(account: Account, desk: Member, authority: ThrowAwayAuthority) -> Person:
    person = Person(authority.file, account, home="Garage")
    is_let_through(person, person.opens(f"{desk.public.url}/accounts/oidc/homeward/login/?next=/parts/"))
    return person


def tries(account: Account, desk: Member, authority: ThrowAwayAuthority) -> Page:
    """Until a password has been given once."""
    person = Person(authority.file, account, home="Garage")
    page = person.opens(f"{desk.public.url}/accounts/oidc/homeward/login/?next=/parts/")
    for _ in range(4):
        if person.passwords:
            break
        page = person.answers(page)
    return page
