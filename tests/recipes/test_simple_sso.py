"""django-simple-sso, unchanged: its clients log in through an agent that plays their server, its server is a home."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from certificates import ThrowAwayAuthority
from federation import (
    ALICE,
    Member,
    SimpleSsoMember,
    accepts,
    chooses,
    eventually,
    is_let_through,
    joins,
    shown,
    signs_in_at_home,
    who,
)
from front import Front, PublicAddress
from homeward import Agent, Broker
from person import Arrival, Page, Person
from processes import artefacts
from visitor import Visitor

# The wire format counts seconds from here (itsdangerous before 1.1).
EPOCH = 1293840000
CLIENTS = {
    "notes": ("notes-public-0123456789abcdefghijklmnop", "notes-private-0123456789abcdefghijklmno"),
    "wiki": ("wiki-public-0123456789abcdefghijklmnopq", "wiki-private-0123456789abcdefghijklmnop"),
}
_MOVE = """
from allauth.account.models import EmailAddress
from django.contrib.auth.models import User
for model in (EmailAddress, User):
    model.objects.filter(email="{}").update(email="{}")
"""


@dataclass
class Town:
    """Two clients of one server, which is no server but an agent."""

    server: PublicAddress
    agent: Agent
    notes: SimpleSsoMember
    wiki: SimpleSsoMember

    @property
    def url(self) -> str:
        return f"{self.server.url}/homeward/sso/"


@pytest.fixture(scope="module")
def town(folder: Path, front: Front, authority: ThrowAwayAuthority, broker: Broker, alpha: Agent) -> Iterator[Town]:
    server = front.address("legacy")
    sites, clients = {}, []
    for name, (public_key, private_key) in CLIENTS.items():
        keys = {"SITE_SSO_PUBLIC_KEY": public_key, "SITE_SSO_PRIVATE_KEY": private_key}
        address = front.address(name)
        where = {"SITE_SSO_SERVER": f"{server.url}/homeward/sso/"}
        site = sites[name] = SimpleSsoMember("sso_client", address, folder, authority.file, **where, **keys)
        site.runs()
        file = folder / f"{name}.key"
        file.touch(0o600)
        file.write_text(private_key)
        redirect = f"{address.url}/client/"
        clients.append({"public_key": public_key, "private_key_file": str(file), "redirect": redirect})
    settings = {
        "recipe": "django-simple-sso",
        "app": {"url": f"http://{sites['notes'].address}"},
        "relying_party": {},
        "gate": {"clients": clients, "ca_file": str(authority.file)},
    }
    agent = joins(broker, front, server, folder, settings)
    accepts(broker, "legacy", "alpha", "--email-domain", "alpha.example")
    broker.awaits_acknowledgement("legacy")
    yield Town(server, agent, **sites)
    agent.stop()
    for site in sites.values():
        site.stop()


def test_s1_alice_signs_in_at_an_unchanged_client(town: Town, visitor: Visitor) -> None:
    visitor.opens(f"{town.notes.public.url}/", title="Welcome")
    visitor.clicks("Sign in with Homeward")
    chooses(visitor, "Alpha")
    signs_in_at_home(visitor, ALICE)
    visitor.sees("Parts")
    assert visitor.page.url == f"{town.notes.public.url}/parts/", "next= is honoured"
    visitor.reads("#who", "alice@alpha")
    visitor.reads("#name", "Alice Archer")
    visitor.reads("#email", ALICE.email)
    visitor.reads("#staff", "no staff")


def test_s2_the_second_client_asks_for_no_second_password(town: Town, alice: Person) -> None:
    assert who(signs_in_at(town.notes, alice)) == "alice@alpha"
    assert alice.passwords == 1
    assert who(signs_in_at(town.wiki, alice)) == "alice@alpha"
    assert alice.passwords == 1


def test_s2_a_changed_profile_arrives_with_the_next_login(
    town: Town, alpha_site: Member, authority: ThrowAwayAuthority
) -> None:
    signs_in_at(town.notes, Person(authority.file, ALICE))
    alpha_site.runs_python(_MOVE.format("alice@alpha.example", "alice.archer@alpha.example"))
    try:
        page = signs_in_at(town.notes, Person(authority.file, ALICE))
        assert shown(page, "email") == "alice.archer@alpha.example"
    finally:
        alpha_site.runs_python(_MOVE.format("alice.archer@alpha.example", "alice@alpha.example"))


def test_s2_staff_is_never_granted(town: Town, alpha_site: Member, authority: ThrowAwayAuthority) -> None:
    """Not to an administrator of home, and who was made one by hand here loses it, as with the real server."""
    staff = "from django.contrib.auth.models import User; User.objects.update(is_staff={0}, is_superuser={0})"
    alpha_site.runs_python(staff.format(True))
    try:
        page = signs_in_at(town.wiki, Person(authority.file, ALICE))
        assert shown(page, "staff") == "no staff"
    finally:
        alpha_site.runs_python(staff.format(False))


def test_s3_an_unknown_key_is_refused(town: Town, authority: ThrowAwayAuthority) -> None:
    answer = asks(town, authority, "request-token/", {"redirect_to": f"{town.notes.public.url}/client/"}, key="nobody")
    assert answer.status_code == 400
    assert "key" in answer.text.lower()
    is_logged("key")


def test_s3_a_bad_signature_is_refused(town: Town, authority: ThrowAwayAuthority) -> None:
    body = {"redirect_to": f"{town.notes.public.url}/client/"}
    answer = asks(town, authority, "request-token/", body, private_key="somebody else's")
    assert answer.status_code == 400
    assert "signature" in answer.text.lower()
    is_logged("signature")


def test_s3_a_clock_that_is_off_by_more_than_five_seconds_is_refused(town: Town, authority: ThrowAwayAuthority) -> None:
    body = {"redirect_to": f"{town.notes.public.url}/client/"}
    for skew in (-20, 20):
        answer = asks(town, authority, "request-token/", body, skew=skew)
        assert answer.status_code == 400, f"off by {skew} s"
        assert "clock" in answer.text.lower() or "expired" in answer.text.lower(), answer.text
    assert asks(town, authority, "request-token/", body).status_code == 200
    is_logged("clock")


def test_s3_a_token_leads_nobody_to_an_address_that_is_not_the_clients(
    town: Town, authority: ThrowAwayAuthority
) -> None:
    answer = asks(town, authority, "request-token/", {"redirect_to": "https://thief.example/client/authenticate/"})
    assert answer.status_code == 400


def test_s3_an_unknown_request_token_is_refused_in_plain_words(town: Town, alice: Person) -> None:
    page = alice.opens(f"{town.url}authorize/?token=never-issued")
    assert page.status in (400, 403)
    assert "again" in page.text, "says what to do next"


def test_s3_an_access_token_is_good_once(town: Town, alice: Person, authority: ThrowAwayAuthority) -> None:
    access_token = an_access_token(town, alice, authority)
    first = asks(town, authority, "verify/", {"access_token": access_token})
    assert first.status_code == 200, first.text
    user = json.loads(first.text.rsplit(".", 2)[0])
    assert user["username"] == "alice@alpha"
    assert user["is_staff"] is False and user["is_superuser"] is False and user["is_active"] is True
    replayed = asks(town, authority, "verify/", {"access_token": access_token})
    assert replayed.status_code == 400
    assert "used" in replayed.text.lower(), replayed.text
    is_logged("used")


def test_s3_an_access_token_is_good_for_its_own_client_only(
    town: Town, alice: Person, authority: ThrowAwayAuthority
) -> None:
    access_token = an_access_token(town, alice, authority)
    assert asks(town, authority, "verify/", {"access_token": access_token}, client="wiki").status_code == 400


# A django-simple-sso server as home.

VETERAN_ALICE = replace(ALICE, email="alice@veteran.example")


@pytest.fixture(scope="module")
def old_server(
    folder: Path, front: Front, authority: ThrowAwayAuthority, broker: Broker, desk: Member
) -> Iterator[SimpleSsoMember]:
    """A site that is a simple-sso server; its agent is one of its consumers."""
    public = front.address("veteran")
    site = SimpleSsoMember("sso_server", public, folder, authority.file)
    site.add(VETERAN_ALICE)
    public_key, private_key = "homeward-public-0123456789", "homeward-private-0123456789"
    site.runs_python(
        "from simple_sso.sso_server.models import Consumer; "
        f"Consumer.objects.create(name='Homeward', public_key='{public_key}', private_key='{private_key}')"
    )
    site.runs()
    file = folder / "veteran.key"
    file.touch(0o600)
    file.write_text(private_key)
    simple_sso = {"public_key": public_key, "private_key_file": str(file)}
    home = {"methods": ["simple_sso"], "simple_sso": simple_sso}
    agent = joins(
        broker, front, public, folder, {"recipe": "django-simple-sso", "app": {"url": f"http://{site.address}"}, "home": home}
    )
    accepts(broker, "desk", "veteran", "--email-domain", "veteran.example")
    broker.awaits_acknowledgement("desk")
    yield site
    agent.stop()
    site.stop()


def test_s4_a_user_of_a_simple_sso_server_signs_in_elsewhere(
    old_server: SimpleSsoMember, desk: Member, visitor: Visitor
) -> None:
    visitor.opens(f"{desk.public.url}/", title="Welcome")
    visitor.clicks("Sign in with Homeward")
    chooses(visitor, "Veteran")
    signs_in_at_home(visitor, ALICE)
    visitor.sees("Parts")
    visitor.reads("#who", "alice@veteran")
    visitor.reads("#email", VETERAN_ALICE.email)


def signs_in_at(site: SimpleSsoMember, person: Person) -> Page:
    return is_let_through(person, person.opens(f"{site.public.url}/client/?next=/parts/"))


def an_access_token(town: Town, person: Person, authority: ThrowAwayAuthority) -> str:
    """A login whose answer is caught before the client sees it."""
    back = f"{town.notes.public.url}/client/authenticate/"
    asked = asks(town, authority, "request-token/", {"redirect_to": f"{back}?next=/"})
    request_token = json.loads(asked.text.rsplit(".", 2)[0])["request_token"]
    arrival = person.logs_in(f"{town.url}authorize/?token={request_token}", back)
    assert isinstance(arrival, Arrival)
    signed = parse_qs(urlsplit(arrival.url).query)["access_token"][0]
    payload = signed.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def asks(
    town: Town,
    authority: ThrowAwayAuthority,
    path: str,
    body: dict,
    *,
    client: str = "notes",
    key: str | None = None,
    private_key: str | None = None,
    skew: int = 0,
) -> requests.Response:
    """What the client's own server sends."""
    signed = sign(json.dumps(body), private_key or CLIENTS[client][1], int(time.time()) + skew)
    headers = {"x-services-public-key": key or CLIENTS[client][0], "Content-Type": "application/json"}
    return requests.post(f"{town.url}{path}", data=signed, headers=headers, verify=str(authority.file), timeout=30)


def sign(payload: str, private_key: str, now: int) -> str:
    """itsdangerous 0.24's TimedSerializer, byte for byte."""
    seconds = now - EPOCH
    stamp = seconds.to_bytes((seconds.bit_length() + 7) // 8, "big")
    value = f"{payload}.{_encoded(stamp)}"
    key = hashlib.sha1(b"itsdangerous" + b"signer" + private_key.encode()).digest()
    return f"{value}.{_encoded(hmac.new(key, value.encode(), hashlib.sha1).digest())}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def is_logged(word: str) -> None:
    """For the operator, in one line of the agent's log."""
    log = artefacts() / "legacy-agent.log"

    def found() -> bool:
        lines = log.read_text().splitlines()
        return any("WARN" in line and word in line.lower() for line in lines if "sso" in line)

    eventually(f"the agent's log speaks of {word!r}", found, 5)
