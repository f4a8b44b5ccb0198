"""What the OpenID Foundation's Basic and Form Post plans ask, each module by its meaning, by query and by form_post."""

import json
import time

import jwt
import pytest

from conftest import ALICE, Addresses
from person import Page, Person
from relying_party import RelyingParty
from strangers import Strangers


@pytest.fixture(scope="module", params=["query", "form_post"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def rp(strangers: Strangers, addresses: Addresses, mode: str) -> RelyingParty:
    return RelyingParty(strangers, f"{addresses.clients.url}/callback", mode=mode)


def test_server(rp: RelyingParty, alice: Person) -> None:
    """oidcc-server: the whole flow, and codes that nobody guesses."""
    logins = [rp.logs_in(alice) for _ in range(3)]
    codes = {login.arrival.parameters["code"] for login in logins}
    assert len(codes) == 3 and all(len(code) >= 22 for code in codes)
    assert len({login.claims["sub"] for login in logins}) == 1
    assert len({login.claims["jti"] for login in logins}) == 3


def test_response_type_missing(rp: RelyingParty, alice: Person) -> None:
    told = rp.is_told(alice, response_type=None)
    assert told["error"] in ("invalid_request", "unsupported_response_type")


@pytest.mark.parametrize("response_type", ["token", "id_token", "code id_token", "rubbish"])
def test_no_other_response_type(rp: RelyingParty, alice: Person, response_type: str) -> None:
    told = rp.is_told(alice, response_type=response_type)
    assert told["error"] in ("unsupported_response_type", "unauthorized_client")


def test_idtoken_signature(rp: RelyingParty, alice: Person) -> None:
    header = jwt.get_unverified_header(rp.logs_in(alice).id_token)
    assert header["alg"] == "RS256" and header["kid"]


def test_idtoken_unsigned(strangers: Strangers, rp: RelyingParty) -> None:
    """Nobody can ask for tokens without signature."""
    answer = strangers.asks({"redirect_uris": [rp.callback], "id_token_signed_response_alg": "none"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client_metadata")
    assert "none" not in rp.provider["id_token_signing_alg_values_supported"]


def test_userinfo_get(rp: RelyingParty, alice: Person) -> None:
    login = rp.logs_in(alice)
    assert rp.userinfo(login.access_token)["sub"] == login.claims["sub"]


def test_userinfo_post_header(rp: RelyingParty, alice: Person) -> None:
    login = rp.logs_in(alice)
    assert rp.asks_userinfo(login.access_token, "POST").json()["sub"] == login.claims["sub"]


def test_userinfo_post_body(rp: RelyingParty, alice: Person) -> None:
    login = rp.logs_in(alice)
    answer = rp.http.post(rp.provider["userinfo_endpoint"], data={"access_token": login.access_token}, timeout=30)
    assert answer.json()["sub"] == login.claims["sub"]


def test_nonce_is_optional(rp: RelyingParty, alice: Person) -> None:
    assert "nonce" not in rp.logs_in(alice, nonce=None).claims


def test_alternate_happy_flow(rp: RelyingParty, alice: Person) -> None:
    """Neither the order of parameters nor that of scopes matters."""
    parameters = dict(reversed(rp.parameters(scope="email openid profile").items()))
    arrival = alice.logs_in(rp.url(parameters), rp.callback)
    assert rp.userinfo(rp.finishes(arrival, parameters).access_token)["email"] == ALICE.email


@pytest.mark.parametrize(
    ("scope", "claims"),
    [
        ("profile", {"name", "given_name", "family_name", "preferred_username"}),
        ("email", {"email", "email_verified"}),
        ("address", set()),
        ("phone", set()),
        ("profile email address phone", {"name", "email", "email_verified"}),
    ],
)
def test_scope(rp: RelyingParty, alice: Person, scope: str, claims: set[str]) -> None:
    """Claims come from userinfo, and none that was not asked for. Alpha knows no addresses and no telephones."""
    login = rp.logs_in(alice, scope=f"openid {scope}")
    userinfo = rp.userinfo(login.access_token)
    assert claims <= userinfo.keys()
    assert ("email" in userinfo) == ("email" in scope) and ("name" in userinfo) == ("profile" in scope)
    assert not {"name", "email"} & login.claims.keys(), (
        "OpenID Connect Core 5.4: with an access token, not in the ID token"
    )


@pytest.mark.parametrize("display", ["page", "popup", "touch", "wap"])
def test_display(rp: RelyingParty, alice: Person, display: str) -> None:
    rp.logs_in(alice, display=display)


def test_prompt_login(rp: RelyingParty, alice: Person) -> None:
    """A second login, with a password, and a later auth_time."""
    first = rp.logs_in(alice)
    typed = alice.passwords
    time.sleep(1.1)
    second = rp.logs_in(alice, prompt="login")
    assert alice.passwords > typed, "no path around the password"
    assert second.claims["auth_time"] > first.claims["auth_time"]
    assert second.claims["sub"] == first.claims["sub"]


def test_prompt_none_not_logged_in(rp: RelyingParty, alice: Person) -> None:
    told = rp.is_told(alice, prompt="none")
    assert told["error"] in ("login_required", "interaction_required", "account_selection_required")
    assert not alice.pages or alice.pages[-1].forms, "nothing was shown"


def test_prompt_none_logged_in(rp: RelyingParty, alice: Person) -> None:
    first = rp.logs_in(alice)
    seen = len(alice.pages)
    second = rp.logs_in(alice, prompt="none")
    shown = alice.pages[seen:]
    # The page of form_post goes on by itself.
    assert all(page.forms[0].action == rp.callback for page in shown)
    assert {name: first.claims[name] for name in ("sub", "auth_time", "sid")} == {
        name: second.claims[name] for name in ("sub", "auth_time", "sid")
    }


def test_max_age_1(rp: RelyingParty, alice: Person) -> None:
    first = rp.logs_in(alice, max_age="10000")
    typed = alice.passwords
    time.sleep(2.1)
    second = rp.logs_in(alice, max_age="1")
    assert alice.passwords > typed and second.claims["auth_time"] > first.claims["auth_time"]


def test_max_age_10000(rp: RelyingParty, alice: Person) -> None:
    first = rp.logs_in(alice)
    second = rp.logs_in(alice, max_age="10000")
    assert first.claims["auth_time"] == second.claims["auth_time"] and alice.passwords == 0


@pytest.mark.parametrize("max_age", ["-1", "1e99", "abc"])
def test_max_age_rubbish(rp: RelyingParty, alice: Person, max_age: str) -> None:
    assert rp.is_told(alice, max_age=max_age)["error"] == "invalid_request"


def test_unknown_parameter(rp: RelyingParty, alice: Person) -> None:
    rp.logs_in(alice, extra="foobar")


def test_id_token_hint(rp: RelyingParty, alice: Person) -> None:
    first = rp.logs_in(alice)
    second = rp.logs_in(alice, prompt="none", id_token_hint=first.id_token)
    assert second.claims["sub"] == first.claims["sub"]


def test_login_hint(rp: RelyingParty, alice: Person) -> None:
    rp.logs_in(alice, login_hint="alice@alpha")


@pytest.mark.parametrize("parameter", ["ui_locales", "claims_locales"])
@pytest.mark.parametrize("locales", ["se", "de en-GB"])
def test_locales(rp: RelyingParty, alice: Person, parameter: str, locales: str) -> None:
    rp.logs_in(alice, **{parameter: locales})


def test_acr_values(rp: RelyingParty, alice: Person) -> None:
    """Wanted, not demanded: alpha cannot say how good its logins are, and nobody makes it up."""
    assert "acr" not in rp.logs_in(alice, acr_values="urn:mace:incommon:iap:silver 1").claims


def test_code_reuse(rp: RelyingParty, alice: Person) -> None:
    """oidcc-codereuse and -30seconds: refused, and what the first use got is worth nothing any more."""
    login = rp.logs_in(alice)
    again = rp.redeems(login.arrival.parameters["code"])
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert rp.asks_userinfo(login.access_token).status_code == 401


def test_registered_redirect_uri(rp: RelyingParty, alice: Person) -> None:
    page = rp.is_refused(alice, redirect_uri=f"{rp.callback}-elsewhere")
    assert "elsewhere" not in page.text


def test_post_request(rp: RelyingParty, alice: Person) -> None:
    parameters = rp.parameters()
    url = rp.provider["authorization_endpoint"]
    rp.finishes(alice.logs_in(url, rp.callback, method="POST", data=parameters), parameters)


def test_client_secret_post(strangers: Strangers, rp: RelyingParty, alice: Person, mode: str) -> None:
    RelyingParty(strangers, rp.callback, mode=mode, token_endpoint_auth_method="client_secret_post").logs_in(alice)


def test_request_object_unsigned(rp: RelyingParty, alice: Person) -> None:
    """Processed, or refused by name; never ignored."""
    inside = rp.parameters(state="inside", nonce="inside")
    request = jwt.encode(inside | {"iss": rp.client_id, "aud": rp.issuer}, None, algorithm="none")
    parameters = rp.parameters(request=request)
    arrival = alice.logs_in(rp.url(parameters), rp.callback)
    if "error" in arrival.parameters:
        assert arrival.parameters["error"] in ("invalid_request_object", "request_not_supported")
    else:
        assert rp.finishes(arrival, inside).claims["nonce"] == "inside"


def test_request_uri_unsigned(rp: RelyingParty, alice: Person, addresses: Addresses) -> None:
    """Refused by name: it was not registered, so nobody fetches it."""
    told = rp.is_told(alice, request_uri=f"{addresses.clients.url}/never-registered")
    assert told["error"] in ("invalid_request_uri", "request_uri_not_supported")


def test_claims_essential(rp: RelyingParty, alice: Person) -> None:
    claims = {"userinfo": {"name": {"essential": True}}, "id_token": {"family_name": None}}
    login = rp.logs_in(alice, claims=json.dumps(claims))
    assert rp.userinfo(login.access_token)["name"] == f"{ALICE.first_name} {ALICE.last_name}"
    assert login.claims["family_name"] == ALICE.last_name and "name" not in login.claims


def test_request_object_with_redirect_uri(rp: RelyingParty, alice: Person) -> None:
    """The object's redirect_uri wins, or there is a page: an unregistered one outside is never where the code goes."""
    request = jwt.encode(rp.parameters() | {"iss": rp.client_id, "aud": rp.issuer}, None, algorithm="none")
    parameters = rp.parameters(request=request, redirect_uri=f"{rp.callback}-elsewhere")
    seen = alice.opens(rp.url(parameters), until=lambda url: url.startswith(rp.callback))
    if isinstance(seen, Page):
        assert seen.status == 400
    else:
        assert seen.address == rp.callback and "code" not in seen.parameters


def test_refresh_token(strangers: Strangers, rp: RelyingParty, alice: Person, mode: str) -> None:
    """Works, and for its own client only."""
    grants = ["authorization_code", "refresh_token"]
    mine = RelyingParty(strangers, rp.callback, mode=mode, grant_types=grants)
    other = RelyingParty(strangers, rp.callback, mode=mode, grant_types=grants)
    login = mine.logs_in(alice, scope="openid offline_access", prompt="consent")
    token = login.tokens["refresh_token"]
    assert token.isascii() and token.isprintable()
    refused = other.asks_for_tokens(grant_type="refresh_token", refresh_token=token)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    refreshed = mine.asks_for_tokens(grant_type="refresh_token", refresh_token=token).json()
    assert mine.userinfo(refreshed["access_token"])["sub"] == login.claims["sub"]
    if "id_token" in refreshed:
        claims = mine.id_token_claims(refreshed["id_token"])
        assert all(claims[name] == login.claims[name] for name in ("iss", "sub", "aud", "auth_time"))


def test_valid_pkce(rp: RelyingParty, alice: Person) -> None:
    """The pair of RFC 7636 appendix B."""
    verifier, challenge = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    parameters = rp.parameters(code_challenge=challenge, code_challenge_method="S256")
    rp.finishes(alice.logs_in(rp.url(parameters), rp.callback), parameters, code_verifier=verifier)
    without = rp.parameters(code_challenge=challenge, code_challenge_method="S256")
    code = alice.logs_in(rp.url(without), rp.callback).parameters["code"]
    answer = rp.redeems(code)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
