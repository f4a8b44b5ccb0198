"""A directory as home: Debian's slapd, StartTLS, bind and search, groups, and what happens to who leaves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import ThrowAwayAuthority
from directory_server import AGENT, AGENT_PASSWORD, BASE, DirectoryServer
from federation import Member, accepts, chooses, eventually, gives_password, is_let_through, joins, shown, who
from front import Front
from homeward import Agent, Broker
from person import Page, Person
from processes import artefacts
from visitor import Visitor
from website import Account

DORA = Account("dora", "a dozen donkeys", "dora@directory.example", "Dora", "Dorn")
EMIL = Account("emil", "eleven elephants", "emil@directory.example", "Emil", "Ernst")
FAYE = Account("faye", "fifteen foxes", "faye@directory.example", "Faye", "Frost")
# Years after the other one left, with the address that she had.
NEW_FAYE = Account("faye", "fourteen ferrets", "faye@directory.example", "Faye", "Field")
GINO = Account("gino", "ten geese", "gino@directory.example", "Gino", "Greco")
ENGINEERS = (DORA, EMIL, GINO)
# LDAP's own letters: a name that would be another filter or another entry if it were pasted in.
ODDS = ["*", "dora)(uid=*", "dora,ou=people", "dora\\2a", "", "uid=dora"]
WATCH_EVERY_S = 1


@pytest.fixture(scope="module")
def directory(folder: Path, authority: ThrowAwayAuthority) -> Iterator[DirectoryServer]:
    server = DirectoryServer(folder, authority)
    for account in (DORA, EMIL, FAYE, GINO):
        server.add(account)
    server.add_group("engineers", *ENGINEERS)
    server.add_group("gossips", DORA)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def school(
    folder: Path, front: Front, authority: ThrowAwayAuthority, broker: Broker, desk: Member, directory: DirectoryServer
) -> Iterator[Agent]:
    """The agent of a home that is nothing but a directory: it finds people by search, and may look who is still there."""
    password_file = folder / "bind.password"
    password_file.touch(0o600)
    password_file.write_text(f"{AGENT_PASSWORD}\n")
    search = {"base": f"ou=people,{BASE}", "filter": "(uid={username})"}
    reader = {"bind_dn": AGENT, "bind_password_file": str(password_file)}
    ldap = connection(directory, authority) | {"search": search | reader, "disabled_when": "(employeeType=disabled)"}
    agent = joins(broker, front, front.address("school"), folder, directory_home(ldap))
    accepts(broker, "desk", "school", "--email-domain", "directory.example", "--group", "engineers=Engineering")
    broker.awaits_acknowledgement("desk")
    yield agent
    agent.stop()


@pytest.fixture(scope="module")
def academy(
    folder: Path, front: Front, authority: ThrowAwayAuthority, broker: Broker, desk: Member, directory: DirectoryServer
) -> Iterator[Agent]:
    """One that knows where people's entries are, and is nobody there itself."""
    ldap = connection(directory, authority) | {"user_dn": f"uid={{username}},ou=people,{BASE}"}
    agent = joins(broker, front, front.address("academy"), folder, directory_home(ldap))
    accepts(broker, "desk", "academy", "--email-domain", "directory.example", "--group", "engineers=Engineering")
    broker.awaits_acknowledgement("desk")
    yield agent
    agent.stop()


def directory_home(ldap: dict[str, Any]) -> dict[str, Any]:
    """Five lines of agent.toml; there is no application."""
    home = {"methods": ["ldap"], "watch_every": WATCH_EVERY_S, "ldap": ldap}
    return {"recipe": "generic-oidc", "app": {"url": "http://127.0.0.1:9"}, "home": home}


def connection(directory: DirectoryServer, authority: ThrowAwayAuthority) -> dict[str, Any]:
    groups = {"base": f"ou=groups,{BASE}", "filter": "(member={dn})"}
    security = {"starttls": True, "ca_file": str(authority.file), "email_verified": True}
    return {"url": directory.url, "groups": groups} | security


def test_dora_signs_in_with_her_password_of_the_directory(school: Agent, desk: Member, visitor: Visitor) -> None:
    visitor.opens(f"{desk.public.url}/", title="Welcome")
    visitor.clicks("Sign in with Homeward")
    chooses(visitor, "School")
    gives_password(visitor, DORA, "School")
    visitor.sees("Parts")
    visitor.reads("#who", "dora@school")
    visitor.reads("#name", "Dora Dorn")
    visitor.reads("#email", DORA.email)


def test_only_mapped_groups_arrive(school: Agent, desk: Member, authority: ThrowAwayAuthority) -> None:
    signs_in(DORA, school, desk, authority)
    told = told_of("dora@school", desk)
    assert "Engineering" in told and "gossips" not in told


def test_a_wrong_password_is_refused(school: Agent, desk: Member, authority: ThrowAwayAuthority) -> None:
    page = tries(Account("dora", "not hers", "", "", ""), school, desk, authority)
    assert "wrong" in page.text.lower() or "not right" in page.text.lower(), page.text
    assert page.url.startswith(school.public.url)


def test_no_password_is_no_anonymous_bind(school: Agent, desk: Member, authority: ThrowAwayAuthority) -> None:
    """RFC 4513 5.1.2: a name with an empty password binds, as nobody. It must never count as somebody's login."""
    page = tries(Account("dora", "", "", "", ""), school, desk, authority)
    assert page.url.startswith(school.public.url) and 'id="who"' not in page.text


@pytest.mark.parametrize("name", ODDS)
def test_names_are_names_and_no_filters(
    school: Agent, academy: Agent, desk: Member, authority: ThrowAwayAuthority, name: str
) -> None:
    for home in (school, academy):
        page = tries(Account(name, DORA.password, "", "", ""), home, desk, authority)
        assert page.url.startswith(home.public.url) and 'id="who"' not in page.text


def test_gino_signs_in_where_nobody_searches(academy: Agent, desk: Member, authority: ThrowAwayAuthority) -> None:
    gino = signs_in(GINO, academy, desk, authority)
    page = gino.opens(f"{desk.public.url}/parts/")
    assert (who(page), shown(page, "email")) == ("gino@academy", GINO.email)
    assert "Engineering" in told_of("gino@academy", desk)


def test_the_log_of_the_home_names_a_login_as_that_of_the_broker_does(
    academy: Agent, desk: Member, authority: ThrowAwayAuthority
) -> None:
    """G6, where the agent asks for the password."""
    signs_in(GINO, academy, desk, authority)
    (*_, tried) = (line for line in (artefacts() / "academy-agent.log").read_text().splitlines() if "a password was tried" in line)
    transaction = re.search(r'transaction="?([\w-]+)', tried)[1]
    lines = [line for line in (artefacts() / "broker.log").read_text().splitlines() if transaction in line]
    assert any("next step of a login" in line for line in lines) and any("back from home" in line for line in lines)


def test_passwords_travel_encrypted_or_not_at_all(directory: DirectoryServer, school: Agent) -> None:
    """The server refuses simple binds in clear: that logins work is one half, the other is that the agent says nothing."""
    assert DORA.password not in (artefacts() / f"{school.public.name}-agent.log").read_text()
    assert AGENT_PASSWORD not in (artefacts() / f"{school.public.name}-agent.log").read_text()


def test_a_group_that_is_gone_at_home_is_gone_with_the_next_login(
    school: Agent, desk: Member, directory: DirectoryServer, authority: ThrowAwayAuthority
) -> None:
    signs_in(DORA, school, desk, authority)
    directory.remove_group("engineers")
    try:
        signs_in(DORA, school, desk, authority)
        assert "Engineering" not in told_of("dora@school", desk)
    finally:
        directory.add_group("engineers", *ENGINEERS)


def test_who_is_disabled_or_removed_in_the_directory_is_out_everywhere(
    school: Agent, desk: Member, directory: DirectoryServer, authority: ThrowAwayAuthority
) -> None:
    """Within the heartbeat of the agent's watch; others stay in."""
    dora = signs_in(DORA, school, desk, authority)
    faye = signs_in(FAYE, school, desk, authority)
    directory.remove(FAYE)
    eventually("faye is out", lambda: who(faye.opens(f"{desk.public.url}/")) == "nobody")
    assert 'id="who"' not in tries(FAYE, school, desk, authority).text
    emil = signs_in(EMIL, school, desk, authority)
    directory.disable(EMIL)
    eventually("emil is out", lambda: who(emil.opens(f"{desk.public.url}/")) == "nobody")
    assert 'id="who"' not in tries(EMIL, school, desk, authority).text
    assert who(dora.opens(f"{desk.public.url}/")) == "dora@school", "nobody else is"


def test_a_name_that_is_given_to_somebody_else_is_somebody_else(
    school: Agent, desk: Member, directory: DirectoryServer, authority: ThrowAwayAuthority
) -> None:
    """Another faye, years later: she must not find the account of the one who left."""
    directory.add(NEW_FAYE)
    # The address is hers by now, and desk has an account with it: it asks her for another, and lets her into none.
    faye = Person(authority.file, NEW_FAYE, home="School")
    page = tries(NEW_FAYE, school, desk, authority, faye)
    assert page.url.startswith(f"{desk.public.url}/accounts/3rdparty/signup/"), str(page)
    assert who(faye.opens(f"{desk.public.url}/")) == "nobody"
    directory.says_address(NEW_FAYE, "faye.field@directory.example")
    faye = signs_in(NEW_FAYE, school, desk, authority)
    page = faye.opens(f"{desk.public.url}/parts/")
    assert shown(page, "email") == "faye.field@directory.example" and who(page) != "faye@school"
    accounts = desk.rows("SELECT username FROM auth_user WHERE username LIKE 'faye%'")
    assert len(accounts) == 2, accounts


def signs_in(account: Account, school: Agent, desk: Member, authority: ThrowAwayAuthority) -> Person:
    person = Person(authority.file, account, home=school.public.name.capitalize())
    is_let_through(person, person.opens(start(desk)))
    return person


def tries(
    account: Account, school: Agent, desk: Member, authority: ThrowAwayAuthority, person: Person | None = None
) -> Page:
    """Until a password has been given once."""
    person = person or Person(authority.file, account, home=school.public.name.capitalize())
    page = person.opens(start(desk))
    for _ in range(4):
        if person.passwords:
            break
        page = person.answers(page)
    return page


def told_of(username: str, desk: Member) -> str:
    """What allauth keeps of what it was told of an account."""
    (data,) = desk.rows(
        "SELECT a.extra_data FROM socialaccount_socialaccount a JOIN auth_user u ON u.id = a.user_id"
        f" WHERE u.username = '{username}'"
    )
    return str(data[0])


def start(desk: Member) -> str:
    return f"{desk.public.url}/accounts/oidc/homeward/login/?next=/parts/"
