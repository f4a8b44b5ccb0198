"""docs/tutorial.md, done as it says, from an empty folder to the last line, with a browser where it says so."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from homeward import BINARIES
from processes import REPOSITORY
from reader import Reader

CACHE = REPOSITORY / "tests" / ".cache"


@pytest.fixture
def reader(folder: Path) -> Iterator[Reader]:
    # The releases that the other tests use: what a page of today says is not to fail by a release of tomorrow.
    requirements = (REPOSITORY / "tests" / "stage" / "requirements.txt").read_text()
    constraints = folder / "constraints.txt"
    constraints.write_text(re.sub(r"\[.*?\]", "", requirements))
    environment = {
        "HOME": str(folder),
        "PATH": f"{BINARIES}:/usr/sbin:/usr/bin:/sbin:/bin",
        "PIP_CACHE_DIR": str(CACHE / "pip"),
        "PIP_CONSTRAINT": str(constraints),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    # Where packages come from, where that is not PyPI itself.
    environment = {name: value for name, value in os.environ.items() if name.startswith("PIP_")} | environment
    reader = Reader(folder, environment)
    yield reader
    reader.stop()


def test_the_tutorial_works_as_it_is_written(reader: Reader, chromium: Browser) -> None:
    done = []
    for heading in reader.steps():
        done.append(heading)
        if heading == "5. Log in":
            logs_in(reader, chromium)
    assert len(done) == 7, done


def logs_in(reader: Reader, chromium: Browser) -> None:
    context = chromium.new_context(locale="en-GB")
    page = context.new_page()
    begins(page, reader)
    assert page.url.startswith(reader.at("http://localhost:9812")), page.url
    page.get_by_label("User name").fill("greta")
    page.get_by_label("Password").fill("gladly given gravel")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#who")).to_have_text("greta@garage")
    # The second time nobody asks for anything.
    context.clear_cookies(name="sessionid")
    begins(page, reader)
    expect(page.locator("#who")).to_have_text("greta@garage")
    page.goto(reader.at("http://localhost:8080/account"))
    expect(page.locator("body")).to_contain_text("Books")
    page.screenshot(path=f"{REPOSITORY}/tests/artefacts/tutorial/account.png", full_page=True)
    context.close()


def begins(page: Page, reader: Reader) -> None:
    page.goto(reader.at("http://localhost:8000"))
    page.get_by_role("link", name="Sign in with Homeward").click()
