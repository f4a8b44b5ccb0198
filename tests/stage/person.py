"""Someone without a browser: follows redirects, keeps cookies, fills in forms. Fast, and sees the bytes."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests
import requests.adapters

if TYPE_CHECKING:
    from website import Account

MOST_STEPS = 25


@dataclass
class Form:
    """A form of a page, with what its fields begin with."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    # (name, value, text)
    buttons: list[tuple[str, str, str]] = field(default_factory=list)


class Page:
    """What is on the screen: the end of a chain of redirects."""

    def __init__(self, response: requests.Response) -> None:
        self.response = response
        self.url = response.url
        self.status = response.status_code
        self.text = response.text
        parser = _Reader(response.url)
        parser.feed(response.text)
        self.title = parser.title.strip()
        self.forms = parser.forms
        self.resources = parser.resources

    def button(self, text: str) -> tuple[Form, dict[str, str]] | None:
        """The form that this button sends, and the fields with which it does."""
        for form in self.forms:
            for name, value, label in form.buttons:
                if re.search(rf"\b{re.escape(text)}\b", label, re.IGNORECASE):
                    return form, form.fields | ({name: value} if name else {})
        return None

    def __str__(self) -> str:
        return f"{self.status} {self.title!r} at {self.url}"


@dataclass(frozen=True)
class Arrival:
    """What an authorization response brought to the client, and how."""

    url: str
    parameters: dict[str, str]
    posted: bool

    @property
    def address(self) -> str:
        """Where it arrived, without what arrived."""
        return self.url.split("?")[0]


class Person:
    """One person, one cookie jar. `account` is what it answers forms with that ask for a login."""

    def __init__(self, ca_file: Path, account: Account, home: str = "Alpha") -> None:
        self.http = requests.Session()
        self.http.verify = str(ca_file)
        # The proxy variables of whoever runs the tests are not a person's.
        self.http.trust_env = False
        self.account = account
        self._home = home
        # Every page that was seen, the newest last.
        self.pages: list[Page] = []
        # How often a password was typed.
        self.passwords = 0

    def comes_from(self, address: str) -> None:
        """From now on with this address of loopback: whoever counts tries by address counts this person's apart."""
        self.http.mount("https://", _FromAddress(address))

    def opens(self, url: str, *, until: Callable[[str], bool] = lambda _: False, **request: object) -> Page | Arrival:
        """Asks for a page and follows redirects, up to an address that `until` accepts, which is not fetched."""
        method = str(request.pop("method", "GET"))
        for _ in range(MOST_STEPS):
            if until(url):
                return _arrival(url)
            response = self.http.request(method, url, allow_redirects=False, timeout=30, **request)
            if not response.is_redirect:
                self.pages.append(Page(response))
                return self.pages[-1]
            # No 307 or 308 here: nothing that was typed travels on (RFC 9700 4.12).
            assert response.status_code in (301, 302, 303), f"{response.status_code} from {url}"
            method, request = "GET", {"headers": {"Referer": _referer(url)}}
            url = urljoin(url, response.headers["Location"])
        raise AssertionError(f"redirected {MOST_STEPS} times, at last to {url}")

    def sends(
        self, form: Form, fields: dict[str, str], *, until: Callable[[str], bool] = lambda _: False
    ) -> Page | Arrival:
        """Sends a form as the browser does that shows it."""
        if form.method != "post":
            return self.opens(form.action, until=until, params=fields)
        if until(form.action):
            return Arrival(form.action, fields, posted=True)
        # Django's CSRF check wants the page that the form was on.
        referer = self.pages[-1].url
        headers = {"Referer": referer, "Origin": "{0.scheme}://{0.netloc}".format(urlsplit(referer))}
        return self.opens(form.action, until=until, method="POST", data=fields, headers=headers)

    def presses(self, button: str, *, until: Callable[[str], bool] = lambda _: False) -> Page | Arrival:
        """Presses a button of the page that is on the screen."""
        found = self.pages[-1].button(button)
        assert found, f"no button {button!r} on {self.pages[-1]}: {self.pages[-1].text[:2000]}"
        return self.sends(*found, until=until)

    def logs_in(self, url: str, redirect_uri: str, **request: object) -> Arrival:
        """From an authorization request to the response at the client's callback, doing what every page asks for."""
        ended = functools.partial(_is_at, redirect_uri)
        seen = self.opens(url, until=ended, **request)
        for _ in range(MOST_STEPS):
            if isinstance(seen, Arrival):
                return seen
            assert seen.status == 200, f"{seen}: {seen.text[:2000]}"
            seen = self.answers(seen, until=ended)
        raise AssertionError(f"never came to {redirect_uri}: {self.pages[-1]}")

    def answers(self, page: Page, *, until: Callable[[str], bool] = lambda _: False) -> Page | Arrival:
        """Does what a page of a login asks for: a home, a password, consent, or to be sent on."""
        for form in page.forms:
            password = next((name for name in form.fields if "password" in name), None)
            if password:
                self.passwords += 1
                username = {name: self.account.username for name in ("username", "login") if name in form.fields}
                return self.sends(form, form.fields | username | {password: self.account.password}, until=until)
            if until(form.action):
                return self.sends(form, form.fields, until=until)
        for label in (self._home, "Agree", "Continue"):
            if found := page.button(label):
                return self.sends(*found, until=until)
        raise AssertionError(f"nobody knows what to do with {page}: {page.text[:3000]}")

    def is_refused(self, url: str, **request: object) -> Page:
        """An error page of the broker's own: status 400, no redirect, nothing for the client."""
        page = self.opens(url, until=lambda _: False, **request)
        assert isinstance(page, Page) and page.status == 400, str(page)
        assert "text/html" in page.response.headers["Content-Type"]
        assert "Location" not in page.response.headers and not page.response.history
        return page


class _FromAddress(requests.adapters.HTTPAdapter):
    def __init__(self, address: str) -> None:
        self._address = (address, 0)
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, source_address=self._address)


def _is_at(redirect_uri: str, url: str) -> bool:
    """Whether an address is this callback, with whatever the response added to its query."""
    return url == redirect_uri or url.startswith(redirect_uri + ("&" if "?" in redirect_uri else "?"))


def _arrival(url: str) -> Arrival:
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=bool(urlsplit(url).query))
    parameters = dict(pairs)
    assert len(parameters) == len(pairs), f"a parameter twice in {url}"
    return Arrival(url, parameters, posted=False)


def _referer(url: str) -> str:
    return "{0.scheme}://{0.netloc}{0.path}".format(urlsplit(url))


class _Reader(HTMLParser):
    """Title, forms and outside resources of a page."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.title = ""
        self.forms: list[Form] = []
        # (tag, address) of what the browser would load.
        self.resources: list[tuple[str, str]] = []
        self._url = url
        self._in_title = False
        self._button: tuple[str, str] | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        form = self.forms[-1] if self.forms else None
        if tag == "title":
            self._in_title = True
        elif tag == "form":
            action = urljoin(self._url, attributes.get("action") or self._url)
            self.forms.append(Form(action, attributes.get("method", "get").lower()))
        elif tag in ("iframe", "img", "script") and "src" in attributes:
            self.resources.append((tag, urljoin(self._url, attributes["src"])))
        elif form and tag == "input" and attributes.get("type") in ("submit", "image"):
            form.buttons.append((attributes.get("name", ""), attributes.get("value", ""), attributes.get("value", "")))
        elif form and tag == "input" and "name" in attributes:
            ticked = attributes.get("type") not in ("checkbox", "radio") or "checked" in attributes
            if ticked:
                form.fields[attributes["name"]] = attributes.get("value", "")
        elif form and tag == "button" and "disabled" not in attributes:
            self._button = (attributes.get("name", ""), attributes.get("value", ""))
            self._text = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag == "button" and self._button and self.forms:
            self.forms[-1].buttons.append((*self._button, " ".join(self._text.split())))
            self._button = None

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        self._text += data
