"""mozilla-django-oidc as its documents set it up: accounts are found again by e-mail address."""

import shlex

from ordinary import *  # noqa: F403: how Django's settings are shared
from ordinary import INSTALLED_APPS, MIDDLEWARE, written_by_the_agent

INSTALLED_APPS = [*INSTALLED_APPS, "mozilla_django_oidc"]
MIDDLEWARE = [*MIDDLEWARE, "mozilla_django_oidc.middleware.SessionRefresh"]
AUTHENTICATION_BACKENDS = ["mozilla_django_oidc.auth.OIDCAuthenticationBackend"]
LOGIN_URL = "/oidc/authenticate/"
LOGIN_REDIRECT_URL_FAILURE = "/failed/"
# Of the package's settings: without an address of its own, a site that is not set up yet cannot start.
OIDC_OP_AUTHORIZATION_ENDPOINT = OIDC_OP_TOKEN_ENDPOINT = OIDC_OP_USER_ENDPOINT = OIDC_OP_JWKS_ENDPOINT = ""
OIDC_RP_CLIENT_ID = OIDC_RP_CLIENT_SECRET = ""

# What the recipe asks of a site: NAME=value lines, as for systemd or docker. On and off are words there.
for line in (written_by_the_agent("homeward_oidc.env") or "").splitlines():
    name, _, value = shlex.split(line, comments=True)[0].partition("=") if line.strip(" #") else ("_", "", "")
    globals()[name] = {"true": True, "false": False}.get(value, value)
