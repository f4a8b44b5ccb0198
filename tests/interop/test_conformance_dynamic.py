"""What the Dynamic and Third-Party-Init plans ask of a provider that lets clients register themselves."""

import json
import time

import jwt
import pytest

from clientkey import Key
from clientside import ClientSide
from conftest import Addresses
from homeward import Broker
from person import Person
from relying_party import RelyingParty
from strangers import Strangers


@pytest.fixture(scope="module")
def callback(addresses: Addresses) -> str:
    return f"{addresses.clients.url}/callback"


def is_refused(strangers: Strangers, error: str, **metadata: object) -> None:
    answer = strangers.asks(metadata)
    assert (answer.status_code, answer.json()["error"]) == (400, error), answer.text
    assert answer.headers["Cache-Control"] == "no-store"


def test_no_registration_without_token(strangers: Strangers, callback: str) -> None:
    for token in ("", "hwi_wrong"):
        assert strangers.asks({"redirect_uris": [callback]}, token).status_code == 401


def test_idtoken_rs256_and_es256(strangers: Strangers, callback: str, alice: Person) -> None:
    for algorithm in ("RS256", "ES256"):
        RelyingParty(strangers, callback, id_token_signed_response_alg=algorithm).logs_in(alice)


def test_userinfo_rs256(strangers: Strangers, callback: str, alice: Person) -> None:
    rp = RelyingParty(strangers, callback, userinfo_signed_response_alg="RS256")
    login = rp.logs_in(alice, scope="openid email")
    answer = rp.asks_userinfo(login.access_token)
    assert answer.headers["Content-Type"].startswith("application/jwt")
    assert jwt.get_unverified_header(answer.text)["alg"] == "RS256"
    claims = rp.verified(answer.text)
    assert claims["sub"] == login.claims["sub"] and "email" in claims


def test_redirect_uri_has_to_be_sent(strangers: Strangers, callback: str, alice: Person) -> None:
    """One registered, or two: it is a page."""
    for more in ([], [f"{callback}-two"]):
        RelyingParty(strangers, callback, *more).is_refused(alice, redirect_uri=None)


def test_redirect_uri_query(strangers: Strangers, callback: str, alice: Person) -> None:
    """A registered query is kept; another or a longer one is another address."""
    with_query = f"{callback}?foo=bar"
    rp = RelyingParty(strangers, with_query)
    arrival = rp.logs_in(alice).arrival
    assert arrival.parameters["foo"] == "bar"
    rp.is_refused(alice, redirect_uri=f"{callback}?foo=baz")
    rp.is_refused(alice, redirect_uri=callback)
    rp.is_refused(alice, redirect_uri=f"{with_query}&more=1")
    RelyingParty(strangers, callback).is_refused(alice, redirect_uri=with_query)


@pytest.mark.parametrize(
    "uri",
    [
        "https://rp.example/cb#fragment",
        "https://*.rp.example/cb",
        "http://rp.example/cb",
        "javascript:alert(1)",
        "data:text/html,x",
        "/cb",
        "https://rp.example/cb?code=1",
        "https://user@rp.example/cb",
    ],
)
def test_redirect_uri_refused(strangers: Strangers, uri: str) -> None:
    """oidcc-redirect-uri-regfrag, and R4 and R5."""
    is_refused(strangers, "invalid_redirect_uri", redirect_uris=[uri])


def test_pages_name_the_client(strangers: Strangers, callback: str, addresses: Addresses, alice: Person) -> None:
    """Policy and terms of service are shown where the user decides; a logo of somebody else's server is not loaded."""
    side = addresses.clients.url
    rp = RelyingParty(
        strangers,
        callback,
        client_name="Suite with Pages",
        client_uri=f"{side}/",
        logo_uri=f"{side}/logo.png",
        policy_uri=f"{side}/policy",
        tos_uri=f"{side}/tos",
    )
    rp.logs_in(alice, scope="openid profile", prompt="consent")
    asked = next(page for page in alice.pages if page.button("Agree"))
    assert "Suite with Pages" in asked.text
    assert f"{side}/policy" in asked.text and f"{side}/tos" in asked.text
    assert all(url.startswith(rp.issuer) for _, url in asked.resources)


def test_jwks_uri(
    strangers: Strangers, callback: str, client_side: ClientSide, addresses: Addresses, alice: Person
) -> None:
    """Keys are fetched; a key that comes later is found (oidcc-refresh-token-rp-key-rotation)."""
    old, new = Key("old"), Key("new")
    client_side.shows("/rotating.jwks", json.dumps({"keys": [old.jwk]}))
    rp = RelyingParty(
        strangers,
        callback,
        token_endpoint_auth_method="private_key_jwt",
        jwks_uri=f"{addresses.clients.url}/rotating.jwks",
        grant_types=["authorization_code", "refresh_token"],
    )
    parameters = rp.parameters(scope="openid offline_access", prompt="consent")
    arrival = alice.logs_in(rp.url(parameters), callback)
    login = rp.finishes(arrival, parameters, **old.asserts(rp.client_id, rp.issuer))

    client_side.shows("/rotating.jwks", json.dumps({"keys": [new.jwk]}))
    refreshed = rp.asks_for_tokens(
        grant_type="refresh_token",
        refresh_token=login.tokens["refresh_token"],
        **new.asserts(rp.client_id, rp.issuer),
    )
    assert refreshed.status_code == 200, refreshed.text


@pytest.mark.parametrize("audience", ["issuer", "token_endpoint"])
def test_client_assertion(strangers: Strangers, callback: str, alice: Person, audience: str) -> None:
    """oidcc-ensure-client-assertion-with-iss-aud-succeeds; the plans send the token endpoint as well."""
    key = Key("inline")
    rp = RelyingParty(strangers, callback, token_endpoint_auth_method="private_key_jwt", jwks={"keys": [key.jwk]})
    parameters = rp.parameters()
    arrival = alice.logs_in(rp.url(parameters), callback)
    rp.finishes(arrival, parameters, **key.asserts(rp.client_id, rp.provider[audience]))


def test_sector_identifier(
    strangers: Strangers, callback: str, client_side: ClientSide, addresses: Addresses, alice: Person
) -> None:
    """Two clients of one sector know a user by one subject, which nobody else knows."""
    one, two = callback, f"{callback}-two"
    client_side.shows("/sector.json", json.dumps([one, two]))
    sector = {"subject_type": "pairwise", "sector_identifier_uri": f"{addresses.clients.url}/sector.json"}
    subjects = {RelyingParty(strangers, uri, **sector).logs_in(alice).claims["sub"] for uri in (one, two)}
    assert len(subjects) == 1
    assert RelyingParty(strangers, one).logs_in(alice).claims["sub"] not in subjects

    bad = f"{addresses.clients.url}/bad-sector.json"
    client_side.shows("/bad-sector.json", json.dumps([two]))
    is_refused(strangers, "invalid_client_metadata", **(sector | {"sector_identifier_uri": bad}), redirect_uris=[one])


def test_server_rotates_keys(broker: Broker, strangers: Strangers, callback: str, alice: Person) -> None:
    """A new key appears, the old one stays, and what the old one signed is still good."""
    rp = RelyingParty(strangers, callback, id_token_signed_response_alg="ES256")
    login = rp.logs_in(alice)
    before = rp.key_set().keys()
    broker.says("keys", "rotate", "--algorithm", "ES256")
    after = rp.key_set().keys()
    assert before < after, "pending keys are published before they sign"
    rp.verified(login.id_token)
    rp.logs_in(alice)


@pytest.mark.parametrize("algorithm", ["none", "RS256"])
def test_request_uri(
    strangers: Strangers, callback: str, client_side: ClientSide, addresses: Addresses, alice: Person, algorithm: str
) -> None:
    """oidcc-request-uri-unsigned and -signed-rs256: registered, fetched and processed."""
    key = Key("request")
    path = f"/request-{algorithm}.jwt"
    rp = RelyingParty(
        strangers,
        callback,
        jwks={"keys": [key.jwk]},
        request_object_signing_alg=algorithm,
        request_uris=[addresses.clients.url + path],
    )
    inside = rp.parameters(scope="openid email")
    claims = inside | {"iss": rp.client_id, "aud": rp.issuer, "exp": int(time.time()) + 60}
    signed = key.signs(claims) if algorithm == "RS256" else jwt.encode(claims, None, algorithm="none")
    client_side.shows(path, signed, "application/oauth-authz-req+jwt")
    outside = {name: inside[name] for name in ("client_id", "response_type", "scope", "redirect_uri")}
    arrival = alice.logs_in(rp.url(outside | {"request_uri": addresses.clients.url + path}), callback)
    assert rp.finishes(arrival, inside).claims["nonce"] == inside["nonce"]


@pytest.mark.parametrize("algorithm", ["none", "RS256"])
def test_request_object(strangers: Strangers, callback: str, alice: Person, algorithm: str) -> None:
    """By value: what it says wins, its redirect_uri too (oidcc-ensure-request-object-with-redirect-uri)."""
    key = Key("request")
    rp = RelyingParty(strangers, callback, jwks={"keys": [key.jwk]}, request_object_signing_alg=algorithm)
    inside = rp.parameters()
    claims = inside | {"iss": rp.client_id, "aud": rp.issuer, "exp": int(time.time()) + 60}
    signed = key.signs(claims) if algorithm == "RS256" else jwt.encode(claims, None, algorithm="none")
    outside = {"client_id": rp.client_id, "response_type": "code", "scope": "openid", "request": signed}
    arrival = alice.logs_in(rp.url(outside), callback)
    assert rp.finishes(arrival, inside).claims["nonce"] == inside["nonce"]


def test_third_party_init_login(strangers: Strangers, callback: str, addresses: Addresses) -> None:
    """Echoed, and there when the registration is read back."""
    address = f"{addresses.clients.url}/initiate"
    rp = RelyingParty(strangers, callback, initiate_login_uri=address)
    assert rp.registered["initiate_login_uri"] == address
    headers = {"Authorization": f"Bearer {rp.registered['registration_access_token']}"}
    read = rp.http.get(rp.registered["registration_client_uri"], headers=headers, timeout=30)
    assert read.json()["initiate_login_uri"] == address
    assert read.headers["Cache-Control"] == "no-store"


def test_third_party_init_login_nohttps(strangers: Strangers, callback: str) -> None:
    is_refused(
        strangers, "invalid_client_metadata", redirect_uris=[callback], initiate_login_uri="http://rp.example/initiate"
    )
