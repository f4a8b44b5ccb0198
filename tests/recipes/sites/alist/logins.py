"""Login with a password, and what a user can see and change of himself."""

import base64
import hashlib
import hmac
import os
import struct
import time
from collections.abc import Callable

from flask import Blueprint, Response, g, request

from answers import client_address, failure, signed_in, success
from store import REFUSED, STORE, User

routes = Blueprint("logins", __name__)

_SALT = "https://github.com/alist-org/alist"
_MOST_FAILURES = 5
_LOCKED_S = 300
# Address -> (failures, when they are forgotten).
_failures: dict[str, tuple[int, float]] = {}


@routes.post("/api/auth/login")
def login() -> Response:
    return _login(lambda user, given: given == user.password)


@routes.post("/api/auth/login/hash")
def login_hash() -> Response:
    return _login(lambda user, given: given == hashlib.sha256(f"{user.password}-{_SALT}".encode()).hexdigest())


def _login(is_right: Callable[[User, str], bool]) -> Response:
    """It does not look at `disabled`: whoever is gets a token that is good for nothing."""
    address = client_address()
    failed, until = _failures.get(address, (0, 0.0))
    failed = failed if time.monotonic() < until else 0
    if failed >= _MOST_FAILURES:
        _failures[address] = (failed, time.monotonic() + _LOCKED_S)
        return failure(429, "Too many unsuccessful sign-in attempts have been made using an incorrect username or password, Try again later.")
    given = request.get_json()
    user = STORE.named(given.get("username", ""))
    if user is None or not is_right(user, given.get("password", "")):
        _failures[address] = (failed + 1, time.monotonic() + _LOCKED_S)
        return failure(REFUSED, "password is incorrect" if user else "failed find user: record not found")
    if user.otp_secret and not _is_code(user.otp_secret, given.get("otp_code", "")):
        _failures[address] = (failed + 1, time.monotonic() + _LOCKED_S)
        return failure(402, "Invalid 2FA code")
    _failures.pop(address, None)
    return success({"token": STORE.opens_session(user)})


@routes.get("/api/auth/logout")
@signed_in
def logout() -> Response:
    STORE.sessions.pop(g.token, None)
    return success()


@routes.get("/api/me")
@signed_in
def me() -> Response:
    return success(g.user.described())


@routes.post("/api/me/update")
@signed_in
def update() -> Response:
    """Any `sso_id` is taken as it is given; nobody asks for a proof that it is the user's."""
    given = request.get_json()
    g.user.username = given.get("username", g.user.username)
    g.user.password = given.get("password") or g.user.password
    g.user.sso_id = given.get("sso_id", "")
    return success()


@routes.post("/api/auth/2fa/generate")
@signed_in
def generate() -> Response:
    return success({"qr": "", "secret": base64.b32encode(os.urandom(20)).decode()})


@routes.post("/api/auth/2fa/verify")
@signed_in
def verify() -> Response:
    given = request.get_json()
    if not _is_code(given["secret"], given["code"]):
        return failure(400, "Invalid 2FA code")
    g.user.otp_secret = given["secret"]
    return success()


def _is_code(secret: str, code: str) -> bool:
    """RFC 6238, a step early or late."""
    now = int(time.time()) // 30
    return any(hmac.compare_digest(_code(secret, step), code) for step in (now - 1, now, now + 1))


def _code(secret: str, step: int) -> str:
    digest = hmac.new(base64.b32decode(secret), struct.pack(">Q", step), hashlib.sha1).digest()
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4]) & 0x7FFFFFFF) % 1_000_000:06}"
