"""social-auth-app-django, with its generic OpenID Connect backend: signing in, and a refresh token that turns."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import ThrowAwayAuthority
from conftest import ALICE, SITES, Addresses, alpha_asks, client_environment
from front import Front
from strangers import Strangers
from visitor import Visitor
from website import DjangoSite


@pytest.fixture(scope="module")
def site(
    folder: Path, strangers: Strangers, addresses: Addresses, authority: ThrowAwayAuthority, front: Front
) -> Iterator[DjangoSite]:
    client = strangers.registers(
        f"{addresses.social.url}/complete/oidc/",
        client_name="Social Django",
        token_endpoint_auth_method="client_secret_post",
        grant_types=["authorization_code", "refresh_token"],
    )
    environment = client_environment(client, strangers.broker, authority)
    site = DjangoSite("social", SITES / "social", folder / "social", environment | {"SITE_PUBLIC_HOST": addresses.social.host})
    site.runs()
    addresses.social.behind["/"] = site.address
    front.start()
    yield site
    site.stop()


def test_alice_signs_in_agrees_and_her_tokens_are_refreshed(
    site: DjangoSite, addresses: Addresses, visitor: Visitor
) -> None:
    visitor.opens(f"{addresses.social.url}/", title="Welcome")
    visitor.clicks("Sign in")
    visitor.sees("Log in to Social Django")
    visitor.clicks("Alpha")
    alpha_asks(visitor, addresses)
    # prompt=consent, for offline_access: asked although ops have answered for this relying party.
    visitor.sees("Social Django asks for your consent")
    visitor.clicks("Agree")
    visitor.sees("Welcome")
    visitor.reads("#who", f"{ALICE.username}@alpha")
    visitor.reads("#name", f"{ALICE.first_name} {ALICE.last_name}")
    assert site.rows("SELECT provider FROM social_auth_usersocialauth") == [("oidc",)]

    visitor.clicks("Refresh")
    visitor.sees("Refreshed")
    visitor.reads("#turned", "access_token, refresh_token")


def test_whoever_gives_up_is_not_signed_in(site: DjangoSite, addresses: Addresses, visitor: Visitor) -> None:
    visitor.opens(f"{addresses.social.url}/", title="Welcome")
    visitor.clicks("Sign in")
    visitor.sees("Log in to Social Django")
    visitor.clicks("Cancel")
    visitor.sees("Not signed in")
