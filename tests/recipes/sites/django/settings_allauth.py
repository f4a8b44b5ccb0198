"""django-allauth with its headless API; providers from the agent's file or from rows of the database."""

import json

from ordinary import *  # noqa: F403: how Django's settings are shared
from ordinary import INSTALLED_APPS, MIDDLEWARE, written_by_the_agent

INSTALLED_APPS = [
    *INSTALLED_APPS,
    "allauth",
    "allauth.account",
    "allauth.headless",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
]
MIDDLEWARE = [*MIDDLEWARE, "allauth.account.middleware.AccountMiddleware"]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
ACCOUNT_EMAIL_VERIFICATION = "optional"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ALLAUTH_TRUSTED_PROXY_COUNT = 1
# It counts logins by address, and all the people of a test have the same.
ACCOUNT_RATE_LIMITS = False
HEADLESS_ADAPTER = "headless_names.NamedUserAdapter"
HEADLESS_CLIENTS = ("browser",)
SOCIALACCOUNT_LOGIN_ON_GET = True

# What the recipe asks of a site whose way is `settings_file`; the way `database` needs nothing here.
SOCIALACCOUNT_PROVIDERS = json.loads(written_by_the_agent("homeward_allauth.json") or "{}")
