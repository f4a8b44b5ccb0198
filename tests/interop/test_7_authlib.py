"""Authlib: as a Flask application that nginx asks about every request, and as a client of every kind of token."""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from urllib.parse import urlencode

import pytest
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import ClientSecretJWT, PrivateKeyJWT
from joserfc.jwk import ECKey

from certificates import ThrowAwayAuthority
from clientside import Call, ClientSide
from conftest import ALICE, SITES, Addresses, alpha_asks, client_environment
from front import Front
from person import Person
from strangers import Strangers
from visitor import Visitor
from website import Site

# Everything is asked about, but what signs people in. Nobody outside may ask /auth, or hand in a name of their own.
GUARDED = """
        location = /auth {{
            internal;
            proxy_pass http://{guard};
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-Proto https;
        }}
        location ~ ^/(login|callback|logout|goodbye)$ {{
            proxy_pass http://{guard};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-Proto https;
        }}
        location / {{
            auth_request /auth;
            auth_request_set $user $upstream_http_x_user;
            error_page 401 = @login;
            proxy_pass http://{application};
            proxy_set_header X-User $user;
        }}
        location @login {{
            return 302 /login?next=$request_uri;
        }}
"""


@pytest.fixture(scope="module")
def application(client_side: ClientSide) -> ClientSide:
    """An application that has no login of its own: it believes the header."""

    def greets(call: Call) -> tuple[int, str, bytes]:
        who = escape(call.headers.get("X-User", ""))
        return 200, "text/html", f'<!doctype html><title>Reports</title><p id="who">{who}</p>'.encode()

    client_side.answers("/reports", greets)
    return client_side


@pytest.fixture(scope="module")
def guard(
    folder: Path,
    strangers: Strangers,
    addresses: Addresses,
    authority: ThrowAwayAuthority,
    application: ClientSide,
    front: Front,
) -> Iterator[Site]:
    url = addresses.authlib.url
    client = strangers.registers(f"{url}/callback", client_name="Reports", post_logout_redirect_uris=[f"{url}/goodbye"])
    site = Site("authlib", SITES / "authlib", folder / "authlib", client_environment(client, strangers.broker, authority))
    site.runs()
    addresses.authlib.locations = GUARDED.format(guard=site.address, application=application.address)
    front.start()
    yield site
    site.stop()


def test_nginx_lets_alice_in_and_nobody_else(guard: Site, addresses: Addresses, visitor: Visitor) -> None:
    visitor.page.set_extra_http_headers({"X-User": "mallory"})
    visitor.page.goto(f"{addresses.authlib.url}/reports")
    visitor.sees("Log in to Reports")
    visitor.page.set_extra_http_headers({})
    visitor.clicks("Alpha")
    alpha_asks(visitor, addresses)
    visitor.sees("Reports")
    assert visitor.page.url == f"{addresses.authlib.url}/reports", "where alice wanted to go"
    visitor.reads("#who", f"{ALICE.username}@alpha")

    visitor.opens(f"{addresses.authlib.url}/logout", title="Goodbye")
    visitor.page.goto(f"{addresses.authlib.url}/reports")
    visitor.sees("Log in to Reports")


class AuthlibClient:
    """Authlib's OAuth2Session, registered for one test."""

    def __init__(self, strangers: Strangers, addresses: Addresses, auth_method: str, **metadata: object) -> None:
        self.redirect_uri = f"{addresses.clients.url}/callback"
        self.issuer = strangers.broker.public.url
        self._ca_file = str(strangers.ca_file)
        self.registered = strangers.registers(self.redirect_uri, token_endpoint_auth_method=auth_method, **metadata)
        self.session = self.new_session(self.registered.get("client_secret"), auth_method)
        self.provider = self.session.get(f"{self.issuer}/.well-known/openid-configuration", withhold_token=True).json()

    def new_session(self, secret: object, auth_method: object) -> OAuth2Session:
        session = OAuth2Session(
            self.registered["client_id"],
            secret,
            token_endpoint_auth_method=auth_method,
            scope="openid profile email",
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
        )
        session.verify = self._ca_file
        session.trust_env = False
        return session

    def logs_in(self, person: Person, verifier: str = "v" * 64, **parameters: str) -> dict:
        url, state = self.session.create_authorization_url(
            self.provider["authorization_endpoint"], code_verifier=verifier, **parameters
        )
        arrival = person.logs_in(url, self.redirect_uri)
        return self.session.fetch_token(
            self.provider["token_endpoint"], authorization_response=arrival.url, state=state, code_verifier=verifier
        )


def test_private_key_jwt(strangers: Strangers, addresses: Addresses, alice: Person) -> None:
    key = ECKey.generate_key("P-256", {"kid": "authlib"}, auto_kid=False)
    client = AuthlibClient(
        strangers, addresses, "private_key_jwt", jwks={"keys": [key.as_dict(private=False) | {"use": "sig"}]}
    )
    client.session = client.new_session(key, PrivateKeyJWT(client.provider["token_endpoint"], alg="ES256"))
    assert client.logs_in(alice)["id_token"]


def test_client_secret_jwt(strangers: Strangers, addresses: Addresses, alice: Person) -> None:
    client = AuthlibClient(strangers, addresses, "client_secret_jwt")
    method = ClientSecretJWT(client.provider["token_endpoint"])
    client.session = client.new_session(client.registered["client_secret"], method)
    assert client.logs_in(alice)["id_token"]


def test_refresh_introspection_and_revocation(strangers: Strangers, addresses: Addresses, alice: Person) -> None:
    client = AuthlibClient(
        strangers, addresses, "client_secret_basic", grant_types=["authorization_code", "refresh_token"]
    )
    session, provider = client.session, client.provider
    # Sent again at every refresh.
    session.scope = "openid profile offline_access"
    token = client.logs_in(alice, prompt="consent")
    userinfo = session.get(provider["userinfo_endpoint"]).json()
    assert userinfo["preferred_username"] == f"{ALICE.username}@alpha"

    turned = session.refresh_token(provider["token_endpoint"])
    assert turned["refresh_token"] != token["refresh_token"]
    asked = session.introspect_token(provider["introspection_endpoint"], token=turned["access_token"])
    assert asked.json()["active"] is True and asked.json()["sub"] == userinfo["sub"]

    revoked = session.revoke_token(
        provider["revocation_endpoint"], token=turned["refresh_token"], token_type_hint="refresh_token"
    )
    assert revoked.status_code == 200
    asked = session.introspect_token(provider["introspection_endpoint"], token=turned["access_token"])
    assert asked.json() == {"active": False}


def test_token_exchange(strangers: Strangers, addresses: Addresses, alice: Person) -> None:
    """For alpha's API, as alice."""
    exchange = "urn:ietf:params:oauth:grant-type:token-exchange"
    client = AuthlibClient(strangers, addresses, "client_secret_basic")
    # Nobody registers that for themselves.
    strangers.has_policy(client.registered["client_id"], "--grant-types", f"authorization_code,{exchange}")
    token = client.logs_in(alice)
    exchanged = client.session.fetch_token(
        client.provider["token_endpoint"],
        grant_type=exchange,
        subject_token=token["access_token"],
        subject_token_type="urn:ietf:params:oauth:token-type:access_token",
        resource=addresses.alpha.url,
    )
    assert exchanged["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert exchanged["access_token"] != token["access_token"]


def test_pushed_authorization_request(strangers: Strangers, addresses: Addresses, alice: Person) -> None:
    """Authlib has no call for RFC 9126: its session pushes what it would have put into the address."""
    client = AuthlibClient(strangers, addresses, "client_secret_basic", require_pushed_authorization_requests=True)
    url, state = client.session.create_authorization_url("https://unused.example/", code_verifier="v" * 64)
    auth = (client.registered["client_id"], client.registered["client_secret"])
    pushed = client.session.post(
        client.provider["pushed_authorization_request_endpoint"],
        data=url.split("?")[1],
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        auth=auth,
        withhold_token=True,
    )
    assert pushed.status_code == 201, pushed.text
    reference = {"client_id": auth[0], "request_uri": pushed.json()["request_uri"]}
    arrival = alice.logs_in(f"{client.provider['authorization_endpoint']}?{urlencode(reference)}", client.redirect_uri)
    token = client.session.fetch_token(
        client.provider["token_endpoint"], authorization_response=arrival.url, state=state, code_verifier="v" * 64
    )
    assert token["id_token"]
