"""What the Config plan asks: the broker's description of itself is complete and true."""

from urllib.parse import urlsplit

import pytest

from conftest import Addresses
from relying_party import RelyingParty
from strangers import Strangers


@pytest.fixture(scope="module")
def rp(strangers: Strangers, addresses: Addresses) -> RelyingParty:
    return RelyingParty(strangers, f"{addresses.clients.url}/callback")


def test_discovery_endpoint_verification(rp: RelyingParty) -> None:
    provider = rp.provider
    assert provider["issuer"] == rp.issuer
    addresses = {name: value for name, value in provider.items() if name.endswith(("_endpoint", "_uri"))}
    assert addresses.keys() >= {
        "authorization_endpoint",
        "token_endpoint",
        "userinfo_endpoint",
        "jwks_uri",
        "registration_endpoint",
        "introspection_endpoint",
        "revocation_endpoint",
        "device_authorization_endpoint",
        "pushed_authorization_request_endpoint",
        "end_session_endpoint",
    }
    assert all(urlsplit(url).scheme == "https" for url in addresses.values())
    assert "openid" in provider["scopes_supported"] and "public" in provider["subject_types_supported"]
    assert "RS256" in provider["id_token_signing_alg_values_supported"]
    assert provider["response_types_supported"] == ["code"]
    assert {"authorization_code", "refresh_token"} <= set(provider["grant_types_supported"])
    assert not {"implicit", "password"} & set(provider["grant_types_supported"])
    assert {"query", "form_post"} <= set(provider["response_modes_supported"])
    assert provider["claims_parameter_supported"] and provider["request_parameter_supported"]
    assert provider["request_uri_parameter_supported"] and provider["require_request_uri_registration"]
    assert provider["code_challenge_methods_supported"] == ["S256"]
    assert provider["authorization_response_iss_parameter_supported"] is True
    assert "check_session_iframe" not in provider, "session management is not offered"


def test_every_endpoint_is_there(rp: RelyingParty) -> None:
    for name, url in rp.provider.items():
        if name.endswith("_endpoint"):
            assert rp.http.get(url, timeout=30, allow_redirects=False).status_code != 404, name


def test_keys(rp: RelyingParty) -> None:
    keys = rp.key_set()
    assert {"RS256", "ES256"} <= {key["alg"] for key in keys.values()}
    for key in keys.values():
        assert key["kty"] in ("RSA", "EC") and key["use"] == "sig"
        assert not key.keys() & {"d", "p", "q", "dp", "dq", "qi", "k"}, "private or symmetric"


@pytest.mark.parametrize(
    "path", ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/jwks"]
)
def test_documents_are_kept_by_etag(rp: RelyingParty, path: str) -> None:
    url = rp.provider["jwks_uri"] if path == "/jwks" else rp.issuer + path
    first = rp.http.get(url, timeout=30)
    assert first.status_code == 200 and first.headers["Content-Type"].startswith("application/json")
    again = rp.http.get(url, headers={"If-None-Match": first.headers["ETag"]}, timeout=30)
    assert again.status_code == 304 and not again.content
