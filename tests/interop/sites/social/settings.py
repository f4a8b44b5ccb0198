"""A Django site with social-auth-app-django and its generic OpenID Connect backend."""

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

DATA_DIR = Path(os.environ["SITE_DATA_DIR"])
PUBLIC_HOST = os.environ["SITE_PUBLIC_HOST"]

SECRET_KEY = get_random_secret_key()
DEBUG = False
ALLOWED_HOSTS = [PUBLIC_HOST]
ROOT_URLCONF = "urls"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "social_django",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "social_django.middleware.SocialAuthExceptionMiddleware",
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

AUTHENTICATION_BACKENDS = ["social_core.backends.open_id_connect.OpenIdConnectAuth"]
LOGIN_REDIRECT_URL = "/"
LOGIN_ERROR_URL = "/failed/"
SOCIAL_AUTH_REDIRECT_IS_HTTPS = True
SOCIAL_AUTH_OIDC_OIDC_ENDPOINT = os.environ["SITE_ISSUER"]
SOCIAL_AUTH_OIDC_KEY = os.environ["SITE_CLIENT_ID"]
SOCIAL_AUTH_OIDC_SECRET = os.environ["SITE_CLIENT_SECRET"]
SOCIAL_AUTH_OIDC_USE_PKCE = True
# Refresh tokens are redeemed this way whatever is set: codes should not be redeemed another way.
SOCIAL_AUTH_OIDC_TOKEN_ENDPOINT_AUTH_METHOD = "client_secret_post"
SOCIAL_AUTH_OIDC_SCOPE = ["offline_access"]
# offline_access needs the user's word (OpenID Connect Core 11).
SOCIAL_AUTH_OIDC_PROMPT = "consent"
