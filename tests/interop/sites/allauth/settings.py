"""One ordinary Django site with django-allauth, as an operator would set it up; every instance of the tests runs it.

The environment says which one it is (SITE_*). The only thing in here that knows of Homeward is the last paragraph, and
that is what the agent's documentation asks of an operator: read the file that the agent writes.
"""

import json
import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

DATA_DIR = Path(os.environ["SITE_DATA_DIR"])
PUBLIC_HOST = os.environ["SITE_PUBLIC_HOST"]


def kept_secret_key() -> str:
    """The same for every worker and across reloads, or sessions would not survive the agent's reload."""
    file = DATA_DIR / "secret_key"
    if not file.exists():
        file.write_text(get_random_secret_key())
        file.chmod(0o600)
    return file.read_text()


SECRET_KEY = kept_secret_key()
DEBUG = False
ALLOWED_HOSTS = [PUBLIC_HOST]
ROOT_URLCONF = "urls"
STATIC_URL = "/static/"
TIME_ZONE = "UTC"
USE_TZ = True
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "allauth",
    "allauth.account",
    "allauth.headless",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / "db.sqlite3"}}
# allauth keeps rate limits and the `jti` of used ID tokens in the cache, so the workers have to share it.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": DATA_DIR / "cache"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = DATA_DIR / "mail"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}

# Behind nginx, which ends TLS and overwrites these headers.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True

LOGIN_REDIRECT_URL = "/"
ACCOUNT_EMAIL_VERIFICATION = "optional"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ALLAUTH_TRUSTED_PROXY_COUNT = 1

# What Homeward's recipe for django-allauth asks of a site: the headless API, with the names of its users …
HEADLESS_ADAPTER = "adapters.NamedUserAdapter"
HEADLESS_CLIENTS = ("browser",)
# … and its providers from the file that the agent writes.
SOCIALACCOUNT_LOGIN_ON_GET = True
HOMEWARD_FILE = Path(os.environ["SITE_CREDENTIALS_DIR"]) / "current" / "homeward_allauth.json"
SOCIALACCOUNT_PROVIDERS = json.loads(HOMEWARD_FILE.read_text()) if HOMEWARD_FILE.exists() else {}
