"""A relying party as the public conformance suite plays it: sends what a test says, and checks all that it gets."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import jwt
import requests

from person import Arrival, Page, Person
from strangers import Strangers


@dataclass(frozen=True)
class Login:
    """What one login brought."""

    arrival: Arrival
    tokens: dict[str, Any]
    claims: dict[str, Any]

    @property
    def id_token(self) -> str:
        return self.tokens["id_token"]

    @property
    def access_token(self) -> str:
        return self.tokens["access_token"]


class RelyingParty:
    """One registered client. A changed parameter of None is left out."""

    def __init__(
        self, strangers: Strangers, callback: str, *more: str, mode: str | None = None, **metadata: Any
    ) -> None:
        self.strangers = strangers
        self.issuer = strangers.broker.public.url
        self.http = requests.Session()
        self.http.verify = str(strangers.ca_file)
        self.http.trust_env = False
        self.provider = self.http.get(f"{self.issuer}/.well-known/openid-configuration", timeout=30).json()
        self.callback = callback
        self.registered = strangers.registers(callback, *more, **{"client_name": "Suite", **metadata})
        self.client_id: str = self.registered["client_id"]
        self._mode = mode

    @property
    def secret(self) -> str:
        return self.registered["client_secret"]

    def parameters(self, **changes: str | None) -> dict[str, str]:
        """An ordinary request, with changes."""
        wanted = {
            "client_id": self.client_id,
            "redirect_uri": self.callback,
            "response_type": "code",
            "response_mode": self._mode,
            "scope": "openid",
            "state": secrets.token_urlsafe(8),
            "nonce": secrets.token_urlsafe(8),
        }
        return {name: value for name, value in (wanted | changes).items() if value is not None}

    def url(self, parameters: dict[str, str]) -> str:
        return f"{self.provider['authorization_endpoint']}?{urlencode(parameters)}"

    def logs_in(self, person: Person, **changes: str | None) -> Login:
        """A whole login, everything in it checked."""
        parameters = self.parameters(**changes)
        arrival = person.logs_in(self.url(parameters), parameters["redirect_uri"])
        return self.finishes(arrival, parameters)

    def finishes(self, arrival: Arrival, parameters: dict[str, str], **form: str) -> Login:
        """From the authorization response to checked tokens."""
        assert "error" not in arrival.parameters, arrival.parameters
        assert arrival.parameters.get("state") == parameters.get("state")
        assert arrival.parameters["iss"] == self.issuer
        assert arrival.posted == (parameters.get("response_mode") == "form_post")
        answer = self.redeems(arrival.parameters["code"], redirect_uri=parameters["redirect_uri"], **form)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Type"].startswith("application/json")
        tokens = answer.json()
        assert tokens["token_type"].lower() == "bearer" and tokens["expires_in"] > 0
        claims = self.id_token_claims(tokens["id_token"])
        assert claims.get("nonce") == parameters.get("nonce")
        half = hashlib.sha256(tokens["access_token"].encode()).digest()[:16]
        assert claims["at_hash"] == base64.urlsafe_b64encode(half).rstrip(b"=").decode()
        return Login(arrival, tokens, claims)

    def is_told(self, person: Person, **changes: str | None) -> dict[str, str]:
        """An error at the callback, with state and issuer, and nothing else."""
        parameters = self.parameters(**changes)
        arrival = person.logs_in(self.url(parameters), parameters["redirect_uri"])
        told = arrival.parameters
        assert "error" in told and "code" not in told, told
        assert told.get("state") == parameters.get("state") and told["iss"] == self.issuer
        return told

    def is_refused(self, person: Person, **changes: str | None) -> Page:
        """A page of the broker's own, and nothing at any callback."""
        return person.is_refused(self.url(self.parameters(**changes)))

    def redeems(self, code: str, **form: str) -> requests.Response:
        return self.asks_for_tokens(
            grant_type="authorization_code", code=code, **{"redirect_uri": self.callback, **form}
        )

    def asks_for_tokens(self, **form: str) -> requests.Response:
        """Asks the token endpoint, authenticated as it registered."""
        method = self.registered["token_endpoint_auth_method"]
        if method == "client_secret_post":
            form |= {"client_id": self.client_id, "client_secret": self.secret}
        elif method == "none":
            form |= {"client_id": self.client_id}
        auth = (self.client_id, self.secret) if method == "client_secret_basic" else None
        return self.http.post(self.provider["token_endpoint"], data=form, auth=auth, timeout=30)

    def userinfo(self, access_token: str) -> dict[str, Any]:
        answer = self.asks_userinfo(access_token)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def asks_userinfo(self, access_token: str, method: str = "GET") -> requests.Response:
        headers = {"Authorization": f"Bearer {access_token}"}
        return self.http.request(method, self.provider["userinfo_endpoint"], headers=headers, timeout=30)

    def key_set(self) -> dict[str, dict[str, Any]]:
        """The broker's public keys by their ids."""
        keys = self.http.get(self.provider["jwks_uri"], timeout=30).json()["keys"]
        assert len({key["kid"] for key in keys}) == len(keys)
        return {key["kid"]: key for key in keys}

    def verified(self, token: str, audience: str | None = None) -> dict[str, Any]:
        """The claims of a JWT of the broker for this client, its signature, issuer and audience checked."""
        header = jwt.get_unverified_header(token)
        key = jwt.PyJWK(self.key_set()[header["kid"]])
        assert header["alg"] == key.algorithm_name
        return jwt.decode(
            token, key, algorithms=[header["alg"]], audience=audience or self.client_id, issuer=self.issuer, leeway=5
        )

    def id_token_claims(self, token: str) -> dict[str, Any]:
        """OpenID Connect Core 3.1.3.7."""
        claims = self.verified(token)
        wanted = self.registered.get("id_token_signed_response_alg", "RS256")
        assert jwt.get_unverified_header(token)["alg"] == wanted
        assert claims["aud"] in (self.client_id, [self.client_id])
        assert claims.get("azp", self.client_id) == self.client_id
        assert 0 < len(claims["sub"]) <= 255 and claims["sub"].isascii()
        assert abs(time.time() - claims["iat"]) < 30 and claims["exp"] - claims["iat"] <= 3600
        return claims
