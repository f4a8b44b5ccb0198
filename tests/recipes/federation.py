"""What the stories of single applications share: a home with alice and bob, and how a site of `sites/django` joins.

Alpha is a real allauth site: whoever is signed in there is recognised, and whoever is not signs in on its own page.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import expect

from certificates import ThrowAwayAuthority
from front import Front, PublicAddress
from homeward import Agent, Broker
from person import Page, Person
from processes import PATIENCE_S, REPOSITORY
from visitor import Visitor
from website import Account, DjangoSite

DJANGO_SITES = Path(__file__).parent / "sites" / "django"
SIMPLE_SSO_VENV = REPOSITORY / "tests" / ".cache" / "venv-simple-sso"

ALICE = Account("alice", "correct horse battery", "alice@alpha.example", "Alice", "Archer")
BOB = Account("bob", "staple in the mail", "bob@alpha.example", "Bob", "Baker")

# With allauth it is as if everybody had followed the link in the mail.
_CREATE_USERS = """
import json, sys
from django.apps import apps
from django.contrib.auth.models import Group, User
wanted = json.load(sys.stdin)
for fields in wanted["users"]:
    user = User.objects.create_user(**fields)
    for name in wanted["groups"]:
        user.groups.add(Group.objects.get_or_create(name=name)[0])
    if apps.is_installed("allauth.account"):
        user.emailaddress_set.create(email=user.email, verified=True, primary=True)
"""


class Member(DjangoSite):
    """One site of `sites/django`, of a kind that has its own settings there, behind an address of its own."""

    def __init__(self, kind: str, public: PublicAddress, folder: Path, ca_file: Path, **environment: str) -> None:
        self.public = public
        self.folder = folder / public.name
        self.credentials_dir = self.folder / "credentials"
        settings = {
            "DJANGO_SETTINGS_MODULE": f"settings_{kind}",
            "REQUESTS_CA_BUNDLE": str(ca_file),
            "SITE_PUBLIC_HOST": public.host,
            "SITE_CREDENTIALS_DIR": str(self.credentials_dir),
        }
        super().__init__(public.name, DJANGO_SITES, self.folder, settings | environment)
        public.behind["/"] = self.address
        # For recipes that look into the database, whichever it is.
        self.database_url_file = self.folder / "database.url"
        self.database_url_file.touch(0o600)
        self.database_url_file.write_text(environment.get("SITE_DATABASE_URL", f"sqlite://{self._data_dir}/db.sqlite3"))

    agent: Agent

    @property
    def manage(self) -> Path:
        return DJANGO_SITES / "manage.py"

    @property
    def parameters(self) -> dict[str, str]:
        """What its operator tells the recipe of it."""
        commands = {"python": str(self.python), "manage": str(self.manage)}
        return commands | {"database_url_file": str(self.database_url_file)}

    @property
    def app(self) -> dict[str, Any]:
        """The section [app] of its agent."""
        return {"url": f"http://{self.address}", "parameters": self.parameters}

    @property
    def written_files(self) -> dict[str, Any]:
        """The section [relying_party] of its agent, if that writes files."""
        return self.owner | {"credentials_dir": str(self.credentials_dir), "reload": self.reload_command}

    def runs(self, *, workers: int = 1, threads: int = 4) -> None:
        """And answers: an agent that starts before its application says for half a minute that nobody can log in there."""
        super().runs(workers=workers, threads=threads)
        requests.get(f"http://{self.address}/", headers={"Host": self.public.host}, timeout=PATIENCE_S)

    def add(self, *accounts: Account, groups: tuple[str, ...] = ()) -> None:
        """Registers users whose addresses are verified."""
        self.runs_python(_CREATE_USERS, json.dumps({"users": [asdict(account) for account in accounts], "groups": groups}))

    def _makes_database(self) -> None:
        self._django("migrate", "--run-syncdb", "--verbosity", "0")

    def reads_settings_again(self) -> None:
        """As its agent would have it do; it goes on answering with the old ones for a moment."""
        subprocess.run(self.reload_command, check=True)

    def runs_python(self, code: str, stdin: str = "") -> None:
        """What its operator types into `manage.py shell`."""
        self._django("shell", "--verbosity", "0", "--command", code, stdin=stdin)

    def runs_command(self, *arguments: str) -> None:
        """What its operator types after `manage.py`."""
        self._django(*arguments)


class SimpleSsoMember(Member):
    """One with django-simple-sso, which needs packages of its own time."""

    bin = SIMPLE_SSO_VENV / "bin"


def joins(broker: Broker, front: Front, public: PublicAddress, folder: Path, settings: dict[str, Any]) -> Agent:
    """An operator gets a join token for this name and runs an agent with this configuration."""
    agent = Agent(folder / public.name / "agent", public, front.ca_file)
    agent.enrols(broker.join_token(public.name), **settings)
    agent.runs()
    front.start()
    broker.awaits_acknowledgement(public.name)
    return agent


def accepts(broker: Broker, relying_party: str, home: str, *options: str) -> None:
    """Ops let people from this home in. Options as of `trust allow`."""
    broker.says("trust", "allow", "--relying-party", relying_party, "--home", home, *options)


def chooses(visitor: Visitor, home: str) -> None:
    """On the broker's page, which comes only where there is a choice."""
    expect(visitor.page).not_to_have_title(re.compile("^(Welcome)?$"))
    if visitor.page.get_by_role("heading", name="Where is your account?").count():
        visitor.sees("Log in to")
        visitor.clicks(home)


def signs_in_at_home(visitor: Visitor, account: Account) -> None:
    """On the own page of a home that is a Django site."""
    visitor.sees("Sign In")
    visitor.fills_in({"Username": account.username, "Password": account.password})
    visitor.clicks("Sign In")


def gives_password(visitor: Visitor, account: Account, home: str) -> None:
    """On the page of the home's agent."""
    visitor.sees(f"Log in with your {home} account")
    visitor.fills_in({"User name": account.username, "Password": account.password})
    visitor.clicks("Log in")


def is_let_through(person: Person, page: Page, *, most: int = 8) -> Page:
    """Answers whatever a login asks for until the page says who is signed in."""
    for _ in range(most):
        if 'id="who"' in page.text and 'id="who">nobody<' not in page.text:
            return page
        page = person.answers(page)
    raise AssertionError(f"never signed in: {page}: {page.text[:2000]}")


def signs_in(person: Person, site: Member) -> Page:
    """From the site's front page to the page that says who it is."""
    page = person.opens(f"{site.public.url}/")
    if found := page.button("Sign in with Homeward"):
        return is_let_through(person, person.sends(*found))
    start = page.text.split('href="')[1].split('"')[0].replace("&amp;", "&")
    return is_let_through(person, person.opens(f"{site.public.url}{start}"))


def who(page: Page | str) -> str:
    """Who is signed in, as the page of a site says."""
    return shown(page, "who")


def shown(page: Page | str, field: str) -> str:
    """What a site's page says in this place."""
    text = page if isinstance(page, str) else page.text
    assert f'id="{field}">' in text, text[:2000]
    return text.split(f'id="{field}">')[1].split("<")[0].replace("&#x27;", "'").replace("&amp;", "&")


def eventually(what: str, holds: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Waits until this is true of programs that are on their way to it, and returns what it was."""
    deadline = time.monotonic() + patience_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(0.1)
    return found


def rows_of(file: Path, query: str) -> list[tuple]:
    """Looks into a SQLite database."""
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


@pytest.fixture(scope="session")
def alpha_site(folder: Path, front: Front, authority: ThrowAwayAuthority) -> Iterator[Member]:
    """Where alice and bob have their accounts."""
    site = Member("allauth", front.address("alpha"), folder, authority.file)
    site.add(ALICE, BOB)
    site.runs()
    yield site
    site.stop()


@pytest.fixture(scope="session")
def alpha(folder: Path, front: Front, broker: Broker, alpha_site: Member) -> Iterator[Agent]:
    """The home of most stories, by `session`."""
    home = {"methods": ["session"]}
    settings = {"recipe": "django-allauth", "app": alpha_site.app, "home": home}
    agent = joins(broker, front, alpha_site.public, folder, settings)
    yield agent
    agent.stop()


@pytest.fixture(scope="session")
def desk(folder: Path, front: Front, authority: ThrowAwayAuthority, broker: Broker, alpha: Agent) -> Iterator[Member]:
    """The relying party of the stories that are about homes. Whoever goes to /parts/ has to be somebody."""
    site = Member("allauth", front.address("desk"), folder, authority.file)
    site.runs()
    settings = {"recipe": "django-allauth", "app": site.app, "relying_party": site.written_files}
    site.agent = joins(broker, front, site.public, folder, settings)
    accepts(broker, "desk", "alpha", "--email-domain", "alpha.example")
    broker.awaits_acknowledgement("desk")
    yield site
    site.agent.stop()
    site.stop()


@pytest.fixture
def alice(authority: ThrowAwayAuthority) -> Person:
    """Alice with a fresh cookie jar."""
    return Person(authority.file, ALICE)
