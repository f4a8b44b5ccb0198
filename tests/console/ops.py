"""Somebody of ops, in front of the console: clicks, and has every page judged by axe-core, in the dark, in daylight and on a
phone."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect

from front import Front
from homeward import Broker
from processes import REPOSITORY, artefacts
from visitor import DESKTOP, PHONE, Visitor

AXE = (REPOSITORY / "tests/.cache/console/node_modules/axe-core/axe.min.js").read_text()

# WCAG 2.2 AA, and what axe-core calls best practice.
_JUDGE = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"


class Ops:
    """One browser. `complaints` has to be empty at the end of a test."""

    def __init__(self, name: str, chromium: Browser, broker: Broker, front: Front, *further: str) -> None:
        """`further` are addresses of pages of ours beside the broker's."""
        self._context = chromium.new_context(viewport=DESKTOP, locale="en-GB")
        known = {address.url for address in front.addresses} | set(further)
        self._visitor = Visitor(name, self._context, known, (broker.public.url, *further))
        self._broker = broker
        self._name = name
        self._photographs = 0
        self.page: Page = self._visitor.page
        self.complaints = self._visitor.complaints

    def enters(self) -> None:
        """By a one-time code."""
        self.page.goto(self._broker.shows("console", "code")["url"])
        self.sees("Console")
        self.clicks("Sign in with the code")
        self.sees("Overview")

    def opens(self, path: str, title: str) -> None:
        self.page.goto(f"{self._broker.public.url}{path}")
        self.sees(title)

    def sees(self, title: str, *, excused: tuple[str, ...] = ()) -> None:
        """Waits for a page by its title, photographs it and has it judged: by day and by night, on a desk and on a phone.

        `excused` are rules of axe-core that the page breaks on purpose.
        """
        expect(self.page).to_have_title(re.compile(re.escape(title), re.IGNORECASE))
        self._photographs += 1
        stem = f"{self._name}-{self._photographs:02}-{re.sub('[^a-z0-9]+', '-', title.lower())}"
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            for device, size in (("phone", PHONE), ("desktop", DESKTOP)):
                self.page.set_viewport_size(size)
                self.page.screenshot(path=artefacts() / f"{stem}-{device}-{scheme}.png", full_page=True)
                if self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                    self.complaints.append(f"{title} is wider than a {device}")
                self._judges(f"{title} ({device}, {scheme})", excused)
        self.page.emulate_media(color_scheme="light")

    def clicks(self, text: str) -> None:
        """Presses the button of that name, or follows the link, once there is one."""
        button = self.page.get_by_role("button", name=text, exact=True)
        link = self.page.get_by_role("link", name=text, exact=True)
        button.or_(link).first.click()

    def fills_in(self, fields: dict[str, str]) -> None:
        for label, value in fields.items():
            self.page.get_by_label(label, exact=True).fill(value)

    def reads(self, text: str) -> None:
        """Waits until the page says so."""
        expect(self.page.locator("main")).to_contain_text(text)

    def agrees(self, title: str, command: str, button: str) -> None:
        """On the page that says what will happen and which command does the same."""
        self.sees(title)
        self.reads("What will happen")
        expect(self.page.locator(".paste")).to_contain_text(command)
        self.clicks(button)

    def leaves(self) -> None:
        self._context.close()

    def _judges(self, what: str, excused: tuple[str, ...]) -> None:
        if not self.page.evaluate("typeof axe === 'object'"):
            self.page.evaluate(AXE)
        found = self.page.evaluate(_JUDGE)
        for violation in [violation for violation in found if violation["id"] not in excused]:
            places = ", ".join(str(node["target"]) for node in violation["nodes"][:5])
            self.complaints.append(f"{what}: {violation['id']}: {violation['help']}: {places}")
