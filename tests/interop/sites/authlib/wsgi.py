"""A small Flask application with Authlib that signs people in for others: nginx asks it about every request.

nginx's `auth_request` sends each request for a protected page to /auth first: 204 lets it through, with the user's name
in a header, 401 sends the browser to /login, which comes back. What stands behind nginx then needs to know nothing of
OpenID Connect; that is how Homeward protects an application that has no login of its own.
"""

import os

from authlib.integrations.flask_client import OAuth
from flask import Flask, Response, abort, redirect, request, session, url_for
from werkzeug.middleware.proxy_fix import ProxyFix

application = Flask(__name__)
application.secret_key = os.urandom(32)
application.config.update(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE="Lax")
application.wsgi_app = ProxyFix(application.wsgi_app, x_proto=1)
oauth = OAuth(application)
homeward = oauth.register(
    "homeward",
    server_metadata_url=os.environ["SITE_ISSUER"] + "/.well-known/openid-configuration",
    client_id=os.environ["SITE_CLIENT_ID"],
    client_secret=os.environ["SITE_CLIENT_SECRET"],
    client_kwargs={"scope": "openid profile email", "code_challenge_method": "S256"},
)


@application.get("/auth")
def auth() -> Response:
    """nginx asks: who is this?"""
    if "username" not in session:
        abort(401)
    return Response(status=204, headers={"X-User": session["username"]})


@application.get("/login")
def login() -> Response:
    # A path of this site only: an open redirector would send people anywhere after a login.
    wanted = request.args.get("next", "/")
    session["next"] = wanted if wanted.startswith("/") and not wanted.startswith("//") else "/"
    return homeward.authorize_redirect(url_for("callback", _external=True))


@application.get("/callback")
def callback() -> Response:
    token = homeward.authorize_access_token()
    session["username"] = homeward.userinfo(token=token)["preferred_username"]
    session["id_token"] = token["id_token"]
    return redirect(session.pop("next", "/"), 303)


@application.get("/logout")
def logout() -> Response:
    """Here, and at the broker (RP-initiated logout)."""
    hint = session.pop("id_token", None)
    session.clear()
    address = url_for("goodbye", _external=True)
    return homeward.logout_redirect(post_logout_redirect_uri=address, id_token_hint=hint)


@application.get("/goodbye")
def goodbye() -> str:
    return '<!doctype html><title>Goodbye</title><p id="who">nobody</p>'
