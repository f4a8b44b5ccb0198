"""Debian's mod_auth_openidc: private_key_jwt by jwks_uri, form_post, RP-initiated and back-channel logout."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from apache import Apache
from certificates import ThrowAwayAuthority
from conftest import ALICE, Addresses, alpha_asks_alice
from front import Front
from strangers import Strangers
from visitor import Visitor


@pytest.fixture(scope="module")
def wiki(
    folder: Path, strangers: Strangers, addresses: Addresses, authority: ThrowAwayAuthority, front: Front
) -> Iterator[Apache]:
    apache = Apache(folder / "apache", addresses.apache.url, authority.file)
    metadata = apache.metadata
    client = strangers.registers(*metadata.pop("redirect_uris"), **metadata)
    assert "client_secret" not in client
    apache.runs(strangers.broker.public.url, client["client_id"])
    addresses.apache.behind["/"] = apache.address
    front.start()
    yield apache
    apache.stop()


def test_alice_reads_the_wiki_and_signs_out(wiki: Apache, addresses: Addresses, visitor: Visitor) -> None:
    signs_in(visitor, addresses)
    visitor.clicks("Sign out")
    visitor.sees("Log in to Wiki")


def test_when_ops_end_her_session_the_wiki_forgets_alice(
    wiki: Apache, strangers: Strangers, addresses: Addresses, visitor: Visitor
) -> None:
    """Back-channel: a logout token that mod_auth_openidc verifies, and the broker knows that it did."""
    signs_in(visitor, addresses)
    visitor.opens(f"{addresses.apache.url}/", title="Wiki")
    said = strangers.broker.says("session", "end", "--user", f"{ALICE.username}@alpha")
    assert "strangers" in said
    visitor.page.goto(f"{addresses.apache.url}/")
    visitor.sees("Log in to Wiki")


def signs_in(visitor: Visitor, addresses: Addresses) -> None:
    visitor.page.goto(f"{addresses.apache.url}/")
    visitor.sees("Log in to Wiki")
    visitor.clicks("Alpha")
    alpha_asks_alice(visitor, addresses)
    visitor.sees("Wiki")
    visitor.reads("#who", ALICE.username)
