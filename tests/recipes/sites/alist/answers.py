"""How AList answers: status 200 whatever happened, and what did in `code`; and who asks."""

import functools
import secrets
from collections.abc import Callable
from typing import Any

from flask import Response, g, jsonify, request

from store import ADMIN, ADMIN_TOKEN, STORE


def success(data: Any = None) -> Response:
    return jsonify({"code": 200, "message": "success", "data": data})


def failure(code: int, message: str) -> Response:
    return jsonify({"code": code, "message": message, "data": None})


def client_address() -> str:
    """It believes every proxy, and so everyone who says that he is one."""
    forwarded = request.headers.get("X-Forwarded-For", "")
    return forwarded.split(",")[0].strip() or request.remote_addr


def signed_in(view: Callable[..., Response]) -> Callable[..., Response]:
    """By the `Authorization` header, without a word before the token; never by a cookie."""

    @functools.wraps(view)
    def guarded(**arguments: Any) -> Response:
        token = request.headers.get("Authorization", "")
        if secrets.compare_digest(token, ADMIN_TOKEN):
            g.user = next(user for user in STORE.users if user.role == ADMIN)
            return view(**arguments)
        user = STORE.numbered(STORE.sessions.get(token, 0))
        if user is None:
            return failure(401, "token is invalidated")
        if user.disabled:
            return failure(401, "Current user is disabled, replace please")
        g.user, g.token = user, token
        return view(**arguments)

    return guarded


def administrator(view: Callable[..., Response]) -> Callable[..., Response]:
    @functools.wraps(view)
    @signed_in
    def guarded(**arguments: Any) -> Response:
        return view(**arguments) if g.user.role == ADMIN else failure(403, "You are not an admin")

    return guarded
