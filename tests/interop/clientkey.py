"""A key of a client, and what it signs: assertions and request objects, right ones and hostile ones."""

import json
import secrets
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Key:
    """RSA, for RS256."""

    def __init__(self, kid: str) -> None:
        self.kid = kid
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.private.public_key()))
        self.jwk = {"kty": "RSA", "n": public["n"], "e": public["e"], "kid": kid, "use": "sig", "alg": "RS256"}

    @property
    def public_pem(self) -> bytes:
        """What an attacker takes for an HMAC secret."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def signs(self, claims: dict[str, Any], **headers: Any) -> str:
        return jwt.encode(claims, self.private, algorithm="RS256", headers={"kid": self.kid, **headers})

    def asserts(self, client_id: str, audience: str) -> dict[str, str]:
        """What authenticates a client (RFC 7523 2.2)."""
        return as_assertion(client_id, self.signs(assertion_claims(client_id, audience)))


def assertion_claims(client_id: str, audience: Any) -> dict[str, Any]:
    now = int(time.time())
    jti = secrets.token_urlsafe()
    return {"iss": client_id, "sub": client_id, "aud": audience, "iat": now, "exp": now + 60, "jti": jti}


def as_assertion(client_id: str, assertion: str) -> dict[str, str]:
    return {"client_id": client_id, "client_assertion_type": JWT_BEARER, "client_assertion": assertion}
