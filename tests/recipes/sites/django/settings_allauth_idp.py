"""django-allauth's own OpenID provider."""

from ordinary import *  # noqa: F403: how Django's settings are shared
from ordinary import DATA_DIR, INSTALLED_APPS, MIDDLEWARE
from signing_key import kept_signing_key

INSTALLED_APPS = [*INSTALLED_APPS, "allauth", "allauth.account", "allauth.idp.oidc"]
MIDDLEWARE = [*MIDDLEWARE, "allauth.account.middleware.AccountMiddleware"]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ALLAUTH_TRUSTED_PROXY_COUNT = 1
IDP_OIDC_PRIVATE_KEY = kept_signing_key(DATA_DIR)
