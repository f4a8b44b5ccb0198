"""What every part of the tests begins with: a folder, an authority that the web would trust, nginx, a broker, a browser."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from certificates import ThrowAwayAuthority
from front import Front
from homeward import Broker
from processes import fresh_artefacts
from visitor import CHROMIUM_FLAGS


@pytest.fixture(scope="session")
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Short, for the broker's Unix socket, and open to the websites' user; what is secret in it has modes of its own."""
    fresh_artefacts(request.config.rootpath.name)
    path = Path(tempfile.mkdtemp(prefix="homeward-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def authority(folder: Path) -> ThrowAwayAuthority:
    return ThrowAwayAuthority(folder)


@pytest.fixture(scope="session")
def chromium(authority: ThrowAwayAuthority) -> Iterator[Browser]:
    """Debian's Chromium, with a profile of its own that trusts the throw-away CA."""
    flags = [*CHROMIUM_FLAGS, f"--ignore-certificate-errors-spki-list={authority.pin}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def front(folder: Path, authority: ThrowAwayAuthority) -> Iterator[Front]:
    """Whoever starts something asks it for an address, and starts it again."""
    front = Front(folder, authority, [])
    yield front
    front.stop()
    for address in front.addresses:
        address.socket.close()


@pytest.fixture(scope="session")
def broker(folder: Path, authority: ThrowAwayAuthority, front: Front) -> Iterator[Broker]:
    """`init` and `serve`."""
    broker = Broker(folder / "broker", front.address("broker"), authority.file)
    front.start()
    yield broker
    broker.stop()
