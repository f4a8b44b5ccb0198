"""social-auth-app-django with its generic OpenID Connect backend."""

import json

from ordinary import *  # noqa: F403: how Django's settings are shared
from ordinary import INSTALLED_APPS, MIDDLEWARE, written_by_the_agent

INSTALLED_APPS = [*INSTALLED_APPS, "social_django"]
MIDDLEWARE = [*MIDDLEWARE, "social_django.middleware.SocialAuthExceptionMiddleware"]
AUTHENTICATION_BACKENDS = [
    "social_core.backends.open_id_connect.OpenIdConnectAuth",
    "django.contrib.auth.backends.ModelBackend",
]
LOGIN_URL = "/"
LOGIN_ERROR_URL = "/failed/"
SOCIAL_AUTH_REDIRECT_IS_HTTPS = True
SOCIAL_AUTH_URL_NAMESPACE = "social"

# What the recipe asks of a site.
globals().update(json.loads(written_by_the_agent("homeward_social_auth.json") or "{}"))
