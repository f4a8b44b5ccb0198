"""Debian's mod_auth_openidc: private_key_jwt by jwks_uri, form_post, RP-initiated and back-channel logout."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from apache import Apache
from certificates import ThrowAwayAuthority
from conftest import ALICE, BOB, Addresses, alpha_asks
from front import Front
from homeward import Broker
from strangers import Strangers
from visitor import Visitor
from website import Account, Website


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


def test_when_ops_end_his_sessions_bob_is_out_everywhere(
    wiki: Apache, federation: Broker, beta_site: Website, addresses: Addresses, visitor: Visitor
) -> None:
    """Three ways, all confirmed: a logout token that mod_auth_openidc verifies, and the agents of beta and of his home,
    which end Django's sessions."""
    signs_in(visitor, addresses, BOB)
    visitor.opens(f"{addresses.beta.url}/accounts/login/", title="Sign In")
    visitor.clicks("Homeward")
    visitor.sees("Welcome")
    visitor.reads("#who", f"{BOB.username}@alpha")

    code, ended = federation.tells("session", "end", "--user", f"{BOB.username}@alpha", "--wait", "20")
    assert code == 0, ended
    confirmed = {logout["target"] for logout in ended["logouts"] if logout["state"] == "confirmed"}
    assert confirmed == {"strangers", "beta", "alpha"}, ended

    for site in (addresses.beta, addresses.alpha):
        visitor.opens(f"{site.url}/", title="Welcome")
        visitor.reads("#who", "nobody")
    visitor.page.goto(f"{addresses.apache.url}/")
    visitor.sees("Log in to Wiki")


def signs_in(visitor: Visitor, addresses: Addresses, account: Account = ALICE) -> None:
    visitor.page.goto(f"{addresses.apache.url}/")
    visitor.sees("Log in to Wiki")
    visitor.clicks("Alpha")
    alpha_asks(visitor, addresses, account)
    visitor.sees("Wiki")
    visitor.reads("#who", f"{account.username}@alpha")
