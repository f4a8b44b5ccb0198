"""A stand-in for InvenTree: what its single sign-on is made of (django-allauth, headless), with its settings.

InvenTree itself is no package of a registry. This site has its addresses, its configuration and its rules about who may
log in, as its source has them; nothing of its source is here.
"""

import os
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.core.management.utils import get_random_secret_key

from configuration import flag, mapping, setting, words

DATA_DIR = Path(os.environ["SITE_DATA_DIR"])
SITE_URL = setting("INVENTREE_SITE_URL", "site_url", "")


def kept(name: str, made: str) -> str:
    """The same for every worker and after every restart."""
    file = DATA_DIR / name
    if not file.exists():
        file.write_text(made)
        file.chmod(0o600)
    return file.read_text()


SECRET_KEY = kept("secret_key.txt", get_random_secret_key())
DEBUG = False
ALLOWED_HOSTS = [urlsplit(SITE_URL).hostname]
CSRF_TRUSTED_ORIGINS = [SITE_URL]
ROOT_URLCONF = "urls"
STATIC_URL = "/static/"
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "DIRS": [Path(__file__).parent / "templates"],
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
    "allauth.usersessions",
    "oauth2_provider",
    "common",
]
MIDDLEWARE = [
    "middleware.ForwardedAddress",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "allauth.usersessions.middleware.UserSessionsMiddleware",
    "middleware.EnforcedSecondFactor",
]
AUTHENTICATION_BACKENDS = [
    "oauth2_provider.backends.OAuth2Backend",
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
# As secure as passwords of a test have to be: each login waits for this.
PASSWORD_HASHERS = ["hashing.QuickPBKDF2PasswordHasher"]
# The agent writes here too: a transaction that reads before it writes must hold SQLite's lock from the start.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "db.sqlite3",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}


class NoMigrations:
    """Tables are made as they are to be: the way there, of every release of every package, takes longer than most tests."""

    def __contains__(self, app: str) -> bool:
        return True

    def __getitem__(self, app: str) -> None:
        return None


MIGRATION_MODULES = NoMigrations()
CACHES = {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": DATA_DIR / "cache"}}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}

# InvenTree counts its mail server as configured when it has a host and a sender.
EMAIL_HOST = setting("INVENTREE_EMAIL_HOST", "email_host", "")
DEFAULT_FROM_EMAIL = setting("INVENTREE_EMAIL_SENDER", "email_sender", "") or "inventree@localhost"
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = DATA_DIR / "mail"

USE_X_FORWARDED_HOST = flag("INVENTREE_USE_X_FORWARDED_HOST", "use_x_forwarded_host")
if flag("INVENTREE_USE_X_FORWARDED_PROTO", "use_x_forwarded_proto"):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = flag("INVENTREE_SESSION_COOKIE_SECURE", "session_cookie_secure")
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE
LOGIN_URL = "/web/login"
LOGIN_REDIRECT_URL = "/web"

HEADLESS_ONLY = True
HEADLESS_CLIENTS = "browser"
HEADLESS_FRONTEND_URLS = {
    "account_confirm_email": "/web/verify-email/{key}",
    "account_reset_password": "/web/reset-password",
    "account_reset_password_from_key": "/web/set-password?key={key}",
    "account_signup": "/web/register",
    "socialaccount_login_error": "/web/logged-in",
}
ACCOUNT_ADAPTER = "auth_overrides.AccountAdapter"
ACCOUNT_DEFAULT_HTTP_PROTOCOL = setting(
    "INVENTREE_LOGIN_DEFAULT_HTTP_PROTOCOL", "login_default_protocol", urlsplit(SITE_URL).scheme or "http"
)
ACCOUNT_EMAIL_VERIFICATION = "optional"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
# InvenTree writes the limit down twice, and its allauth counts every failure for both: half of it locks an address, with
# everybody behind it.
LOGIN_ATTEMPTS = int(setting("INVENTREE_LOGIN_ATTEMPTS", "login_attempts", 5))
ACCOUNT_RATE_LIMITS = {"login_failed": f"{(LOGIN_ATTEMPTS + 1) // 2}/m/ip"}
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
MFA_TRUST_ENABLED = True
USERSESSIONS_TRACK_ACTIVITY = True

SOCIALACCOUNT_ADAPTER = "auth_overrides.SocialAccountAdapter"
SOCIALACCOUNT_OPENID_CONNECT_URL_PREFIX = ""
SOCIALACCOUNT_STORE_TOKENS = True
SOCIALACCOUNT_PROVIDERS = mapping("INVENTREE_SOCIAL_PROVIDERS", "social_providers")
for _backend in words("INVENTREE_SOCIAL_BACKENDS", "social_backends"):
    _prefix = "allauth.socialaccount.providers."
    INSTALLED_APPS.append(_backend if _backend.startswith(_prefix) else _prefix + _backend)

# Settings of the administration that the configuration decides: nobody can change them there.
GLOBAL_SETTINGS_OVERRIDES = mapping("INVENTREE_GLOBAL_SETTINGS", "global_settings")
if _enforced := setting("INVENTREE_LOGIN_ENFORCE_MFA", "login_enforce_mfa"):
    GLOBAL_SETTINGS_OVERRIDES["LOGIN_ENFORCE_MFA"] = _enforced

# Its own OpenID provider, off unless the flag is set.
FLAGS = mapping("INVENTREE_FLAGS", "flags")
OIDC_PROVIDER = any(condition.get("value") for condition in FLAGS.get("OIDC", []))


def _made_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


OAUTH2_PROVIDER = {
    "OIDC_ENABLED": True,
    "OIDC_RSA_PRIVATE_KEY": (
        (DATA_DIR / "oidc.pem").read_text() if (DATA_DIR / "oidc.pem").exists() else kept("oidc.pem", _made_key())
    )
    if OIDC_PROVIDER
    else "",
    "OIDC_RP_INITIATED_LOGOUT_ENABLED": False,
    "PKCE_REQUIRED": False,
    "ACCESS_TOKEN_EXPIRE_SECONDS": 36000,
    "AUTHORIZATION_CODE_EXPIRE_SECONDS": 60,
    "SCOPES": {"openid": "OpenID Connect", "g:read": "Read all", "g:staff": "Staff"},
}
