"""InvenTree: scenarios I1 to I12.

Store is a home, lab a relying party whose agent writes into the database. Both are InvenTree; everything that is set up
there beyond a fresh installation, an agent has set up, or an administrator who would do so without Homeward too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from applications import InvenTree, now_code
from book import BOOK, blocks
from certificates import ThrowAwayAuthority
from federation import accepts, chooses, eventually, gives_password, joins
from front import Front
from homeward import Agent, Broker
from person import Page, Person
from processes import artefacts
from visitor import Visitor
from website import Account

PASSWORD = "correct horse battery"


def account(name: str) -> Account:
    return Account(name, f"{PASSWORD} of {name}", f"{name}@store.example", name.capitalize(), "Storer")


ALICE, BERT, CAROL, DAVE, ERIN = (account(name) for name in ("alice", "bert", "carol", "dave", "erin"))
FRANK, GRETA, HUGO, IDA, JAN = (account(name) for name in ("frank", "greta", "hugo", "ida", "jan"))
EVERYBODY = (ALICE, BERT, CAROL, DAVE, ERIN, FRANK, GRETA, HUGO, IDA, JAN)
NORA = Account("nora", "nora's own", "nora@depot.example", "Nora", "Depot")
# Who has an account of the lab's own: with the name of one of the store's, with the address of another.
LOCAL_CAROL = Account("carol", "lab's own carol", "carol@lab.example", "Carol", "Other")
LOCAL_DAVE = Account("dave-of-the-lab", "lab's own dave", DAVE.email, "Dave", "Other")
LOCAL_FRANK = Account("franky", "lab's own frank", "frank@lab.example", "Frank", "Storer")

MAIL = {"INVENTREE_EMAIL_HOST": "mail.example", "INVENTREE_EMAIL_SENDER": "parts@lab.example"}
OWN_PROVIDER = {"INVENTREE_FLAGS": json.dumps({"OIDC": [{"condition": "boolean", "value": True}]})}
WATCH_EVERY_S = 1


# What the old proof of concept (seed 004) had an operator write, and what else stood there.
OLD_YAML = """\
# ours: keep the lights on
global_settings:
  LOGIN_ENABLE_SSO_REG: true  # part-reviewers may come
social_backends:
  - 'allauth.socialaccount.providers.openid_connect'
social_providers:
  openid_connect:
    id: keycloak
    name: Old broker
    server_url: 'http://127.0.0.1:1/'
    APP:
      client_id: old
      secret: older
"""
# What the page says to who wants people in their old accounts.
[PAGE_YAML] = blocks(BOOK / "recipes" / "inventree.md", "yaml")
LINKING_YAML = "global_settings:\n  LOGIN_ENABLE_SSO_REG: true\n" + PAGE_YAML
OLD_ENV = """\
# ours: keep the lights on, part-reviewers may come
INVENTREE_GLOBAL_SETTINGS={"LOGIN_ENABLE_SSO_REG": true}
INVENTREE_SOCIAL_BACKENDS=allauth.socialaccount.providers.openid_connect
INVENTREE_SOCIAL_PROVIDERS={"openid_connect": {"id": "keycloak", "name": "Old broker", "server_url": "http://127.0.0.1:1/", "APP": {"client_id": "old", "secret": "older"}}}
"""


def app_of(site: InvenTree, **parameters: object) -> dict[str, Any]:
    given = {name: str(value) for name, value in parameters.items()}
    return {"url": f"http://{site.address}", "parameters": given}


@pytest.fixture(scope="module")
def store(folder: Path, front: Front, authority: ThrowAwayAuthority, broker: Broker) -> Iterator[InvenTree]:
    """A home: who is signed in there is recognised, everybody else gives the password to its agent."""
    site = InvenTree(front.address("store"), folder, authority.file, *EVERYBODY)
    site.runs()
    settings = {
        "recipe": "inventree",
        "app": app_of(site, database_url_file=site.database_url_file),
        "home": {"methods": ["password", "session"], "watch_every": WATCH_EVERY_S},
    }
    site.agent = joins(broker, front, site.public, folder, settings)
    yield site
    site.agent.stop()
    site.stop()


@pytest.fixture(scope="module")
def lab(folder: Path, front: Front, authority: ThrowAwayAuthority, broker: Broker, store: InvenTree) -> Iterator[InvenTree]:
    """A relying party by its database, open for everybody from the store."""
    locals_ = (LOCAL_CAROL, LOCAL_DAVE, LOCAL_FRANK)
    site = InvenTree(
        front.address("lab"), folder, authority.file, *locals_, INVENTREE_SOCIAL_BACKENDS="openid_connect", **MAIL
    )
    site.runs()
    site.sets(LOGIN_ENABLE_SSO_REG=True)
    settings = {
        "recipe": "inventree",
        "app": app_of(site, database_url_file=site.database_url_file),
        "relying_party": {"way": "database"},
    }
    site.agent = joins(broker, front, site.public, folder, settings)
    lets_in(broker)
    yield site
    site.agent.stop()
    site.stop()


@pytest.fixture(scope="module")
def linking(
    folder: Path, front: Front, authority: ThrowAwayAuthority, broker: Broker, store: InvenTree
) -> Iterator[InvenTree]:
    """A relying party by its config.yaml, whose administrator links accounts by address, and has no mail server."""
    site = InvenTree(front.address("annex"), folder, authority.file, LOCAL_DAVE)
    site.writes(site.config_file, LINKING_YAML)
    site.runs()
    settings = {
        "recipe": "inventree",
        "app": app_of(site, database_url_file=site.database_url_file, config_file=site.config_file),
        "relying_party": {"way": "config_yaml", "reload": site.restart_command},
    }
    site.agent = joins(broker, front, site.public, folder, settings)
    accepts(broker, "annex", "store", "--username-template", "{username}", "--email-domain", "store.example")
    broker.awaits_acknowledgement("annex")
    yield site
    site.agent.stop()
    site.stop()


@pytest.fixture
def depot(
    folder: Path, front: Front, authority: ThrowAwayAuthority, broker: Broker, lab: InvenTree
) -> Iterator[InvenTree]:
    """A home by the provider that InvenTree brings, for one test: the lab then has two homes to choose from."""
    site = InvenTree(front.address("depot"), folder, authority.file, NORA, **OWN_PROVIDER)
    site.runs()
    parameters = {
        "database_url_file": site.database_url_file,
        "python": site.python,
        "manage": site.source / "manage.py",
    }
    settings = {"recipe": "inventree", "app": app_of(site, **parameters), "home": {"methods": ["oidc"]}}
    site.agent = joins(broker, front, site.public, folder, settings)
    accepts(broker, "lab", "depot")
    broker.awaits_acknowledgement("lab")
    yield site
    broker.says("trust", "deny", "--relying-party", "lab", "--home", "depot")
    site.agent.stop()
    site.stop()


def lets_in(broker: Broker) -> None:
    groups = ["--group", "engineers=Engineering", "--group", "managers=Management"]
    accepts(broker, "lab", "store", "--username-template", "{username}", "--email-domain", "store.example", *groups)
    broker.awaits_acknowledgement("lab")


def starts(visitor: Visitor, site: InvenTree, home: str = "Store") -> None:
    """From the site's login page to the home's."""
    visitor.opens(f"{site.public.url}/web/login", title="Login")
    visitor.clicks("Homeward")
    visitor.page.wait_for_url(lambda url: "/web/login" not in url)
    chooses(visitor, home)


def arrives(visitor: Visitor, username: str) -> None:
    visitor.sees("Logged In")
    assert visitor.page.locator("#error").count() == 0, visitor.page.locator("#error").inner_text()
    visitor.reads("#who", username)


def comes(person: Person, site: InvenTree) -> Page:
    """The whole way without a browser; where it ends is for the test to judge."""
    page = person.opens(f"{site.public.url}/web/login")
    page = person.presses("Homeward")
    for _ in range(6):
        if page.url.startswith(f"{site.public.url}/web/logged-in"):
            return page
        page = person.answers(page)
    raise AssertionError(f"never came back: {page}: {page.text[:2000]}")


def goes_to_the_password(person: Person, site: InvenTree) -> Page:
    """Up to the home's form, where the test types."""
    person.opens(f"{site.public.url}/web/login")
    page = person.presses("Homeward")
    while not any("password" in form.fields for form in page.forms):
        page = person.answers(page)
    return page


def types(person: Person, **fields: str) -> Page:
    """Fills in the form that is on the screen."""
    form = next(form for form in person.pages[-1].forms if set(fields) <= set(form.fields))
    return person.sends(form, form.fields | fields)


def who(page: Page) -> str:
    return page.text.split('id="who">')[1].split("<")[0]


def somebody(authority: ThrowAwayAuthority, account: Account, number: int) -> Person:
    """With a cookie jar and an address of their own: InvenTree counts failures by address."""
    person = Person(authority.file, account, "Store")
    person.comes_from(f"127.9.0.{number}")
    return person


def test_i1_a_user_of_the_store_signs_in_at_the_lab(store: InvenTree, lab: InvenTree, visitor: Visitor) -> None:
    """With names, address and mapped groups, and without a password of the lab's."""
    store.puts_into_groups("alice", "engineers", "choir")
    lab.sets(LOGIN_ENABLE_SSO_GROUP_SYNC=True, SSO_GROUP_MAP='{"Engineering": "Technik", "Management": "Leitung"}')
    starts(visitor, lab)
    gives_password(visitor, ALICE, "Store")
    arrives(visitor, "alice")
    made = lab.described("alice")
    assert (made["first_name"], made["last_name"], made["email"]) == ("Alice", "Storer", "alice@store.example")
    assert [group["name"] for group in made["groups"]] == ["Technik"], "choir is nobody's business here"
    assert not made["is_staff"] and not made["is_superuser"]
    ((password,),) = lab.rows("SELECT password FROM auth_user WHERE username = 'alice'")
    assert password.startswith("!"), "no password of the lab's"


def test_i2_who_is_signed_in_at_the_store_is_asked_for_nothing(
    store: InvenTree, lab: InvenTree, visitor: Visitor
) -> None:
    signs_in_at(visitor, store, BERT)
    starts(visitor, lab)
    arrives(visitor, "bert")


def test_i3_a_taken_name_gets_a_number_and_the_local_account_is_left_alone(
    store: InvenTree, lab: InvenTree, authority: ThrowAwayAuthority
) -> None:
    before = lab.rows("SELECT password, email, last_login FROM auth_user WHERE username = 'carol'")
    (name,) = {who(comes(somebody(authority, CAROL, number), lab)) for number in (31, 32)}
    assert re.fullmatch(r"carol\d+", name), "not the lab's own carol"
    assert lab.described(name)["email"] == CAROL.email
    assert lab.rows("SELECT password, email, last_login FROM auth_user WHERE username = 'carol'") == before


def test_i4_an_address_that_is_taken_is_told_before_and_linked_where_the_administrator_allows_it(
    broker: Broker, store: InvenTree, lab: InvenTree, linking: InvenTree, authority: ThrowAwayAuthority
) -> None:
    """InvenTree itself says nothing: it shows a page where nobody is logged in."""
    explained = explains(broker, "dave@store", "lab")
    assert LOCAL_DAVE.username in explained and DAVE.email in explained, explained
    assert who(comes(somebody(authority, DAVE, 41), lab)) == "nobody"
    assert "dave" not in lab.usernames(), "nobody made a second account either"

    # There the provider's settings have email_authentication, which the agent has left alone. An address that the store
    # has not verified could be anybody's.
    assert who(comes(somebody(authority, DAVE, 42), linking)) == "nobody"
    store.verifies_address("dave")
    assert who(comes(somebody(authority, DAVE, 43), linking)) == LOCAL_DAVE.username
    assert "dave" not in linking.usernames()


def test_i5_a_closed_registration_is_told_before_and_to_the_user(
    store: InvenTree, lab: InvenTree, linking: InvenTree, visitor: Visitor
) -> None:
    code, report = doctor(lab)
    assert code == 0, report
    lab.sets(LOGIN_ENABLE_SSO_REG=False)
    try:
        _, report = doctor(lab)
        assert "signup_closed" in report and "LOGIN_ENABLE_SSO_REG" in report, report
        starts(visitor, lab)
        gives_password(visitor, ERIN, "Store")
        visitor.sees("Logged In")
        visitor.reads("#error", "signup_closed")
        visitor.reads("#who", "nobody")
        assert ERIN.username not in lab.usernames()
    finally:
        lab.sets(LOGIN_ENABLE_SSO_REG=True)
    # The switch is on there, and there is no mail server: InvenTree refuses all the same.
    _, report = doctor(linking)
    assert "INVENTREE_EMAIL_HOST" in report, report


def test_i6_a_group_that_was_left_at_the_store_is_left_at_the_lab(
    store: InvenTree, lab: InvenTree, authority: ThrowAwayAuthority
) -> None:
    lab.sets(LOGIN_ENABLE_SSO_GROUP_SYNC=True, SSO_GROUP_MAP='{"Engineering": "Technik", "Management": "Leitung"}')
    store.puts_into_groups("greta", "engineers", "managers", "choir")
    assert who(comes(somebody(authority, GRETA, 61), lab)) == "greta"
    assert lab.groups_of("greta") == {"Technik", "Leitung"}
    store.puts_into_groups("greta", "managers", "choir")
    comes(somebody(authority, GRETA, 62), lab)
    assert lab.groups_of("greta") == {"Leitung"}
    # A group of the lab's own stays only where the administrator says so.
    lab.puts_into_groups("greta", "Leitung", "Garden")
    lab.sets(SSO_REMOVE_GROUPS=False)
    store.puts_into_groups("greta")
    comes(somebody(authority, GRETA, 63), lab)
    assert lab.groups_of("greta") == {"Leitung", "Garden"}
    lab.sets(SSO_REMOVE_GROUPS=True)
    comes(somebody(authority, GRETA, 64), lab)
    assert lab.groups_of("greta") == set()


def test_i7_a_second_factor_is_asked_for_and_cannot_be_skipped(
    store: InvenTree, lab: InvenTree, visitor: Visitor, authority: ThrowAwayAuthority
) -> None:
    secret = store.turns_second_factor_on("ida")
    hasty = somebody(authority, IDA, 71)
    page = goes_to_the_password(hasty, lab)
    page = types(hasty, username="ida", password=IDA.password)
    assert any("code" in form.fields for form in page.forms), "the second factor is asked for"
    page = hasty.opens(f"{lab.public.url}/web")
    assert who(page) == "nobody"

    starts(visitor, lab)
    gives_password(visitor, IDA, "Store")
    visitor.page.get_by_label("Code").wait_for()
    visitor.sees("Log in with your Store account")
    visitor.fills_in({"Code": "000000"})
    visitor.clicks("Log in")
    visitor.page.get_by_role("alert").wait_for()
    visitor.sees("Log in with your Store account")
    visitor.fills_in({"Code": now_code(secret)})
    visitor.clicks("Log in")
    arrives(visitor, "ida")


def test_i7_each_refusal_has_its_own_words(
    store: InvenTree, lab: InvenTree, visitor: Visitor, authority: ThrowAwayAuthority
) -> None:
    starts(visitor, lab)
    gives_password(visitor, Account("hugo", "not his password", "", "", ""), "Store")
    visitor.page.get_by_role("alert").wait_for()
    visitor.sees("Log in with your Store account")
    wrong = visitor.page.get_by_role("alert").inner_text()

    store.administers("PATCH", f"/api/user/{store.described('jan')['pk']}/", {"is_active": False})
    jan = somebody(authority, JAN, 72)
    goes_to_the_password(jan, lab)
    disabled = alert(types(jan, username="jan", password=JAN.password))
    assert disabled != wrong and "jan" not in lab.usernames(), (disabled, wrong)

    # InvenTree has locked the address that bert comes from: the agent has passed it on.
    for _ in range(4):
        tries_at(store, Account("bert", "guess", "", "", ""), "127.9.0.76")
    bert = somebody(authority, BERT, 76)
    goes_to_the_password(bert, lab)
    locked = alert(types(bert, username="bert", password=BERT.password))
    assert locked not in (wrong, disabled), locked


def test_i7_one_who_guesses_locks_nobody_else(store: InvenTree, lab: InvenTree, authority: ThrowAwayAuthority) -> None:
    attacker = somebody(authority, HUGO, 73)
    goes_to_the_password(attacker, lab)
    said = [alert(types(attacker, username="hugo", password=f"guess {number}")) for number in range(5)]
    assert len(set(said)) > 1, f"five tries in a minute are too many: {said}"
    assert said[-1] == alert(types(attacker, username="hugo", password=HUGO.password)), "not even with the right one"
    assert who(comes(somebody(authority, HUGO, 74), lab)) == "hugo", "he himself is not locked out"
    assert who(comes(somebody(authority, BERT, 75), lab)) == "bert"


@pytest.mark.parametrize("way", ["config_yaml", "env"])
def test_i8_an_agent_repairs_writes_proves_and_takes_back(
    way: str, broker: Broker, folder: Path, front: Front, authority: ThrowAwayAuthority, store: InvenTree
) -> None:
    name = "bench" if way == "config_yaml" else "shelf"
    site = InvenTree(front.address(name), folder, authority.file, **MAIL)
    file, old = (site.config_file, OLD_YAML) if way == "config_yaml" else (site.env_file, OLD_ENV)
    site.writes(file, old)
    site.runs()
    assert site.asks("GET", "/api/auth/v1/config").status_code == 500, "as the proof of concept left it"

    parameter = {"config_file" if way == "config_yaml" else "env_file": file}
    settings = {
        "recipe": "inventree",
        "app": app_of(site, database_url_file=site.database_url_file, **parameter),
        "relying_party": {"way": way, "reload": site.restart_command},
    }
    site.agent = joins(broker, front, site.public, folder, settings)
    try:
        accepts(broker, name, "store")
        broker.awaits_acknowledgement(name)
        eventually("ops see no problem any more", lambda: broker.shows("instance", "show", name)["problem"] == "", 5)
        assert [provider["id"] for provider in site.providers()] == ["homeward"]
        written = file.read_text()
        assert "# ours" in written and "part-reviewers" in written, "what others wrote is still there"
        assert "KeyError" in said_by(site.agent), "what was repaired, and why"
        code, report = doctor(site)
        assert code == 0, report
        assert who(comes(somebody(authority, ALICE, 81 if way == "env" else 82), site)) == "alice@store"

        # The same agent again: nothing to do, and nothing is done.
        starts_before = site.starts
        site.agent.stop()
        site.agent.runs()
        front.start()
        broker.awaits_acknowledgement(name)
        assert (site.starts, file.read_text()) == (starts_before, written)

        # What cannot be proved is taken back, and the login page answers all the while.
        site.agent.stop()
        site.agent.is_configured(**settings | {"relying_party": {"way": way, "reload": ["false"]}})
        site.agent.runs()
        broker.says("secret", "rotate", "--instance", name)
        eventually("the failure is told", lambda: broker.shows("instance", "show", name)["problem"])
        eventually("the old configuration is back", lambda: file.read_text() == written)
        assert [provider["id"] for provider in site.providers()] == ["homeward"]
        broker.says("secret", "rollback", "--instance", name)
    finally:
        site.agent.stop()
        site.stop()


def test_i9_secrets_and_keys_turn_without_anybody_noticing(
    broker: Broker, store: InvenTree, lab: InvenTree, authority: ThrowAwayAuthority
) -> None:
    ((before,),) = lab.rows("SELECT secret FROM socialaccount_socialapp")
    broker.says("secret", "rotate", "--instance", "lab")
    (rotation,) = eventually("the secret has turned", lambda: ended(broker, "secret/lab"), 90)
    assert rotation["phase"] == "done", rotation
    ((after,),) = lab.rows("SELECT secret FROM socialaccount_socialapp")
    assert before != after
    broker.says("keys", "rotate", "--algorithm", "RS256")
    assert who(comes(somebody(authority, ALICE, 91), lab)) == "alice"


def test_i9_without_the_broker_the_lab_lets_its_own_users_in(
    broker: Broker, front: Front, store: InvenTree, lab: InvenTree, authority: ThrowAwayAuthority, visitor: Visitor
) -> None:
    behind = broker.public.behind["/"]
    broker.public.behind["/"] = "127.0.0.1:9"
    front.start()
    try:
        signs_in_at(visitor, lab, LOCAL_FRANK)
        # InvenTree's own page for it: it asks the broker for its addresses, and there is no answer.
        person = somebody(authority, ALICE, 92)
        person.opens(f"{lab.public.url}/web/login")
        assert "Error" in person.presses("Homeward").text
    finally:
        broker.public.behind["/"] = behind
        front.start()
    assert who(comes(somebody(authority, ALICE, 93), lab)) == "alice"


def test_i10_who_is_deactivated_at_the_store_is_out_at_the_lab(
    store: InvenTree, lab: InvenTree, authority: ThrowAwayAuthority
) -> None:
    erin = somebody(authority, ERIN, 101)
    assert who(comes(erin, lab)) == "erin"
    store.administers("PATCH", f"/api/user/{store.described('erin')['pk']}/", {"is_active": False})
    eventually("erin is logged out at the lab", lambda: who(erin.opens(f"{lab.public.url}/web")) == "nobody")
    again = somebody(authority, ERIN, 102)
    goes_to_the_password(again, lab)
    assert alert(types(again, username="erin", password=ERIN.password))
    assert who(again.opens(f"{lab.public.url}/web")) == "nobody"


def test_i10_who_logs_out_at_the_store_is_out_at_the_lab(
    store: InvenTree, lab: InvenTree, authority: ThrowAwayAuthority
) -> None:
    greta = somebody(authority, GRETA, 103)
    signs_in_without_browser(greta, store)
    assert who(comes(greta, lab)) == "greta"
    assert greta.passwords == 0, "recognised by the session at the store"
    headless(greta, store, "DELETE", "auth/session")
    eventually("greta is logged out at the lab", lambda: who(greta.opens(f"{lab.public.url}/web")) == "nobody")


def test_i11_an_account_is_linked_and_unlinked_but_never_left_without_a_way_in(
    store: InvenTree, lab: InvenTree, authority: ThrowAwayAuthority
) -> None:
    frank = somebody(authority, FRANK, 111)
    signs_in_without_browser(frank, lab, LOCAL_FRANK)
    frank.opens(f"{lab.public.url}/web/settings")
    page = frank.presses("Link Homeward")
    while not page.url.startswith(f"{lab.public.url}/web/settings"):
        page = frank.answers(page)
    assert who(page) == LOCAL_FRANK.username
    assert who(comes(somebody(authority, FRANK, 112), lab)) == LOCAL_FRANK.username

    (linked,) = headless(frank, lab, "GET", "account/providers").json()["data"]
    assert linked["provider"]["id"] == "homeward"
    unlinked = {"provider": "homeward", "account": linked["uid"]}
    assert headless(frank, lab, "DELETE", "account/providers", unlinked).json()["data"] == []
    assert who(comes(somebody(authority, FRANK, 113), lab)) == "frank", "an account of its own now"

    # Who has no other way to log in keeps this one.
    alice = somebody(authority, ALICE, 114)
    comes(alice, lab)
    (only,) = headless(alice, lab, "GET", "account/providers").json()["data"]
    refused = headless(alice, lab, "DELETE", "account/providers", {"provider": "homeward", "account": only["uid"]})
    assert refused.status_code == 400, refused.text


def test_i12_federation_is_one_way_by_two_commands(
    broker: Broker, store: InvenTree, lab: InvenTree, visitor: Visitor
) -> None:
    """A join token and an enrolment each made them members; one edge lets the store's users in at the lab."""
    edges = [edge for edge in broker.shows("trust", "list") if {edge["relying_party"], edge["home"]} == {"lab", "store"}]
    assert [(edge["relying_party"], edge["home"]) for edge in edges] == [("lab", "store")]
    assert store.providers() == [], "nobody can come to the store from elsewhere"
    visitor.opens(f"{store.public.url}/web/login", title="Login")
    assert visitor.page.get_by_role("button", name="Homeward").count() == 0


def test_i12_a_home_by_inventrees_own_provider(lab: InvenTree, depot: InvenTree, visitor: Visitor) -> None:
    """The agent has made itself a client there; whoever is signed in is recognised through it."""
    signs_in_at(visitor, depot, NORA)
    starts(visitor, lab, "Depot")
    arrives(visitor, "nora@depot")
    assert lab.described("nora@depot")["last_name"] == "Depot"
    ((redirect_uris, secret),) = depot.rows("SELECT redirect_uris, client_secret FROM oauth2_provider_application")
    assert redirect_uris.startswith(f"{depot.public.url}/homeward/"), redirect_uris
    assert secret.startswith("pbkdf2_"), "InvenTree keeps a hash only"


def signs_in_at(visitor: Visitor, site: InvenTree, account: Account) -> None:
    """With its own password, on its own page."""
    visitor.opens(f"{site.public.url}/web/login", title="Login")
    visitor.fills_in({"Username": account.username, "Password": account.password})
    visitor.clicks("Log In")
    visitor.sees("Home")
    visitor.reads("#who", account.username)


def signs_in_without_browser(person: Person, site: InvenTree, account: Account | None = None) -> None:
    account = account or person.account
    person.opens(f"{site.public.url}/web/login")
    body = {"username": account.username, "password": account.password}
    assert headless(person, site, "POST", "auth/login", body).status_code == 200


def tries_at(site: InvenTree, account: Account, address: str) -> None:
    """Somebody at this address tries a password on InvenTree's own page."""
    person = Person(Path(), account)
    page = {"Host": site.public.url.removeprefix("https://"), "X-Forwarded-For": address, "X-Forwarded-Proto": "https"}
    url = f"http://{site.address}/api/auth/v1/auth"
    token = person.http.get(f"{url}/session", headers=page, timeout=30).cookies["csrftoken"]
    page |= {"Cookie": f"csrftoken={token}", "X-CSRFToken": token, "Referer": f"{site.public.url}/web/login"}
    body = {"username": account.username, "password": account.password}
    assert person.http.post(f"{url}/login", json=body, headers=page, timeout=30).status_code == 400


def headless(person: Person, site: InvenTree, method: str, path: str, body: Any = None) -> requests.Response:
    """What the page of InvenTree does in the browser."""
    headers = {
        "X-CSRFToken": person.http.cookies.get("csrftoken", domain=site.public.host) or "",
        "Referer": f"{site.public.url}/web",
        "Origin": site.public.url,
    }
    return person.http.request(
        method, f"{site.public.url}/api/auth/v1/{path}", json=body, headers=headers, timeout=30
    )


def alert(page: Page) -> str:
    """What the page of the agent says went wrong."""
    assert 'role="alert"' in page.text, page.text[:3000]
    return page.text.split('role="alert">')[1].split("<")[0]


def explains(broker: Broker, user: str, relying_party: str) -> str:
    return broker.says("trust", "explain", "--user", user, "--rp", relying_party)


def doctor(site: InvenTree) -> tuple[int, str]:
    code, report = site.agent.tells("doctor")
    return code, json.dumps(report)


def said_by(agent: Agent) -> str:
    return (artefacts() / f"{agent.public.name}-agent.log").read_text()


def ended(broker: Broker, subject: str) -> list[dict[str, Any]]:
    return [one for one in broker.shows("rotation", "status", subject) if one["phase"] in ("done", "rolled back")]
