"""Single sign-on with an OpenID provider, in a popup or, in compatibility mode, by redirects."""

import secrets
import time
from typing import Any
from urllib.parse import urlencode

import jwt
import requests
from flask import Blueprint, Response, redirect, render_template_string, request

from answers import client_address, failure
from store import GENERAL, LOCK, OPENLIST, SITE_URL, STORE, TakenName, User

routes = Blueprint("sso", __name__)

_METHODS = ("get_sso_id", "sso_get_token")
_STATE_S = 300
# (address of the client, state) -> when it is forgotten. It is looked up, and not consumed.
_states: dict[tuple[str, str], float] = {}
_ALGORITHMS = [family + size for family in ("RS", "ES", "PS") for size in ("256", "384", "512")]

_POSTS = """<!doctype html><head></head><body><script>
window.opener.postMessage({{ message | tojson }}, "*")
window.close()
</script></body>"""


class SsoError(Exception):
    pass


@routes.get("/api/auth/sso")
def start() -> Response:
    method = request.args.get("method", "")
    if not STORE.is_on("sso_login_enabled"):
        return failure(403, "Single sign-on is not enabled")
    if method not in _METHODS:
        return failure(400, "no method provided")
    if STORE.value("sso_login_platform") != "OIDC":
        return failure(400, "invalid platform")
    try:
        provider = _discovered()
    except (SsoError, requests.RequestException) as error:
        return failure(400, str(error))
    state = secrets.token_hex(8)
    _states[(client_address(), state)] = time.monotonic() + _STATE_S
    scopes = ["openid", "profile", *STORE.value("sso_extra_scopes").split()]
    query = {
        "client_id": STORE.value("sso_client_id"),
        "redirect_uri": _redirect_uri(method),
        "response_type": "code",
        "scope": " ".join(scopes),
        "state": state,
    }
    return redirect(f"{provider['authorization_endpoint']}?{urlencode(query)}")


@routes.get("/api/auth/sso_callback")
def callback() -> Response:
    return _arrives(request.args.get("method", ""))


@routes.get("/api/auth/get_sso_id")
def callback_for_an_id() -> Response:
    return _arrives("get_sso_id")


@routes.get("/api/auth/sso_get_token")
def callback_for_a_token() -> Response:
    return _arrives("sso_get_token")


def _arrives(method: str) -> Response:
    if method not in _METHODS:
        return failure(400, "no method provided")
    if _states.get((client_address(), request.args.get("state", "")), 0.0) < time.monotonic():
        return failure(400, "incorrect or expired state parameter")
    try:
        sso_id = _signed_in_as(request.args.get("code", ""), method)
        if method == "get_sso_id":
            return _says("sso_id", sso_id, "/@manage")
        return _says("token", STORE.opens_session(_account(sso_id)), "/@login")
    except (SsoError, TakenName, jwt.PyJWTError, requests.RequestException) as error:
        return failure(400, str(error))


def _says(name: str, value: str, page: str) -> Response:
    """To the window that opened this one; in compatibility mode in the address of the page itself."""
    if STORE.is_on("sso_compatibility_mode"):
        return redirect(f"{_site(request)}{page}?{urlencode({name: value})}")
    return Response(render_template_string(_POSTS, message={name: value}), mimetype="text/html")


def _account(sso_id: str) -> User:
    with LOCK:
        found = STORE.federated(sso_id)
        if found is not None:
            return found
        if not STORE.is_on("sso_auto_register"):
            raise SsoError("The single sign on platform is not bound to any users: record not found")
        rights: dict[str, Any] = {"permission": int(STORE.value("sso_default_permission"))}
        # A role decides in AList since 3.46, the number in OpenList.
        rights["role"] = GENERAL if OPENLIST else int(STORE.value("default_role"))
        rights["base_path"] = STORE.value("sso_default_dir")
        password = secrets.token_hex(8)
        try:
            return STORE.add(sso_id, password, sso_id=sso_id, **rights)
        except TakenName as error:
            if not str(error).startswith("UNIQUE constraint failed"):
                raise
            return STORE.add(f"{sso_id}_{sso_id}", password, sso_id=sso_id, **rights)


def _signed_in_as(code: str, method: str) -> str:
    provider = _discovered()
    token = _redeemed(provider["token_endpoint"], code, _redirect_uri(method))
    offered = [name for name in provider.get("id_token_signing_alg_values_supported", []) if name in _ALGORITHMS]
    keys = requests.get(provider["jwks_uri"], timeout=10).json()["keys"]
    kid = jwt.get_unverified_header(token)["kid"]
    key = jwt.PyJWK(next(key for key in keys if key["kid"] == kid))
    client_id = STORE.value("sso_client_id")
    claims = jwt.decode(
        token, key, algorithms=offered or ["RS256"], audience=client_id, issuer=STORE.value("sso_endpoint_name")
    )
    found = claims.get(STORE.value("sso_oidc_username_key") or "name")
    if not isinstance(found, str) or not found:
        raise SsoError("cannot get username from OIDC provider")
    return found


def _redeemed(endpoint: str, code: str, redirect_uri: str) -> str:
    """By Basic first; with the same code by the form if that fails."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
    client = (STORE.value("sso_client_id"), STORE.value("sso_client_secret"))
    answer = requests.post(endpoint, data=form, auth=client, timeout=10)
    if not answer.ok:
        form |= {"client_id": client[0], "client_secret": client[1]}
        answer = requests.post(endpoint, data=form, timeout=10)
    if not answer.ok:
        raise SsoError(f'oauth2: "{answer.json().get("error")}" "{answer.json().get("error_description")}"')
    return answer.json()["id_token"]


def _discovered() -> dict:
    """At every request anew. The issuer has to be what is configured, byte for byte."""
    wanted = STORE.value("sso_endpoint_name")
    found = requests.get(f"{wanted.rstrip('/')}/.well-known/openid-configuration", timeout=10).json()
    if found["issuer"] != wanted:
        raise SsoError(f'oidc: issuer did not match the issuer returned by provider, expected "{wanted}" got "{found["issuer"]}"')
    return found


def _redirect_uri(method: str) -> str:
    if STORE.is_on("sso_compatibility_mode"):
        return f"{_site(request)}/api/auth/{method}"
    return f"{_site(request)}/api/auth/sso_callback?method={method}"


def _site(asked) -> str:
    """What is configured, else what the request says of itself."""
    if SITE_URL.startswith("http"):
        return SITE_URL.rstrip("/")
    return f"{asked.headers.get('X-Forwarded-Proto', 'http')}://{asked.headers.get('X-Forwarded-Host', asked.host)}"
