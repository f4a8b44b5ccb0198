"""What every scenario of every application needs: nginx, a broker, a browser.

The applications and their agents are fixtures of the test files, one or two each; whoever starts one asks `front` for an
address and starts it again.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from certificates import ThrowAwayAuthority
from front import Front
from homeward import Broker
from visitor import DESKTOP, Visitor

pytest_plugins = ["foundation", "federation"]

SITES = Path(__file__).parent / "sites"


@pytest.fixture(scope="session")
def broker(folder: Path, authority: ThrowAwayAuthority, front: Front) -> Iterator[Broker]:
    """`init` and `serve`. Relying parties are on loopback here, which a broker on the web would never ask anything.

    A turn of the signing key waits for nobody who left with an earlier test, nor for caches of the key set.
    """
    rotation = {"grace_for_absent": 1, "key_set_max_age": 1}
    broker = Broker(folder / "broker", front.address("broker"), authority.file, rotation=rotation)
    front.start()
    yield broker
    broker.stop()


@pytest.fixture
def visitor(request: pytest.FixtureRequest, chromium: Browser, broker: Broker, front: Front) -> Iterator[Visitor]:
    """A person with a fresh profile. A test that is marked `without_javascript` gets one whose browser runs none."""
    javascript = request.node.get_closest_marker("without_javascript") is None
    context = chromium.new_context(viewport=DESKTOP, locale="en-GB", java_script_enabled=javascript)
    known = {address.url for address in front.addresses}
    homeward = (broker.public.url, *(f"{url}/homeward/" for url in known))
    visitor = Visitor(request.node.name.removeprefix("test_"), context, known, homeward)
    yield visitor
    context.close()
    assert not visitor.complaints, "\n".join(visitor.complaints)
