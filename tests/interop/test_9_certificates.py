"""An application that shows its agent's certificate instead of a secret (RFC 8705): Authlib, at the agents' port."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from authlib.integrations.requests_client import OAuth2Session
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certificates import ThrowAwayAuthority
from conftest import ALICE, Addresses
from front import Front
from homeward import Agent, Broker
from person import Person

RECIPE = """
name = "by-certificate"
title = "An application that authenticates by certificate"
description = "It has no secret: it shows the certificate of its agent."

[relying_party]
callback_paths = ["/callback"]
client_auth_method = "tls"
id_token_alg = "RS256"
pkce = true

# The test keeps no keys.
[relying_party.key_set]
proof = "no_cache"

[[relying_party.ways]]
name = "files"
description = ""

[[relying_party.ways.files]]
name = "client.json"
format = "json"
content = { issuer = "${issuer}", client_id = "${client_id}" }
"""


class CertificateAgent(Agent):
    """The agent of such an application, which is the test itself: nobody listens where the agent would ask it."""

    def is_configured(self, **_: object) -> None:
        recipe = self.folder / "recipe.toml"
        recipe.write_text(RECIPE)
        super().is_configured(
            recipe_file=str(recipe),
            app={"url": "http://127.0.0.1:9"},
            relying_party={"credentials_dir": str(self.folder / "credentials")},
        )

    def client(self) -> dict[str, str]:
        return json.loads((self.folder / "credentials" / "current" / "client.json").read_text())

    def certificate(self) -> tuple[tuple[str, str], str]:
        """Files of the instance's certificate and key, and of the CA that it trusts."""
        identity = json.loads((self.folder / "data" / "identity.json").read_text())
        key = serialization.load_der_private_key(base64.b64decode(identity["certificate"]["key"]), None)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.folder / "key.pem").write_bytes(pem)
        (self.folder / "chain.pem").write_bytes(_pem(identity["certificate"]["chain"]))
        (self.folder / "bundle.pem").write_bytes(_pem(identity["bundle"]["certificates"]))
        files = (str(self.folder / "chain.pem"), str(self.folder / "key.pem"))
        return files, str(self.folder / "bundle.pem")


@pytest.fixture(scope="module")
def delta(folder: Path, addresses: Addresses, broker: Broker, front: Front) -> Iterator[CertificateAgent]:
    agent = CertificateAgent(folder / "delta", addresses.delta)
    agent.enrols(broker.join_token("delta"))
    agent.runs()
    front.start()
    broker.says("trust", "allow", "--relying-party", "delta", "--home", "alpha")
    broker.awaits_acknowledgement("delta")
    yield agent
    agent.stop()


def test_alice_logs_in_at_an_application_that_has_no_secret(
    delta: CertificateAgent, authority: ThrowAwayAuthority, alice: Person
) -> None:
    client, (certificate, bundle) = delta.client(), delta.certificate()
    redirect_uri = f"{delta.public.url}/callback"
    session = OAuth2Session(
        client["client_id"],
        token_endpoint_auth_method="none",
        scope="openid profile",
        redirect_uri=redirect_uri,
        code_challenge_method="S256",
    )
    session.trust_env, session.verify = False, str(authority.file)
    metadata = f"{client['issuer']}/.well-known/oauth-authorization-server"
    provider = session.get(metadata, withhold_token=True).json()
    url, state = session.create_authorization_url(provider["authorization_endpoint"], code_verifier="v" * 64)
    arrival = alice.logs_in(url, redirect_uri)

    aliases = provider["mtls_endpoint_aliases"]
    redeemed = {"authorization_response": arrival.url, "state": state, "code_verifier": "v" * 64}
    # It asks for no password and knows no secret, so without its certificate it is nobody.
    session.verify = bundle
    token = session.fetch_token(aliases["token_endpoint"], cert=certificate, verify=bundle, **redeemed)
    session.cert = certificate
    userinfo = session.get(aliases["userinfo_endpoint"]).json()
    assert userinfo["preferred_username"] == f"{ALICE.username}@alpha"

    # Bound to the certificate (RFC 8705 3): a thief without its key has nothing.
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    stolen = alice.http.get(provider["userinfo_endpoint"], headers=headers, timeout=30)
    assert stolen.status_code == 401


def _pem(certificates: list) -> bytes:
    ders = (base64.b64decode(one) if isinstance(one, str) else bytes(one) for one in certificates)
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM) for der in ders)
