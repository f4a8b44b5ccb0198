"""What the RP-Initiated, Back-Channel and Front-Channel Logout plans ask."""

import time
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from clientside import ClientSide
from conftest import Addresses
from person import Arrival, Page, Person
from relying_party import Login, RelyingParty
from strangers import Strangers

EVENT = "http://schemas.openid.net/event/backchannel-logout"


@pytest.fixture(scope="module")
def goodbye(addresses: Addresses) -> str:
    return f"{addresses.clients.url}/goodbye"


@pytest.fixture(scope="module")
def rp(strangers: Strangers, addresses: Addresses, goodbye: str) -> RelyingParty:
    return RelyingParty(strangers, f"{addresses.clients.url}/callback", post_logout_redirect_uris=[goodbye])


def logs_out(rp: RelyingParty, person: Person, until: str = "nowhere:", **parameters: str) -> Page | Arrival:
    url = rp.provider["end_session_endpoint"] + (f"?{urlencode(parameters)}" if parameters else "")
    return person.opens(url, until=lambda url: url.startswith(until))


def is_out(rp: RelyingParty, person: Person) -> None:
    assert rp.is_told(person, prompt="none")["error"] == "login_required"


def is_in(rp: RelyingParty, person: Person, login: Login) -> None:
    assert rp.logs_in(person, prompt="none").claims["sid"] == login.claims["sid"]


def is_asked_then_out(rp: RelyingParty, person: Person, page: Page | Arrival) -> None:
    """Nobody is logged out by an address that anybody can make: the user says so, and then sees that it is done."""
    assert isinstance(page, Page) and page.status == 200, page
    said = person.presses("Sign out")
    assert isinstance(said, Page) and said.status == 200
    is_out(rp, person)


def test_discovery_endpoint_verification(rp: RelyingParty) -> None:
    provider = rp.provider
    assert provider["end_session_endpoint"].startswith(rp.issuer)
    assert provider["backchannel_logout_supported"] and provider["backchannel_logout_session_supported"]
    assert provider["frontchannel_logout_supported"] and provider["frontchannel_logout_session_supported"]


@pytest.mark.parametrize("state", ["kept", None])
def test_rp_initiated_logout(rp: RelyingParty, alice: Person, goodbye: str, state: str | None) -> None:
    """Back with state, or without if there was none; then nobody is signed in and the tokens are dead."""
    login = rp.logs_in(alice)
    parameters = {"id_token_hint": login.id_token, "post_logout_redirect_uri": goodbye}
    arrival = logs_out(rp, alice, goodbye, **parameters, **({"state": state} if state else {}))
    assert isinstance(arrival, Arrival), arrival
    assert arrival.parameters == ({"state": state} if state else {})
    is_out(rp, alice)
    assert rp.asks_userinfo(login.access_token).status_code == 401


@pytest.mark.parametrize("change", ["-elsewhere", "?added=query", "/"])
def test_bad_post_logout_redirect_uri(rp: RelyingParty, alice: Person, goodbye: str, change: str) -> None:
    """oidcc-rp-initiated-logout-bad-… and -query-added-to-post-logout-redirect-uri: nobody goes there."""
    login = rp.logs_in(alice)
    seen = logs_out(
        rp, alice, goodbye, id_token_hint=login.id_token, post_logout_redirect_uri=goodbye + change, state="kept"
    )
    assert isinstance(seen, Page), "no redirect"


def test_modified_and_bad_id_token_hint(rp: RelyingParty, alice: Person, goodbye: str) -> None:
    """alg none, and somebody else's signature: nobody goes anywhere, and nobody is out without saying so."""
    login = rp.logs_in(alice)
    foreign = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kid = {"kid": jwt.get_unverified_header(login.id_token)["kid"]}
    hints = [
        jwt.encode(login.claims, None, algorithm="none", headers=kid),
        jwt.encode(login.claims, foreign, algorithm="RS256", headers=kid),
    ]
    for hint in hints:
        seen = logs_out(rp, alice, goodbye, id_token_hint=hint, post_logout_redirect_uri=goodbye, state="kept")
        assert isinstance(seen, Page), "no redirect"
    is_in(rp, alice, login)


def test_no_id_token_hint(rp: RelyingParty, alice: Person, goodbye: str) -> None:
    rp.logs_in(alice)
    seen = logs_out(rp, alice, goodbye, post_logout_redirect_uri=goodbye, state="kept")
    assert isinstance(seen, Page), "no redirect"


@pytest.mark.parametrize("parameters", [{}, {"state": "kept"}])
def test_no_params_and_only_state(rp: RelyingParty, alice: Person, parameters: dict[str, str]) -> None:
    login = rp.logs_in(alice)
    page = logs_out(rp, alice, **parameters)
    is_in(rp, alice, login)
    alice.opens(page.url)
    is_asked_then_out(rp, alice, alice.pages[-1])


def test_no_post_logout_redirect_uri(rp: RelyingParty, alice: Person) -> None:
    """With a good hint: out, and a page says so."""
    login = rp.logs_in(alice)
    page = logs_out(rp, alice, id_token_hint=login.id_token)
    if isinstance(page, Page) and page.button("Sign out"):
        is_asked_then_out(rp, alice, page)
    else:
        assert isinstance(page, Page) and page.status == 200
        is_out(rp, alice)


def test_backchannel_rp_initiated_logout(
    strangers: Strangers, addresses: Addresses, client_side: ClientSide, goodbye: str, alice: Person
) -> None:
    """The logout token: signed, for this client, of this login, and of no nonce."""
    client_side.answers("/backchannel", lambda _: (200, "text/plain", b""))
    rp = RelyingParty(
        strangers,
        f"{addresses.clients.url}/callback",
        post_logout_redirect_uris=[goodbye],
        backchannel_logout_uri=f"{addresses.clients.url}/backchannel",
        backchannel_logout_session_required=True,
    )
    login = rp.logs_in(alice)
    logs_out(rp, alice, goodbye, id_token_hint=login.id_token, post_logout_redirect_uri=goodbye)
    (call,) = client_side.awaits("/backchannel")
    assert call.method == "POST"
    (token,) = parse_qs(call.body)["logout_token"]
    claims = rp.verified(token)
    assert jwt.get_unverified_header(token)["typ"] == "logout+jwt"
    assert claims["sid"] == login.claims["sid"]
    assert claims.get("sub", login.claims["sub"]) == login.claims["sub"]
    assert claims["events"] == {EVENT: {}}
    assert abs(time.time() - claims["iat"]) < 30 and claims["exp"] - claims["iat"] <= 300 and claims["jti"]
    assert "nonce" not in claims
    is_out(rp, alice)


def test_frontchannel_rp_initiated_logout(
    strangers: Strangers, addresses: Addresses, goodbye: str, alice: Person
) -> None:
    """The client's address is loaded in a frame, with issuer and session."""
    address = f"{addresses.clients.url}/frontchannel"
    rp = RelyingParty(
        strangers,
        f"{addresses.clients.url}/callback",
        post_logout_redirect_uris=[goodbye],
        frontchannel_logout_uri=address,
        frontchannel_logout_session_required=True,
    )
    login = rp.logs_in(alice)
    logs_out(rp, alice, goodbye, id_token_hint=login.id_token, post_logout_redirect_uri=goodbye, state="kept")
    frames = [url for page in alice.pages for tag, url in page.resources if tag == "iframe"]
    (frame,) = [url for url in frames if url.startswith(address)]
    assert parse_qs(urlsplit(frame).query) == {"iss": [rp.issuer], "sid": [login.claims["sid"]]}
    (page,) = [page for page in alice.pages if page.resources and page.resources[0][0] == "iframe"]
    assert addresses.clients.url in page.response.headers["Content-Security-Policy"], "its frame is allowed"
    assert f"{goodbye}?state=kept" in page.text, "and the browser goes on to where the client wants it"
    is_out(rp, alice)
