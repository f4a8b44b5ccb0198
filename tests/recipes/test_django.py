"""Django sites that log people in by OpenID Connect (D1), and sites that are a home by their own provider (D2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from certificates import ThrowAwayAuthority
from databases import MariaDb, PostgreSql, Sqlite
from federation import ALICE, Member, accepts, chooses, eventually, joins, shown, signs_in, signs_in_at_home, who
from front import Front
from homeward import Agent, Broker
from person import Person
from visitor import Visitor

# Which site, by which recipe, and what the file is called that its agent writes.
CLIENTS = {
    "social": ("django-social-auth", "homeward_social_auth.json"),
    "mozilla": ("mozilla-django-oidc", "homeward_oidc.env"),
}
WAYS = {"social": {}, "mozilla": {"way": "environment"}}


@pytest.fixture(scope="module", params=list(CLIENTS))
def client_site(
    request: pytest.FixtureRequest, folder: Path, front: Front, authority: ThrowAwayAuthority, broker: Broker, alpha: Agent
) -> Iterator[Member]:
    """A site with an agent that has written a fragment of its settings."""
    kind = request.param
    site = Member(kind, front.address(kind), folder, authority.file)
    site.runs()
    recipe, _ = CLIENTS[kind]
    relying_party = site.written_files | WAYS[kind]
    agent = joins(broker, front, site.public, folder, {"recipe": recipe, "app": site.app, "relying_party": relying_party})
    accepts(broker, kind, "alpha", "--email-domain", "alpha.example")
    broker.awaits_acknowledgement(kind)
    yield site
    agent.stop()
    site.stop()


def test_d1_the_agent_wrote_a_fragment_of_the_settings(client_site: Member) -> None:
    name = client_site.public.name
    file = client_site.credentials_dir / "current" / CLIENTS[name][1]
    assert oct(file.stat().st_mode)[-3:] == "600"
    assert "client_id" not in file.read_text(), "every placeholder was filled in"


def test_d1_alice_signs_in_with_pkce_and_nonce(client_site: Member, visitor: Visitor) -> None:
    visitor.opens(f"{client_site.public.url}/", title="Welcome")
    with visitor.page.expect_request(lambda request: "/authorize?" in request.url) as asked:
        visitor.clicks("Sign in with Homeward")
    asked_for = parse_qs(urlsplit(asked.value.url).query)
    assert asked_for["code_challenge_method"] == ["S256"]
    assert asked_for["nonce"] and asked_for["state"]
    chooses(visitor, "Alpha")
    signs_in_at_home(visitor, ALICE)
    visitor.sees("Welcome")
    visitor.reads("#email", ALICE.email)
    visitor.reads("#name", f"{ALICE.first_name} {ALICE.last_name}" if client_site.public.name == "social" else "")
    visitor.reads("#staff", "no staff")


def test_d1_alice_comes_back_to_the_same_account_after_the_key_turned(
    client_site: Member, broker: Broker, alice: Person
) -> None:
    before = client_site.rows("SELECT id, username FROM auth_user")
    turns_key(broker)
    page = signs_in(alice, client_site)
    assert shown(page, "email") == ALICE.email
    assert client_site.rows("SELECT id, username FROM auth_user") == before


def test_d1_the_secret_turns_and_nobody_notices(client_site: Member, broker: Broker, alice: Person) -> None:
    name = client_site.public.name
    file = client_site.credentials_dir / "current" / CLIENTS[name][1]
    before = file.read_text()
    broker.says("secret", "rotate", "--instance", name)
    eventually("the old secret is gone", lambda: rotation_of(broker, name) == "done", 60)
    assert file.read_text() != before
    assert shown(signs_in(alice, client_site), "email") == ALICE.email


def test_d1_whoever_logs_out_everywhere_is_out_here(client_site: Member, broker: Broker, alice: Person) -> None:
    page = signs_in(alice, client_site)
    signs_out_everywhere(alice, broker)
    assert who(page) != "nobody"
    eventually("the site's session has ended", lambda: who(alice.opens(f"{client_site.public.url}/")) == "nobody")


# django-allauth: its settings, and rows of whichever database the site has.


@pytest.fixture(scope="module", params=[Sqlite, PostgreSql, MariaDb])
def allauth_rows(
    request: pytest.FixtureRequest, folder: Path, front: Front, authority: ThrowAwayAuthority, broker: Broker, alpha: Agent
) -> Iterator[Member]:
    """A site whose agent writes a row of its database, and restarts nothing."""
    database = request.param(folder)
    public = front.address(f"rows-{database.name}")
    site = Member("allauth", public, folder, authority.file, SITE_DATABASE_URL=database.url)
    site.runs()
    settings = {"recipe": "django-allauth", "app": site.app, "relying_party": {"way": "database"}}
    agent = joins(broker, front, public, folder, settings)
    accepts(broker, public.name, "alpha", "--email-domain", "alpha.example")
    broker.awaits_acknowledgement(public.name)
    yield site
    agent.stop()
    site.stop()
    database.stop()


def test_d1_allauth_finds_its_provider_in_a_row(allauth_rows: Member, alice: Person) -> None:
    page = signs_in(alice, allauth_rows)
    assert shown(page, "email") == ALICE.email
    assert who(page) == "alice@alpha"
    assert page.url == f"{allauth_rows.public.url}/parts/", "back where alice wanted to go"


def test_d1_allauth_gets_a_new_secret_in_the_same_row(allauth_rows: Member, broker: Broker, alice: Person) -> None:
    broker.says("secret", "rotate", "--instance", allauth_rows.public.name)
    eventually("the old secret is gone", lambda: rotation_of(broker, allauth_rows.public.name) == "done", 60)
    assert who(signs_in(alice, allauth_rows)) == "alice@alpha"


# Homes by their own provider.

PROVIDERS = {
    "oauth_toolkit": ("toolkit", "django-oauth-toolkit"),
    "oidc_provider": ("provider", "django-oidc-provider"),
    "allauth_idp": ("identity", "allauth-idp"),
}


@pytest.fixture(scope="module", params=list(PROVIDERS))
def provider_site(
    request: pytest.FixtureRequest, folder: Path, front: Front, authority: ThrowAwayAuthority, broker: Broker, desk: Member
) -> Iterator[Member]:
    """A site that is an OpenID provider, at which its agent has made itself a client."""
    kind = request.param
    name, recipe = PROVIDERS[kind]
    site = Member(kind, front.address(name), folder, authority.file)
    # An address of her own at each: desk lets no two accounts have the same.
    site.add(replace(ALICE, email=f"alice@{name}.example"), groups=("engineers",))
    if kind == "oidc_provider":
        site.runs_command("creatersakey")
    site.runs()
    home = {"methods": ["oidc"], "oidc": {"ca_file": str(authority.file)}}
    agent = joins(broker, front, site.public, folder, {"recipe": recipe, "app": site.app, "home": home})
    accepts(broker, "desk", name, "--email-domain", f"{name}.example")
    broker.awaits_acknowledgement("desk")
    yield site
    agent.stop()
    site.stop()


def test_d2_alice_signs_in_with_the_account_of_a_provider(provider_site: Member, desk: Member, visitor: Visitor) -> None:
    home = provider_site.public.name
    visitor.opens(f"{desk.public.url}/", title="Welcome")
    visitor.clicks("Sign in with Homeward")
    chooses(visitor, home.capitalize())
    signs_in_at_home(visitor, ALICE)
    visitor.sees("Parts")
    visitor.reads("#who", f"alice@{home}")
    visitor.reads("#email", f"alice@{home}.example")


def test_d2_signed_in_there_is_signed_in_here(
    provider_site: Member, desk: Member, authority: ThrowAwayAuthority
) -> None:
    """And the second login makes no second client there."""
    alice = Person(authority.file, ALICE, home=provider_site.public.name.capitalize())
    alice.answers(alice.opens(f"{provider_site.public.url}/accounts/login/"))
    assert alice.passwords == 1
    page = signs_in(alice, desk)
    assert alice.passwords == 1, "nobody asked again"
    assert who(page) == f"alice@{provider_site.public.name}"


def test_d2_an_account_that_was_disabled_there_logs_in_nowhere(
    provider_site: Member, desk: Member, authority: ThrowAwayAuthority
) -> None:
    provider_site.runs_python("from django.contrib.auth.models import User; User.objects.update(is_active=False)")
    alice = Person(authority.file, ALICE, home=provider_site.public.name.capitalize())
    page = alice.opens(f"{desk.public.url}/accounts/oidc/homeward/login/?next=/parts/")
    for _ in range(3):
        if alice.passwords:
            break
        page = alice.answers(page)
    assert alice.passwords == 1
    assert 'id="who"' not in page.text, "the provider's own login page says no"
    assert page.url.startswith(provider_site.public.url)


def signs_out_everywhere(person: Person, broker: Broker) -> None:
    """At the broker's own account page."""
    person.opens(f"{broker.public.url}/account")
    person.presses("Sign out everywhere")


def turns_key(broker: Broker) -> None:
    """The signing key turns as soon as everybody who verifies with it has the new one."""
    before = signing_key(broker)
    broker.says("keys", "rotate", "--algorithm", "RS256")
    eventually("the new key signs", lambda: signing_key(broker) != before)


def signing_key(broker: Broker) -> str:
    keys = broker.shows("keys", "list")
    return next(key["key_id"] for key in keys if (key["algorithm"], key["state"]) == ("RS256", "active"))


def rotation_of(broker: Broker, instance: str) -> str:
    rotations = broker.shows("rotation", "status", f"secret/{instance}")
    return rotations[0]["phase"] if rotations else ""
