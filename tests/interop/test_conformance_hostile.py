"""Hostile tokens and requests against the running broker: A4 to A6, T6 to T12, J2 to J7 and S7 of the threat notes."""

import base64
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest

from clientkey import Key, as_assertion, assertion_claims
from clientside import ClientSide
from conftest import ALICE, Addresses
from homeward import Broker
from person import Person
from relying_party import RelyingParty
from strangers import Strangers

# Long enough for a slow machine, much shorter than what a bomb takes.
AT_ONCE_S = 2

Change = Callable[[Key, dict[str, Any], str], str]


@pytest.fixture(scope="module")
def key() -> Key:
    return Key("honest")


@pytest.fixture(scope="module")
def rp(strangers: Strangers, addresses: Addresses, key: Key) -> RelyingParty:
    """A client that signs what it says."""
    return RelyingParty(
        strangers,
        f"{addresses.clients.url}/callback",
        token_endpoint_auth_method="private_key_jwt",
        request_object_signing_alg="RS256",
        jwks={"keys": [key.jwk]},
    )


@pytest.fixture(scope="module")
def plain(strangers: Strangers, addresses: Addresses) -> RelyingParty:
    """A client with a secret that refreshes."""
    return RelyingParty(
        strangers, f"{addresses.clients.url}/callback", grant_types=["authorization_code", "refresh_token"]
    )


@pytest.fixture
def attacker(client_side: ClientSide, addresses: Addresses) -> Iterator[str]:
    """An address under which an attacker has keys. Nobody may ever ask for them."""
    path = f"/attacker/{secrets.token_hex(4)}"
    yield addresses.clients.url + path
    assert client_side.calls(path) == [], "a JWT made the broker fetch something"


def encoded(part: Any) -> str:
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def unsigned(name: str) -> Change:
    return lambda key, claims, _: f"{encoded({'alg': name, 'kid': key.kid})}.{encoded(claims)}."


def with_public_key_as_secret(key: Key, claims: dict[str, Any], _: str) -> str:
    """Algorithm confusion (CVE-2015-9235)."""
    signing = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signed = f"{encoded({'alg': 'HS256', 'kid': key.kid})}.{encoded(claims)}"
    return f"{signed}.{encoded(signing.sign(signed.encode(), key.public_pem))}"


def by_own_key(**header: Any) -> Change:
    """Signed by the attacker, who says in the header where the key is."""

    def signs(key: Key, claims: dict[str, Any], address: str) -> str:
        own = Key(key.kid)
        told = {
            name: address if value == "address" else own.jwk if value == "key" else value
            for name, value in header.items()
        }
        return own.signs(claims, **told)

    return signs


def with_header(**header: Any) -> Change:
    return lambda key, claims, _: key.signs(claims, **header)


def with_broken_signature(key: Key, claims: dict[str, Any], _: str) -> str:
    head, body, signature = key.signs(claims).split(".")
    return f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


def with_other_body(key: Key, claims: dict[str, Any], _: str) -> str:
    head, _body, signature = key.signs(claims).split(".")
    return f"{head}.{encoded(claims | {'x': 1})}.{signature}"


def in_five_parts(key: Key, claims: dict[str, Any], _: str) -> str:
    """PBES2 with a count that burns an hour (CVE-2023-52428)."""
    header = {
        "alg": "PBES2-HS256+A128KW",
        "enc": "A128GCM",
        "p2c": 1_000_000_000,
        "p2s": encoded(b"salt"),
        "zip": "DEF",
    }
    return ".".join([encoded(header), *[encoded(b"x" * 32)] * 4])


HOSTILE: dict[str, Change] = {
    "none": unsigned("none"),
    "None": unsigned("None"),
    "nOnE": unsigned("nOnE"),
    "empty algorithm": unsigned(""),
    "public key as secret": with_public_key_as_secret,
    "own key in jwk": by_own_key(jwk="key"),
    "own key at jku": by_own_key(jku="address"),
    "own key at x5u": by_own_key(x5u="address"),
    "own key under a known kid": by_own_key(),
    "unknown kid": with_header(kid="unknown"),
    "kid with a path": with_header(kid="../../../dev/null"),
    "kid with a quote": with_header(kid="' OR 1=1 --"),
    "unknown crit": with_header(crit=["exp2"], exp2=1),
    "b64 false": with_header(crit=["b64"], b64=False),
    "broken signature": with_broken_signature,
    "another body": with_other_body,
    "five parts": in_five_parts,
    "empty parts": lambda *_: "..",
    "rubbish": lambda *_: "rubbish",
    "deep": lambda key, *_: f"{encoded(b'[' * 3_000)}.{encoded({})}.{encoded(b'x')}",
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_client_assertion(rp: RelyingParty, key: Key, attacker: str, change: Change) -> None:
    """J3, J4 at the token endpoint."""
    assertion = change(key, assertion_claims(rp.client_id, rp.issuer), attacker)
    is_invalid_client(rp, assertion)


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_request_object(rp: RelyingParty, key: Key, alice: Person, attacker: str, change: Change) -> None:
    """A4, A5, J3, J4 at the authorization endpoint: no code, no login page, no fetch."""
    claims = rp.parameters() | {"iss": rp.client_id, "aud": rp.issuer, "exp": int(time.time()) + 60}
    began = time.monotonic()
    told = rp.is_told(alice, request=change(key, claims, attacker))
    assert time.monotonic() - began < AT_ONCE_S
    # Without signature: refused by name as well, since this client registered that it signs.
    assert told["error"] in ("invalid_request_object", "request_not_supported")


CLAIMS: dict[str, dict[str, Any]] = {
    "another audience": {"aud": "https://as.example"},
    "a list with strangers": {"aud": ["https://as.example", "https://other.example"]},
    "no audience": {"aud": None},
    "another issuer": {"iss": "somebody"},
    "another subject": {"sub": "somebody"},
    "no subject": {"sub": None},
    "no expiry": {"exp": None},
    "expired": {"exp": int(time.time()) - 3600},
    "tomorrow": {"exp": int(time.time()) + 86_400},
    "expiry of a text": {"exp": "soon"},
    "from the future": {"iat": int(time.time()) + 3600},
    "not yet": {"nbf": int(time.time()) + 3600},
    "no identifier": {"jti": None},
}


@pytest.mark.parametrize("change", CLAIMS.values(), ids=CLAIMS.keys())
def test_wrong_client_assertion(rp: RelyingParty, key: Key, change: dict[str, Any]) -> None:
    """T6: well signed, and says the wrong thing."""
    claims = assertion_claims(rp.client_id, rp.issuer) | change
    is_invalid_client(rp, key.signs({name: value for name, value in claims.items() if value is not None}))


def test_client_assertion_is_good_once(rp: RelyingParty, key: Key) -> None:
    """T6: jti."""
    form = {"grant_type": "authorization_code", "code": "x", "redirect_uri": rp.callback}
    assertion = key.asserts(rp.client_id, rp.issuer)
    first = rp.http.post(rp.provider["token_endpoint"], data=form | assertion, timeout=30)
    assert (first.status_code, first.json()["error"]) == (400, "invalid_grant"), "the client is who it says"
    second = rp.http.post(rp.provider["token_endpoint"], data=form | assertion, timeout=30)
    assert (second.status_code, second.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    "change",
    [{"aud": "https://as.example"}, {"iss": "somebody"}, {"exp": int(time.time()) - 3600}, {"client_id": "somebody"}],
    ids=["audience", "issuer", "expired", "another client"],
)
def test_wrong_request_object(rp: RelyingParty, key: Key, alice: Person, change: dict[str, Any]) -> None:
    """A4: well signed, and says the wrong thing."""
    claims = rp.parameters() | {"iss": rp.client_id, "aud": rp.issuer, "exp": int(time.time()) + 60} | change
    assert rp.is_told(alice, request=key.signs(claims))["error"] == "invalid_request_object"


def test_tokens_are_not_taken_for_each_other(plain: RelyingParty, alice: Person) -> None:
    """J2, C8: every kind of secret where another kind is wanted."""
    login = plain.logs_in(alice, scope="openid offline_access", prompt="consent")
    tokens = login.tokens
    code = login.arrival.parameters["code"]
    for wrong in (login.id_token, tokens["refresh_token"], code, plain.secret):
        answer = plain.asks_userinfo(wrong)
        assert answer.status_code == 401, wrong
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    for wrong in (login.id_token, tokens["access_token"], code):
        answer = plain.asks_for_tokens(grant_type="refresh_token", refresh_token=wrong)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant"), wrong
    for wrong in (login.id_token, tokens["access_token"], tokens["refresh_token"]):
        answer = plain.redeems(wrong)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant"), wrong
    for wrong in (login.id_token, code):
        assert introspected(plain, wrong) == {"active": False}
    assert introspected(plain, tokens["access_token"])["active"] is True


def test_refreshed_at_once_exactly_one_wins(plain: RelyingParty, alice: Person) -> None:
    """T10."""
    login = plain.logs_in(alice, scope="openid offline_access", prompt="consent")
    form = {"grant_type": "refresh_token", "refresh_token": login.tokens["refresh_token"]}
    together, statuses = threading.Barrier(6), []

    def refreshes() -> None:
        together.wait()
        statuses.append(plain.asks_for_tokens(**form).status_code)

    threads = [threading.Thread(target=refreshes) for _ in range(together.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, *[400] * 5]


def test_what_ops_end_is_ended_for_everybody(broker: Broker, plain: RelyingParty, alice: Person) -> None:
    """J7, T10, C7: tokens, refresh tokens and codes of a user whom ops have logged out."""
    login = plain.logs_in(alice, scope="openid offline_access", prompt="consent")
    parameters = plain.parameters()
    code = alice.logs_in(plain.url(parameters), plain.callback).parameters["code"]
    # Not everybody can be told: most clients of these tests take no logout tokens.
    broker.tells("session", "end", "--user", f"{ALICE.username}@alpha", "--wait", "1")
    assert plain.asks_userinfo(login.access_token).status_code == 401
    assert introspected(plain, login.access_token) == {"active": False}
    refreshed = plain.asks_for_tokens(grant_type="refresh_token", refresh_token=login.tokens["refresh_token"])
    assert (refreshed.status_code, refreshed.json()["error"]) == (400, "invalid_grant")
    redeemed = plain.redeems(code)
    assert (redeemed.status_code, redeemed.json()["error"]) == (400, "invalid_grant")


def test_a_closed_registration_ends_its_tokens(
    broker: Broker, strangers: Strangers, addresses: Addresses, alice: Person
) -> None:
    """J7, R7: a client that is gone."""
    short = Strangers(broker, strangers.ca_file, "short-lived", clients=1)
    short.may_log_in_from("alpha")
    rp = RelyingParty(short, f"{addresses.clients.url}/callback")
    login = rp.logs_in(alice)
    broker.says("registration", "close", "short-lived")
    assert rp.asks_userinfo(login.access_token).status_code == 401
    assert rp.redeems("x").status_code == 401
    rp.is_refused(alice)


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": "password", "username": "a", "password": "b"}, 400, "unsupported_grant_type"),
        ({"grant_type": "implicit"}, 400, "unsupported_grant_type"),
        ({"grant_type": 'a"\\\r\n\tb'}, 400, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, 400, "invalid_request"),
        ({"grant_type": "authorization_code", "code": "x\r\ny"}, 400, "invalid_grant"),
        ({"grant_type": "refresh_token"}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, 400, "invalid_grant"),
        ({"grant_type": "client_credentials"}, 400, "unauthorized_client"),
    ],
)
def test_errors_of_the_token_endpoint(plain: RelyingParty, form: dict[str, str], status: int, error: str) -> None:
    """T7, T8: the right error, in characters that are allowed in it, kept by nobody."""
    answer = plain.asks_for_tokens(**form)
    assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    for text in answer.json().values():
        assert all(" " <= character <= "~" and character not in '"\\' for character in text), text


@pytest.mark.parametrize(
    "changes", [{"resource": "relative"}, {"resource": "https://alpha.example/#x"}, {"scope": 'openid "'}]
)
def test_malformed_parameters_are_errors(plain: RelyingParty, alice: Person, changes: dict[str, str]) -> None:
    """T12: nothing that is sent is dropped in silence."""
    assert plain.is_told(alice, **changes)["error"] in ("invalid_target", "invalid_scope", "invalid_request")


def test_client_credentials_are_nobody(strangers: Strangers, addresses: Addresses, alice: Person) -> None:
    """T11: a client's own token is no user's."""
    rp = RelyingParty(
        strangers,
        f"{addresses.clients.url}/callback",
        grant_types=["authorization_code", "client_credentials"],
    )
    login = rp.logs_in(alice)
    answer = rp.asks_for_tokens(grant_type="client_credentials")
    assert answer.status_code == 200, answer.text
    tokens = answer.json()
    assert "id_token" not in tokens and "refresh_token" not in tokens
    assert rp.asks_userinfo(tokens["access_token"]).status_code in (401, 403)
    # Subjects have no colon, so that no user can be called like a client.
    assert introspected(rp, tokens["access_token"])["sub"] == f"client:{rp.client_id}"
    assert ":" not in login.claims["sub"]


@pytest.mark.parametrize("state", ['"><script>alert(1)</script>', "' onload='x", "\u2028\u00e9\u202e", "a&b=c%20d+e"])
def test_form_post_page(strangers: Strangers, addresses: Addresses, alice: Person, state: str) -> None:
    """S7, A10: what comes back is what was sent; the page runs its own script only and sends to one address."""
    rp = RelyingParty(strangers, f"{addresses.clients.url}/callback", mode="form_post")
    login = rp.logs_in(alice, state=state)
    assert login.arrival.parameters["state"] == state
    page = alice.pages[-1]
    assert "<script>alert" not in page.text
    (form,) = page.forms
    assert form.action == rp.callback and form.method == "post"
    policy = page.response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe-inline" not in policy and "frame-ancestors 'none'" in policy
    assert page.response.headers["Cache-Control"] == "no-store"
    assert page.response.headers["Referrer-Policy"] == "no-referrer"


def is_invalid_client(rp: RelyingParty, assertion: str) -> None:
    form = {"grant_type": "authorization_code", "code": "x", "redirect_uri": rp.callback}
    began = time.monotonic()
    answer = rp.http.post(rp.provider["token_endpoint"], data=form | as_assertion(rp.client_id, assertion), timeout=30)
    assert time.monotonic() - began < AT_ONCE_S
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), answer.text


def introspected(rp: RelyingParty, token: str) -> dict[str, Any]:
    url = rp.provider["introspection_endpoint"]
    answer = rp.http.post(url, data={"token": token}, auth=(rp.client_id, rp.secret), timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()
