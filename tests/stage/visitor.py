"""Someone with a browser: clicks, takes photographs, and notices what a page must not do."""

import re
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response, expect

from processes import artefacts

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

# Without these, Chromium speaks to its makers, or over protocols that nginx does not.
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Visitor:
    """One person, one browser profile. `complaints` has to be empty at the end of a test."""

    def __init__(self, name: str, context: BrowserContext, known: set[str], homeward: tuple[str, ...]) -> None:
        self.name = name
        self.complaints: list[str] = []
        self._known = known
        self._homeward = homeward
        self._photographs = 0
        self.page: Page = context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"script error: {error}"))
        self.page.on("request", self._on_request)
        self.page.on("response", self._on_response)

    def opens(self, url: str, *, title: str) -> None:
        self.page.goto(url)
        self.sees(title)

    def sees(self, title: str) -> None:
        """Waits for a page by a part of its title and photographs it: on a desk, and on a phone too if it is one of ours."""
        expect(self.page).to_have_title(re.compile(re.escape(title), re.IGNORECASE))
        self._photographs += 1
        stem = f"{self.name}-{self._photographs:02}-{title.lower().replace(' ', '-')}"
        if self._is_ours(self.page.url):
            self.page.set_viewport_size(PHONE)
            self._photographs_as(f"{stem}-phone")
            self._fits_a_phone()
            self.page.set_viewport_size(DESKTOP)
        self._photographs_as(f"{stem}-desktop")

    def clicks(self, text: str) -> None:
        """Presses the button of that name, or follows the link if there is none."""
        button = self.page.get_by_role("button", name=text)
        link = self.page.get_by_role("link", name=text)
        (button if button.count() else link).first.click()

    def fills_in(self, fields: dict[str, str]) -> None:
        """Types into the fields with these labels."""
        for label, value in fields.items():
            self.page.get_by_label(label).first.fill(value)

    def reads(self, selector: str, text: str) -> None:
        expect(self.page.locator(selector)).to_have_text(text)

    def _photographs_as(self, name: str) -> None:
        self.page.screenshot(path=artefacts() / f"{name}.png", full_page=True)

    def _fits_a_phone(self) -> None:
        wide = self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
        if wide:
            self.complaints.append(f"{self.page.url} is wider than a phone")

    def _is_ours(self, url: str) -> bool:
        return url.startswith(self._homeward)

    def _on_console(self, message: ConsoleMessage) -> None:
        # That a page came with status 401 is the browser's remark on an answer that the test has asked for.
        remark = message.text.startswith("Failed to load resource") and not self._is_ours(message.location["url"])
        if message.type == "error" and not remark:
            self.complaints.append(f"console: {message.text} at {message.location['url']}")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if f"{parts.scheme}://{parts.netloc}" not in self._known:
            self.complaints.append(f"third party: {request.url}")

    def _on_response(self, response: Response) -> None:
        headers = response.headers
        page = self._is_ours(response.url) and headers.get("content-type", "").startswith("text/html")
        if not page or response.status in (302, 303):
            return
        policy = headers.get("content-security-policy", "")
        if "default-src 'none'" not in policy or "frame-ancestors 'none'" not in policy:
            self.complaints.append(f"{response.url} has the content security policy {policy!r}")
        wanted = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store"}
        for name, value in wanted.items():
            if value not in headers.get(name, ""):
                self.complaints.append(f"{response.url} has {name}: {headers.get(name)}")
