"""mozilla-django-oidc: signing in, being asked again in silence, and signing out at the provider too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import ThrowAwayAuthority
from conftest import ALICE, SITES, Addresses, alpha_asks, client_environment
from front import Front
from strangers import Strangers
from visitor import Visitor
from website import DjangoSite

RENEW_AFTER_S = 2


@pytest.fixture(scope="module")
def site(
    folder: Path, strangers: Strangers, addresses: Addresses, authority: ThrowAwayAuthority, front: Front
) -> Iterator[DjangoSite]:
    url = addresses.mozilla.url
    client = strangers.registers(
        f"{url}/oidc/callback/", client_name="Mozilla Django", post_logout_redirect_uris=[f"{url}/"]
    )
    environment = client_environment(client, strangers.broker, authority) | {
        "SITE_PUBLIC_HOST": addresses.mozilla.host,
        "SITE_RENEW_AFTER_S": str(RENEW_AFTER_S),
    }
    site = DjangoSite("mozilla", SITES / "mozilla", folder / "mozilla", environment)
    site.runs()
    addresses.mozilla.behind["/"] = site.address
    front.start()
    yield site
    site.stop()


def test_alice_signs_in_is_renewed_and_signs_out(site: DjangoSite, addresses: Addresses, visitor: Visitor) -> None:
    visitor.opens(f"{addresses.mozilla.url}/", title="Welcome")
    visitor.clicks("Sign in")
    visitor.sees("Log in to Mozilla Django")
    visitor.clicks("Alpha")
    alpha_asks(visitor, addresses)
    visitor.sees("Welcome")
    visitor.reads("#who", ALICE.email)
    assert site.rows("SELECT first_name, last_name, email FROM auth_user") == [
        (ALICE.first_name, ALICE.last_name, ALICE.email)
    ]

    # Its ID token has grown old: the site asks again by prompt=none, and alice notices nothing.
    visitor.page.wait_for_timeout(RENEW_AFTER_S * 1000 + 500)
    with visitor.page.expect_request(lambda request: "prompt=none" in request.url):
        visitor.opens(f"{addresses.mozilla.url}/", title="Welcome")
    visitor.reads("#who", ALICE.email)

    visitor.clicks("Sign out")
    visitor.sees("Welcome")
    assert visitor.page.url == f"{addresses.mozilla.url}/", "back where it was registered to go"
    visitor.reads("#who", "nobody")
    visitor.clicks("Sign in")
    visitor.sees("Log in to Mozilla Django")
