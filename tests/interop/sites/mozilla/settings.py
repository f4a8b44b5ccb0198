"""A Django site with mozilla-django-oidc, set up as it documents: PKCE, silent renewal, logout at the provider."""

import os
from pathlib import Path

import requests
from django.core.management.utils import get_random_secret_key

DATA_DIR = Path(os.environ["SITE_DATA_DIR"])
PUBLIC_HOST = os.environ["SITE_PUBLIC_HOST"]
ISSUER = os.environ["SITE_ISSUER"]

# One worker, one life: nothing has to outlive it.
SECRET_KEY = get_random_secret_key()
DEBUG = False
ALLOWED_HOSTS = [PUBLIC_HOST]
ROOT_URLCONF = "urls"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "mozilla_django_oidc",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    # Asks the provider again, by prompt=none, when the ID token is older than it may be.
    "mozilla_django_oidc.middleware.SessionRefresh",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True

AUTHENTICATION_BACKENDS = ["users.FederatedUsers"]
LOGIN_URL = "/oidc/authenticate/"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "/"
PROVIDER = requests.get(f"{ISSUER}/.well-known/openid-configuration", timeout=10).json()
OIDC_OP_AUTHORIZATION_ENDPOINT = PROVIDER["authorization_endpoint"]
OIDC_OP_TOKEN_ENDPOINT = PROVIDER["token_endpoint"]
OIDC_OP_USER_ENDPOINT = PROVIDER["userinfo_endpoint"]
OIDC_OP_JWKS_ENDPOINT = PROVIDER["jwks_uri"]
OIDC_OP_END_SESSION_ENDPOINT = PROVIDER.get("end_session_endpoint", "")
OIDC_OP_LOGOUT_URL_METHOD = "users.logout_at_the_provider"
OIDC_RP_CLIENT_ID = os.environ["SITE_CLIENT_ID"]
OIDC_RP_CLIENT_SECRET = os.environ["SITE_CLIENT_SECRET"]
OIDC_RP_SIGN_ALGO = "RS256"
OIDC_RP_SCOPES = "openid profile email"
OIDC_USE_PKCE = True
OIDC_TOKEN_USE_BASIC_AUTH = True
OIDC_STORE_ID_TOKEN = True
OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS = int(os.environ["SITE_RENEW_AFTER_S"])
