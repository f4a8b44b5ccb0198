"""AList and OpenList: scenarios A1 to A8.

Files is a relying party that gives whoever comes an account; vault is a home. Alpha, the other home, is a Django site.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import expect

from applications import AList, now_code
from certificates import ThrowAwayAuthority
from federation import (
    ALICE,
    BOB,
    Member,
    accepts,
    chooses,
    eventually,
    gives_password,
    joins,
    signs_in,
    signs_in_at_home,
    who,
)
from front import Front
from homeward import Agent, Broker
from person import Page, Person
from processes import REPOSITORY
from visitor import Visitor
from website import Account

# In the words of seed 003.
NOT_BOUND = {
    "code": 400,
    "message": "The single sign on platform is not bound to any users: record not found",
    "data": None,
}
MONA = Account("mona", "mona's own", "", "", "")
# The vault's people. One has the name of one of alpha's.
OTHER_ALICE = Account("alice", "the other alice", "", "", "")
OTTO, DORA, GUS, VERA = (Account(name, f"the vault's {name}", "", "", "") for name in ("otto", "dora", "gus", "vera"))

Makes = Callable[..., AList]


@pytest.fixture(scope="module")
def makes(folder: Path, front: Front, authority: ThrowAwayAuthority) -> Iterator[Makes]:
    """ALists that run until the last test of this file has."""
    made = []

    def make(name: str, **environment: str) -> AList:
        site = AList(front.address(name), folder, authority.file, **environment)
        site.runs()
        front.start()
        made.append(site)
        return site

    yield make
    for site in made:
        if hasattr(site, "agent"):
            site.agent.stop()
        site.stop()


@pytest.fixture(scope="module")
def files(makes: Makes, broker: Broker, front: Front, folder: Path, alpha: Agent) -> AList:
    return becomes_relying_party(makes("files"), broker, front, folder)


@pytest.fixture(scope="module")
def open_files(makes: Makes, broker: Broker, front: Front, folder: Path, alpha: Agent) -> AList:
    return becomes_relying_party(makes("open-files", ALIST_FLAVOUR="openlist"), broker, front, folder)


@pytest.fixture(scope="module")
def vault(makes: Makes, broker: Broker, front: Front, folder: Path) -> AList:
    return becomes_home(makes("vault"), broker, front, folder)


@pytest.fixture(scope="module")
def open_vault(makes: Makes, broker: Broker, front: Front, folder: Path) -> AList:
    return becomes_home(makes("open-vault", ALIST_FLAVOUR="openlist"), broker, front, folder)


def recipe_of(site: AList) -> str:
    return "openlist" if "open" in site.name else "alist"


def becomes_relying_party(site: AList, broker: Broker, front: Front, folder: Path) -> AList:
    parameters = {"admin_token_file": str(site.token_file), "default_dir": "/federated", "default_permission": "152"}
    settings = {
        "recipe": recipe_of(site),
        "app": {"url": f"http://{site.address}", "parameters": parameters},
        "relying_party": {"way": "admin_api_accounts"},
    }
    site.agent = joins(broker, front, site.public, folder, settings)
    accepts(broker, site.name, "alpha")
    broker.awaits_acknowledgement(site.name)
    return site


def becomes_home(site: AList, broker: Broker, front: Front, folder: Path) -> AList:
    for account in (OTHER_ALICE, OTTO, DORA, VERA):
        site.add(account)
    settings = {
        "recipe": recipe_of(site),
        "app": {"url": f"http://{site.address}", "parameters": {"admin_token_file": str(site.token_file)}},
        "home": {"methods": ["password"], "watch_every": 1},
    }
    site.agent = joins(broker, front, site.public, folder, settings)
    return site


def somebody(authority: ThrowAwayAuthority, account: Account, number: int, home: str = "Alpha") -> Person:
    """With a cookie jar and an address of their own: AList counts failures by address."""
    person = Person(authority.file, account, home)
    person.comes_from(f"127.9.1.{number}")
    return person


def begins(person: Person, site: AList, method: str = "sso_get_token") -> Page:
    return person.opens(f"{site.public.url}/api/auth/sso?method={method}")


def comes(person: Person, site: AList, method: str = "sso_get_token") -> Page:
    """The whole way; where it ends is for the test to judge."""
    return finishes(person, site, begins(person, site, method))


def finishes(person: Person, site: AList, page: Page) -> Page:
    for _ in range(6):
        if page.url.startswith(f"{site.public.url}/") and "/homeward/" not in page.url:
            return page
        page = person.answers(page)
    raise AssertionError(f"never came back: {page}: {page.text[:2000]}")


def posted(page: Page) -> dict[str, str]:
    """What the popup tells the window that opened it."""
    assert "window.opener.postMessage(" in page.text, page.text[:2000]
    return json.loads(page.text.split("postMessage(")[1].split(', "*")')[0])


def me(site: AList, page: Page) -> dict[str, Any]:
    """Whose token it is that the browser came back with."""
    (token,) = parse_qs(urlsplit(page.url).query)["token"]
    return site.asks("GET", "me", token=token)["data"]


def refused(page: Page) -> dict[str, Any]:
    assert page.response.headers["Content-Type"].startswith("application/json"), page.text[:2000]
    return page.response.json()


def test_a1_the_agent_sets_the_settings_without_a_restart(
    makes: Makes, broker: Broker, front: Front, folder: Path
) -> None:
    site = makes("shelves")
    session = site.asks("POST", "auth/login", {"username": "admin", "password": site.password})["data"]["token"]
    site.sets(sso_extra_scopes="", sso_organization_name="ours", sso_default_dir="/kept", sso_auto_register="false")
    before = site.settings()
    assert site.asks("GET", "public/settings")["data"]["sso_login_enabled"] == "false"
    settings = {
        "recipe": "alist",
        "app": {"url": f"http://{site.address}", "parameters": {"admin_token_file": str(site.token_file)}},
        "relying_party": {},
    }
    site.agent = joins(broker, front, site.public, folder, settings)
    shown = site.asks("GET", "public/settings")["data"]
    assert (shown["sso_login_enabled"], shown["sso_login_platform"]) == ("true", "OIDC")
    after = site.settings()
    assert after["sso_endpoint_name"]["value"] == broker.public.url
    assert after["sso_oidc_username_key"]["value"] == "homeward_name"
    for key, item in before.items():
        assert item | {"value": ""} == after[key] | {"value": ""}, "type, group and flag of every item are as they were"
    for key in ("sso_organization_name", "sso_default_dir", "sso_auto_register"):
        assert after[key] == before[key], "what the administrator decides"
    assert site.asks("GET", "me", token=session)["code"] == 200, "nobody was logged out"
    assert broker.shows("instance", "show", "shelves")["problem"] == ""


def test_a2_the_first_login_makes_the_account_and_the_second_finds_it(
    files: AList, visitor: Visitor, authority: ThrowAwayAuthority
) -> None:
    """All in one window: the mode that the agent sets."""
    visitor.opens(f"{files.public.url}/@login", title="Login")
    visitor.clicks("OIDC")
    chooses(visitor, "Alpha")
    signs_in_at_home(visitor, ALICE)
    visitor.sees("Folder")
    visitor.reads("#who", "alice@alpha")
    visitor.reads("#path", "/federated")
    made = files.users()["alice@alpha"]
    assert (made["base_path"], made["permission"], made["sso_id"]) == ("/federated", 152, "alice@alpha")
    assert made["role_names"] == ["general"]
    again = me(files, comes(somebody(authority, ALICE, 21), files))
    assert again["id"] == made["id"]


def test_a2_openlist_gives_the_permission(open_files: AList, authority: ThrowAwayAuthority) -> None:
    made = me(open_files, comes(somebody(authority, ALICE, 22), open_files))
    assert (made["username"], made["base_path"], made["permission"]) == ("alice@alpha", "/federated", 152)
    assert made["role"] == 0


def test_a3_who_is_not_bound_is_told_in_the_words_that_the_documents_explain(
    files: AList, authority: ThrowAwayAuthority
) -> None:
    files.sets(sso_auto_register="false")
    try:
        assert refused(comes(somebody(authority, BOB, 31), files)) == NOT_BOUND
        code, report = files.agent.tells("doctor")
        assert NOT_BOUND["message"].split(":")[0] in json.dumps(report), (code, report)
    finally:
        files.sets(sso_auto_register="true")
    for name in ("alist", "openlist"):
        page = (REPOSITORY / "docs" / "recipes" / f"{name}.md").read_text()
        assert NOT_BOUND["message"] in page, f"{name}.md says what to do"


def test_a4_a_taken_name_and_the_users_of_two_homes_are_kept_apart(
    files: AList, vault: AList, broker: Broker, authority: ThrowAwayAuthority, desk: Member
) -> None:
    files.add(Account("bob@alpha", "somebody else's", "", "", ""))
    assert me(files, comes(somebody(authority, BOB, 41), files))["username"] == "bob@alpha_bob@alpha"
    accepts(broker, "files", "vault")
    try:
        broker.awaits_acknowledgement("files")
        mine = me(files, comes(somebody(authority, ALICE, 42), files))
        other = me(files, comes(somebody(authority, OTHER_ALICE, 43, "Vault"), files))
        assert (mine["username"], other["username"]) == ("alice@alpha", "alice@vault")
        assert mine["id"] != other["id"]
    finally:
        broker.says("trust", "deny", "--relying-party", "files", "--home", "vault")


def test_a4_where_a_taken_name_is_refused_it_is_told_before(
    makes: Makes, broker: Broker, front: Front, folder: Path, alpha: Agent, authority: ThrowAwayAuthority
) -> None:
    site = becomes_relying_party(makes("records", ALIST_DATABASE="mysql"), broker, front, folder)
    site.add(Account("bob@alpha", "somebody else's", "", "", ""))
    explained = broker.says("trust", "explain", "--user", "bob@alpha", "--rp", "records")
    assert "bob@alpha" in explained and "MySQL" in explained, explained
    answer = refused(comes(somebody(authority, BOB, 44), site))
    assert answer["code"] == 400 and "Duplicate entry" in answer["message"]
    # What AList can do about it: the owner of the name gives it up, or the user binds another account.
    site.changes("bob@alpha", username="somebody-else")
    assert me(site, comes(somebody(authority, BOB, 45), site))["username"] == "bob@alpha"


def test_a5_an_account_is_bound_unbound_and_bound_again(
    files: AList, visitor: Visitor, authority: ThrowAwayAuthority
) -> None:
    files.sets(sso_auto_register="false")
    files.add(MONA)
    files.changes("mona", sso_id="her-id-at-the-old-provider")
    if "bob@alpha_bob@alpha" in files.users():
        files.removes("bob@alpha_bob@alpha")
    try:
        assert refused(comes(somebody(authority, BOB, 51), files)) == NOT_BOUND
        visitor.opens(f"{files.public.url}/@login", title="Login")
        visitor.fills_in({"Username": "mona", "Password": MONA.password})
        visitor.clicks("Login")
        visitor.sees("Folder")
        visitor.opens(f"{files.public.url}/@manage", title="Profile")
        binds(visitor, BOB)
        assert me(files, comes(somebody(authority, BOB, 52), files))["username"] == "mona"
        visitor.clicks("Disconnect")
        visitor.reads("#sso-id", "not connected")
        assert refused(comes(somebody(authority, BOB, 53), files)) == NOT_BOUND
        binds(visitor, BOB)
        assert me(files, comes(somebody(authority, BOB, 54), files))["username"] == "mona"
    finally:
        files.sets(sso_auto_register="true")
        files.removes("mona")


def test_a5_who_claims_anothers_id_is_found_by_the_doctor(files: AList, authority: ThrowAwayAuthority) -> None:
    """AList takes any id without a proof; nobody but an administrator can see that it is there twice."""
    code, report = files.agent.tells("doctor")
    assert code == 0, report
    me(files, comes(somebody(authority, ALICE, 55), files))
    files.add(Account("mallory", "hers", "", "", ""))
    token = files.asks("POST", "auth/login", {"username": "mallory", "password": "hers"})["data"]["token"]
    claimed = {"username": "mallory", "password": "", "sso_id": "alice@alpha"}
    assert files.asks("POST", "me/update", claimed, token)["code"] == 200
    try:
        code, report = files.agent.tells("doctor")
        assert code != 0 and "sso_id" in json.dumps(report), report
    finally:
        files.removes("mallory")


def test_a6_both_modes_log_in_and_a_wrong_callback_is_named(
    files: AList, vault: AList, alpha: Agent, broker: Broker, visitor: Visitor, authority: ThrowAwayAuthority
) -> None:
    # Redirects are how everybody else here logs in. Binding has callbacks of its own, in both modes.
    assert files.settings()["sso_compatibility_mode"]["value"] == "true", "as the agent has set it"
    bound = comes(somebody(authority, BOB, 61), files, "get_sso_id")
    assert parse_qs(urlsplit(bound.url).query) == {"sso_id": ["bob@alpha"]}

    accepts(broker, "files", "vault")
    files.sets(sso_compatibility_mode="false")
    try:
        broker.awaits_acknowledgement("files")
        assert posted(comes(somebody(authority, BOB, 62), files, "get_sso_id")) == {"sso_id": "bob@alpha"}
        visitor.opens(f"{files.public.url}/@login", title="Login")
        window = visitor.page
        with window.expect_popup() as popup:
            visitor.clicks("OIDC")
        visitor.page = popup.value
        chooses(visitor, "Vault")
        gives_password(visitor, VERA, "Vault")
        visitor.page = window
        visitor.sees("Folder")
        visitor.reads("#who", "vera@vault")
        # From the popup there is no way back past a page like Django's: both doctors say so before anybody is in it.
        for agent in (files.agent, alpha):
            code, report = agent.tells("doctor")
            assert code == 0 and "Cross-Origin-Opener-Policy" in json.dumps(report), report
    finally:
        files.sets(sso_compatibility_mode="true")
        broker.says("trust", "deny", "--relying-party", "files", "--home", "vault")
    assert "Cross-Origin-Opener-Policy" not in json.dumps(files.agent.tells("doctor"))

    query = {
        "client_id": files.settings()["sso_client_id"]["value"],
        "redirect_uri": f"{files.public.url}/api/auth/sso_callback?method=something_else",
        "response_type": "code",
        "scope": "openid",
        "state": "s",
    }
    page = somebody(authority, ALICE, 63).is_refused(f"{broker.public.url}/authorize?{urlencode(query)}")
    assert "an address that is not registered for it" in page.text, page.text


@pytest.mark.parametrize("which", ["vault", "open_vault"])
def test_a7_a_user_of_alist_signs_in_elsewhere(
    which: str, request: pytest.FixtureRequest, broker: Broker, desk: Member, authority: ThrowAwayAuthority
) -> None:
    home = request.getfixturevalue(which)
    title = home.name.capitalize()
    number = 10 if which == "vault" else 110
    with_home(broker, home)
    assert who(signs_in(somebody(authority, VERA, number, title), desk)) == f"vera@{home.name}"

    wrong = somebody(authority, Account("vera", "not hers", "", "", ""), number + 1, title)
    said = {"wrong": alert(types_at(wrong, desk))}
    home.changes("dora", disabled=True)
    said["disabled"] = alert(types_at(somebody(authority, DORA, number + 2, title), desk))
    home.changes("guest", disabled=False)
    guest = Account("guest", "guest", "", "", "")
    said["guest"] = alert(types_at(somebody(authority, guest, number + 3, title), desk))
    assert len(set(said.values())) == 3, said

    # AList's own lock: somebody behind one address has used it up there, and the agent passes addresses on.
    for _ in range(5):
        login = {"username": "vera", "password": "guess"}
        home.asks("POST", "auth/login", login, **{"X-Forwarded-For": f"127.9.1.{number + 4}"})
    locked = alert(types_at(somebody(authority, VERA, number + 4, title), desk))
    assert locked not in said.values(), locked
    assert who(signs_in(somebody(authority, VERA, number + 5, title), desk)) == f"vera@{home.name}"
    broker.says("trust", "deny", "--relying-party", "desk", "--home", home.name)


def test_a7_a_one_time_code_is_asked_for_and_cannot_be_skipped(
    vault: AList, broker: Broker, desk: Member, visitor: Visitor
) -> None:
    with_home(broker, vault)
    secret = vault.turns_second_factor_on(OTTO)
    visitor.opens(f"{desk.public.url}/", title="Welcome")
    visitor.clicks("Homeward")
    chooses(visitor, "Vault")
    gives_password(visitor, OTTO, "Vault")
    visitor.page.get_by_label("Code").wait_for()
    visitor.sees("Log in with your Vault account")
    visitor.fills_in({"Code": "000000"})
    visitor.clicks("Log in")
    visitor.page.get_by_role("alert").wait_for()
    visitor.fills_in({"Code": now_code(secret)})
    visitor.clicks("Log in")
    visitor.sees("Parts")
    visitor.reads("#who", "otto@vault")


def test_a7_a_relying_party_that_needs_an_address_is_told_that_there_is_none(
    broker: Broker, front: Front, folder: Path, authority: ThrowAwayAuthority, vault: AList
) -> None:
    """AList knows none, and mozilla-django-oidc finds accounts by nothing else."""
    site = Member("mozilla", front.address("board"), folder, authority.file)
    site.runs()
    relying_party = site.written_files | {"way": "environment"}
    settings = {"recipe": "mozilla-django-oidc", "app": site.app, "relying_party": relying_party}
    site.agent = joins(broker, front, site.public, folder, settings)
    try:
        accepts(broker, "board", "vault", "--email-domain", "vault.example")
        explained = broker.says("trust", "explain", "--user", "otto@vault", "--rp", "board")
        assert "email" in explained, explained
    finally:
        broker.says("trust", "deny", "--relying-party", "board", "--home", "vault")
        site.agent.stop()
        site.stop()


def test_a7_who_is_disabled_or_removed_at_the_vault_is_out_elsewhere(
    vault: AList, broker: Broker, desk: Member, authority: ThrowAwayAuthority
) -> None:
    with_home(broker, vault)
    # Where nobody is left, nobody is believed to be gone.
    vault.add(GUS)
    assert who(signs_in(somebody(authority, GUS, 78, "Vault"), desk)) == "gus@vault"
    vera = somebody(authority, VERA, 77, "Vault")
    assert who(signs_in(vera, desk)) == "vera@vault"
    vault.removes("vera")
    eventually("vera is logged out at the desk", lambda: who(vera.opens(f"{desk.public.url}/")) == "nobody")


def test_a8_another_address_at_the_callback_is_an_error_in_words(files: AList, authority: ThrowAwayAuthority) -> None:
    """AList binds a login to the address that it began from."""
    person = somebody(authority, ALICE, 81)
    page = begins(person, files)
    person.comes_from("127.9.1.82")
    answer = refused(finishes(person, files, page))
    assert answer["code"] == 400 and answer["message"] == "incorrect or expired state parameter"


def test_a8_behind_a_proxy_the_site_url_decides(
    makes: Makes, files: AList, broker: Broker, front: Front, folder: Path, authority: ThrowAwayAuthority
) -> None:
    """One whose reverse proxy does not tell which host was asked for, with and without site_url."""
    unset = becomes_relying_party(makes("forgetful", ALIST_SITE_URL=""), broker, front, folder)
    for site in (files, unset):
        site.public.behind.pop("/")
        site.public.locations = FORGETFUL.format(upstream=site.address)
    front.start()
    try:
        assert me(files, comes(somebody(authority, ALICE, 83), files))["username"] == "alice@alpha"
        page = begins(somebody(authority, ALICE, 84), unset)
        assert page.status == 400 and "an address that is not registered for it" in page.text, page.text
    finally:
        for site in (files, unset):
            site.public.locations = ""
            site.public.behind["/"] = site.address
        front.start()


# As proxies come: with the host of what is behind them.
FORGETFUL = """
        location / {{
            proxy_pass http://{upstream};
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto https;
        }}
"""


def binds(visitor: Visitor, account: Account) -> None:
    """In the profile: whoever logs in at home becomes this account's owner. A browser that has just been there is known."""
    visitor.clicks("Connect")
    password = visitor.page.get_by_label("Password")
    bound = visitor.page.get_by_text(f"{account.username}@alpha")
    expect(password.or_(bound)).to_be_visible()
    if password.count():
        signs_in_at_home(visitor, account)
        visitor.sees("Profile")
    visitor.reads("#sso-id", f"{account.username}@alpha")


def with_home(broker: Broker, home: AList) -> None:
    accepts(broker, "desk", home.name)
    broker.awaits_acknowledgement("desk")


def types_at(person: Person, site: Member) -> Page:
    """Tries to sign in there, once."""
    page = person.opens(f"{site.public.url}/")
    if found := page.button("Sign in with Homeward"):
        page = person.sends(*found)
    else:
        start = page.text.split('href="')[1].split('"')[0].replace("&amp;", "&")
        page = person.opens(f"{site.public.url}{start}")
    while not any("password" in form.fields for form in page.forms):
        page = person.answers(page)
    return person.answers(page)


def alert(page: Page) -> str:
    """What the page of the agent says went wrong."""
    assert 'role="alert"' in page.text, page.text[:3000]
    return page.text.split('role="alert">')[1].split("<")[0]
