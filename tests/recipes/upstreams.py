"""Homes that have no agent: somebody else's OpenID provider in Node, and what GitHub and Microsoft answer."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from clientside import Call, ClientSide
from front import PublicAddress
from processes import REPOSITORY, Program

NODE = REPOSITORY / "tests" / ".cache" / "node"


class NodeProvider:
    """npm's oidc-provider below a path of a public address."""

    def __init__(self, public: PublicAddress, path: str, algorithm: str, redirect_uri: str) -> None:
        self.public = public
        self.issuer = f"{public.url}{path}"
        self.accounts: dict[str, dict[str, Any]] = {}
        self.client_id = "homeward-at-the-provider"
        self.client_secret = "a secret of thirty-two characters!"
        self.algorithm = algorithm
        self.keys = [signing_key(algorithm, "the-kid-that-stays")]
        self._redirect_uri = redirect_uri
        self._listen = "127.0.0.1:0"
        self._program: Program | None = None

    def runs(self) -> None:
        """Starts it as it is set up by now; one that ran before has forgotten everything."""
        self.stop()
        client = {
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "redirect_uris": [self._redirect_uri],
            "id_token_signed_response_alg": self.algorithm,
        }
        setup = {
            "issuer": self.issuer,
            "keys": self.keys,
            "algorithms": [self.algorithm],
            "client": client,
            "accounts": self.accounts,
            "listen": self._listen,
        }
        # The link is where packages are looked for.
        program = NODE / "scenarios" / "upstream.mjs"
        links = ["--preserve-symlinks", "--preserve-symlinks-main", "--no-warnings"]
        self._program = Program(f"{self.public.name}-provider", ["node", *links, program, json.dumps(setup)])
        self._listen = self._program.announced()["http"]
        self.public.behind["/"] = self._listen

    def turns_key(self) -> None:
        """As Casdoor does when a certificate is made again: another key, the same key id."""
        self.keys = [signing_key(self.algorithm, "the-kid-that-stays")]
        self.runs()

    def stop(self) -> None:
        if self._program is not None:
            self._program.stop()


def signing_key(algorithm: str, kid: str) -> dict[str, Any]:
    """A private key as a JWK."""
    key = ECKey.generate_key("P-256") if algorithm == "ES256" else RSAKey.generate_key(2048)
    return key.as_dict(private=True) | {"kid": kid, "alg": algorithm, "use": "sig"}


def _leads_back(redirect_uri: str, method: str, answer: dict[str, str]) -> tuple[int, str, bytes]:
    """The page on which somebody agrees, and is sent back."""
    fields = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in answer.items())
    form = f'<form method="{method}" action="{redirect_uri}">{fields}<button>Continue</button></form>'
    page = f'<!doctype html><html lang="en"><title>Authorize Homeward</title><h1>Authorize Homeward</h1>{form}'
    return 200, "text/html; charset=utf-8", page.encode()


class GitHub:
    """GitHub's three answers: no ID token, errors with status 200, addresses in a second document."""

    def __init__(self, public: PublicAddress) -> None:
        self.public = public
        self.user = {"id": 583231, "login": "octocat", "name": "The Octocat", "email": None, "type": "User"}
        self.emails = [
            {"email": "old@github.example", "primary": False, "verified": True, "visibility": None},
            {"email": "octocat@github.example", "primary": True, "verified": True, "visibility": "private"},
        ]
        self.client_id, self.client_secret = "Iv1.8a61f9b3a7aba766", "github secret of the broker"
        self._codes: dict[str, str] = {}
        self._side = ClientSide()
        self._side.answers("/login/oauth/authorize", self._authorizes)
        self._side.answers("/login/oauth/access_token", self._gives_token)
        self._side.answers("/user", lambda call: self._tells(call, self.user))
        self._side.answers("/user/emails", lambda call: self._tells(call, self.emails))
        public.behind["/"] = self._side.address

    def stop(self) -> None:
        self._side.stop()

    def _authorizes(self, call: Call) -> tuple[int, str, bytes]:
        """Somebody is signed in there already."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(call.path).query).items()}
        assert asked["client_id"] == self.client_id, "GitHub answers 404 to clients that it does not know"
        code = f"code{len(self._codes):016x}"
        self._codes[code] = asked["redirect_uri"]
        return _leads_back(asked["redirect_uri"], "get", {"code": code, "state": asked["state"]})

    def _gives_token(self, call: Call) -> tuple[int, str, bytes]:
        form = {name: values[0] for name, values in parse_qs(call.body).items()}
        given = (form.get("client_id"), form.get("client_secret"))
        if authorization := call.headers.get("Authorization"):
            given = tuple(base64.b64decode(authorization.removeprefix("Basic ")).decode().split(":", 1))
        answer = {"access_token": "gho_16C7e42F292c6912E7710c838347Ae178B4a", "scope": "read:user,user:email"}
        answer["token_type"] = "bearer"
        if given != (self.client_id, self.client_secret):
            answer = {"error": "incorrect_client_credentials", "error_description": "The client_id is incorrect."}
        elif self._codes.pop(form["code"], None) is None:
            answer = {"error": "bad_verification_code", "error_description": "The code passed is incorrect or expired."}
        # It speaks the forms of 2008 to whoever does not ask for JSON.
        if "json" not in call.headers.get("Accept", ""):
            return 200, "application/x-www-form-urlencoded; charset=utf-8", urlencode(answer).encode()
        return 200, "application/json; charset=utf-8", json.dumps(answer).encode()

    def _tells(self, call: Call, document: object) -> tuple[int, str, bytes]:
        if "gho_16C7e42F292c6912E7710c838347Ae178B4a" not in call.headers.get("Authorization", ""):
            return 401, "application/json", b'{"message":"Requires authentication"}'
        # GitHub refuses everybody who does not say who they are.
        if not call.headers.get("User-Agent"):
            return 403, "text/html", b"Request forbidden by administrative rules. Please make sure your request has a User-Agent"
        return 200, "application/json; charset=utf-8", json.dumps(document).encode()


class Microsoft:
    """An issuer with a hole in it: the metadata say {tenantid}, each token says its own."""

    def __init__(self, public: PublicAddress) -> None:
        self.public = public
        self.tenant = "9188040d-6c67-4c5b-b112-36a304b66dad"
        # What the token says of the tenant, if that is not the truth.
        self.claimed_tenant: str | None = None
        self.client_id, self.client_secret = "11111111-2222-3333-4444-555555555555", "microsoft secret of the broker"
        self._key = RSAKey.import_key(signing_key("RS256", "microsoft-1"))
        self._asked: dict[str, dict[str, str]] = {}
        self._side = ClientSide()
        self._side.shows("/common/v2.0/.well-known/openid-configuration", json.dumps(self._metadata()))
        keys = {"keys": [self._key.as_dict(private=False) | {"kid": "microsoft-1", "use": "sig"}]}
        self._side.shows("/common/discovery/v2.0/keys", json.dumps(keys))
        self._side.answers("/common/oauth2/v2.0/authorize", self._authorizes)
        self._side.answers("/common/oauth2/v2.0/token", self._gives_token)
        self._side.answers("/oidc/userinfo", self._tells)
        public.behind["/"] = self._side.address

    @property
    def issuer(self) -> str:
        return f"{self.public.url}/{{tenantid}}/v2.0"

    @property
    def discovery(self) -> str:
        return f"{self.public.url}/common/v2.0/.well-known/openid-configuration"

    def stop(self) -> None:
        self._side.stop()

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.public.url}/common/oauth2/v2.0/authorize",
            "token_endpoint": f"{self.public.url}/common/oauth2/v2.0/token",
            "userinfo_endpoint": f"{self.public.url}/oidc/userinfo",
            "jwks_uri": f"{self.public.url}/common/discovery/v2.0/keys",
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
        }

    def _authorizes(self, call: Call) -> tuple[int, str, bytes]:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(call.path).query).items()}
        code = f"M.R3_BAY.{len(self._asked)}"
        self._asked[code] = asked
        method = "post" if asked.get("response_mode") == "form_post" else "get"
        return _leads_back(asked["redirect_uri"], method, {"code": code, "state": asked["state"]})

    def _gives_token(self, call: Call) -> tuple[int, str, bytes]:
        form = {name: values[0] for name, values in parse_qs(call.body).items()}
        asked = self._asked.pop(form["code"])
        now = int(time.time())
        claims = {
            "iss": f"{self.public.url}/{self.tenant}/v2.0",
            "tid": self.claimed_tenant or self.tenant,
            "aud": self.client_id,
            "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
            "oid": "00000000-0000-0000-66f3-3332eca7ea81",
            "name": "Abe Lincoln",
            "preferred_username": "abeli@microsoft.example",
            "nonce": asked["nonce"],
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "ver": "2.0",
        }
        token = jws.serialize_compact({"alg": "RS256", "kid": "microsoft-1"}, json.dumps(claims), self._key)
        answer = {"token_type": "Bearer", "expires_in": 3599, "access_token": "opaque", "id_token": token}
        return 200, "application/json", json.dumps(answer).encode()

    def _tells(self, call: Call) -> tuple[int, str, bytes]:
        user = {"sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ", "name": "Abe Lincoln"}
        return 200, "application/json", json.dumps(user).encode()
