"""Any application behind nginx: the agent answers auth_request, with the configuration that is in deploy/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from certificates import ThrowAwayAuthority
from conftest import SITES
from federation import ALICE, Member, accepts, chooses, eventually, is_let_through, joins, shown, signs_in_at_home, who
from front import Front, PublicAddress
from homeward import Agent, Broker
from person import Page, Person
from processes import REPOSITORY
from visitor import Visitor
from website import Site

SNIPPET = REPOSITORY / "deploy" / "nginx-auth-request.conf"


@pytest.fixture(scope="module")
def ledger(
    folder: Path, front: Front, authority: ThrowAwayAuthority, broker: Broker, alpha: Agent
) -> Iterator[PublicAddress]:
    """An application that knows no login at all."""
    public = front.address("ledger")
    site = Site("ledger", SITES / "plain", folder / "ledger", {})
    site.runs()
    settings = {
        "recipe": "nginx-auth-request",
        "app": {"url": f"http://{site.address}"},
        "relying_party": {},
        "gate": {"ca_file": str(authority.file)},
    }
    agent = joins(broker, front, public, folder, settings)
    accepts(broker, "ledger", "alpha", "--email-domain", "alpha.example", "--group", "*=*")
    # What an operator does with the file of deploy/: where the agent and the application are, and into the server block.
    portal = public.behind.pop("/homeward/")
    agents = SNIPPET.read_text().replace("127.0.0.1:9811", portal)
    # Beside it, what operators have: a part of the application with a location of its own, by a pattern.
    texts = f"location ~ \\.txt$ {{ proxy_pass http://{site.address}; proxy_set_header X-Own yes; }}"
    public.locations = f"set $homeward_application http://{site.address};\n{agents}\n{texts}"
    front.start()
    broker.awaits_acknowledgement("ledger")
    yield public
    agent.stop()
    site.stop()


def test_nobody_gets_in_without_a_login(ledger: PublicAddress, alpha: Agent, alice: Person) -> None:
    page = alice.opens(f"{ledger.url}/books/2026?page=2")
    assert 'id="path"' not in page.text
    assert page.url.startswith(f"{alpha.public.url}/accounts/login/"), "the only home there is asks who it is"


def test_alice_signs_in_and_comes_back_to_the_page_she_asked_for(ledger: PublicAddress, visitor: Visitor) -> None:
    visitor.page.goto(f"{ledger.url}/books/2026?page=2&sort=name")
    chooses(visitor, "Alpha")
    signs_in_at_home(visitor, ALICE)
    visitor.sees("Ledger")
    visitor.reads("#who", "alice@alpha")
    visitor.reads("#path", "/books/2026?page=2&sort=name")
    visitor.reads("#email", ALICE.email)
    visitor.reads("#name", "Alice Archer")


@pytest.mark.parametrize("name", ["X-Homeward-User", "x-homeward-user", "X-Homeward-Groups", "X-Homeward-New"])
@pytest.mark.parametrize("path", ["/", "/notes.txt"])
def test_forged_headers_are_refused(
    ledger: PublicAddress, alice: Person, authority: ThrowAwayAuthority, name: str, path: str
) -> None:
    def asks(who: requests.Session, **headers: str) -> requests.Response:
        return who.get(f"{ledger.url}{path}", headers=headers, verify=str(authority.file), allow_redirects=False, timeout=30)

    stranger = requests.Session()
    assert asks(stranger).status_code == 302, "every location is behind the login"
    assert asks(stranger, **{name: "root"}).status_code == 403
    assert who(enters(alice, ledger)) == "alice@alpha"
    assert asks(alice.http).status_code == 200
    assert asks(alice.http, **{name: "root"}).status_code == 403, "not even somebody is somebody else"
    # nginx drops what it cannot tell from them.
    assert "root" not in asks(alice.http, X_Homeward_User="root").text


def test_pages_are_dressed_where_the_agent_is_no_home(ledger: PublicAddress, alice: Person) -> None:
    page = alice.opens(f"{ledger.url}/homeward/nothing-here")
    style = re.search(r'<link rel="stylesheet" href="([^"]+)"', page.text)[1]
    assert page.status == 404 and alice.opens(f"{ledger.url}{style}").response.headers["Content-Type"].startswith("text/css")


def test_whoever_did_not_get_in_finds_the_way_back(ledger: PublicAddress, alice: Person) -> None:
    page = alice.opens(f"{ledger.url}/homeward/gate/callback?error=access_denied&state=unknown")
    assert page.status == 400 and '<a class="button" href="/">Open Ledger</a>' in page.text


def test_the_check_is_for_nginx_alone(ledger: PublicAddress, authority: ThrowAwayAuthority) -> None:
    """From outside, it is no oracle: nobody reads identity headers there."""
    answer = requests.get(f"{ledger.url}/homeward/gate/check", verify=str(authority.file), allow_redirects=False, timeout=30)
    assert answer.status_code in (401, 403, 404)
    assert not any(name.lower().startswith("x-homeward") for name in answer.headers)


@pytest.mark.parametrize(
    "next", ["https://thief.example/", "//thief.example/", "/\\thief.example/", "javascript:alert(1)", "/%0d%0aSet-Cookie: a=b"]
)
def test_next_leads_nowhere_else(ledger: PublicAddress, alice: Person, next: str) -> None:
    page = is_let_through(alice, alice.opens(f"{ledger.url}/homeward/gate/login?next={quote(next, safe='')}"))
    assert re.fullmatch(rf"{re.escape(ledger.url)}/[^/\\]*.*", page.url)
    assert "thief.example" not in page.url.split("/", 3)[2]


def test_a_changed_cookie_is_nobodys(ledger: PublicAddress, alice: Person) -> None:
    enters(alice, ledger)
    for cookie in alice.http.cookies:
        if ledger.host in (cookie.domain or "") and len(cookie.value or "") > 20:
            cookie.value = cookie.value[:-4] + ("AAAA" if not cookie.value.endswith("AAAA") else "BBBB")
    answer = alice.http.get(f"{ledger.url}/", allow_redirects=False, timeout=30)
    assert answer.status_code in (302, 303)


def test_logout_ends_it_here(ledger: PublicAddress, alice: Person, authority: ThrowAwayAuthority) -> None:
    enters(alice, ledger)
    stolen = alice.http.cookies.copy()
    page = alice.opens(f"{ledger.url}/homeward/gate/logout")
    if page.forms:
        alice.sends(page.forms[0], page.forms[0].fields)
    answer = alice.http.get(f"{ledger.url}/", allow_redirects=False, timeout=30)
    assert answer.status_code in (302, 303)
    thief = Person(authority.file, ALICE)
    thief.http.cookies.update(stolen)
    answer = thief.http.get(f"{ledger.url}/", allow_redirects=False, timeout=30)
    assert answer.status_code in (302, 303), "a copy of the cookie has ended too"


def test_signing_out_everywhere_ends_it_here(ledger: PublicAddress, broker: Broker, alice: Person) -> None:
    enters(alice, ledger)
    alice.opens(f"{broker.public.url}/account")
    alice.presses("Sign out everywhere")
    eventually("the gate is closed again", lambda: _is_out(alice, ledger))


def _is_out(person: Person, ledger: PublicAddress) -> bool:
    return person.http.get(f"{ledger.url}/", allow_redirects=False, timeout=30).status_code in (302, 303)


def enters(person: Person, ledger: PublicAddress) -> Page:
    page = is_let_through(person, person.opens(f"{ledger.url}/"))
    assert shown(page, "path") == "/"
    return page
