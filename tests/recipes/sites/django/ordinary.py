"""What every Django site here has in common: an ordinary project, behind nginx, that knows nothing of Homeward.

The environment says which one it is (SITE_*). Each settings_….py takes these and adds what its package's own documents ask
for; what is read from a file there is what the agent writes.
"""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.core.management.utils import get_random_secret_key

DATA_DIR = Path(os.environ["SITE_DATA_DIR"])
ENGINES = {"sqlite": "sqlite3", "postgres": "postgresql", "mysql": "mysql"}


def kept_secret_key() -> str:
    """The same for every process and across restarts, or sessions would not survive the agent's reload."""
    file = DATA_DIR / "secret_key"
    if not file.exists():
        file.write_text(get_random_secret_key())
        file.chmod(0o600)
    return file.read_text()


def database(url: str) -> dict[str, object]:
    """Django's words for a database's URL."""
    parts = urlsplit(url)
    if parts.scheme == "mysql":
        import pymysql

        # Django asks for mysqlclient, which is C; this is the same interface without a compiler.
        pymysql.version_info = (2, 2, 7, "final", 0)
        pymysql.install_as_MySQLdb()
    if parts.scheme == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": parts.path, "OPTIONS": {"timeout": 20}}
    return {
        "ENGINE": f"django.db.backends.{ENGINES[parts.scheme]}",
        "HOST": parts.hostname,
        "PORT": parts.port,
        "NAME": parts.path.removeprefix("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
    }


class NoMigrations:
    """Tables are made as they are to be: the way there, of every release of every package, takes longer than most tests."""

    def __contains__(self, app: str) -> bool:
        return True

    def __getitem__(self, app: str) -> None:
        return None


def written_by_the_agent(name: str) -> str | None:
    """The file that a recipe has the agent write, if it has done so yet."""
    file = Path(os.environ["SITE_CREDENTIALS_DIR"]) / "current" / name
    return file.read_text() if file.exists() else None


SECRET_KEY = kept_secret_key()
DEBUG = False
ALLOWED_HOSTS = [os.environ["SITE_PUBLIC_HOST"]]
ROOT_URLCONF = os.environ["DJANGO_SETTINGS_MODULE"].replace("settings_", "urls_")
STATIC_URL = "/static/"
TIME_ZONE = "UTC"
USE_TZ = True
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
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
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
DATABASES = {"default": database(os.environ.get("SITE_DATABASE_URL", f"sqlite://{DATA_DIR}/db.sqlite3"))}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": DATA_DIR / "cache"}}
MIGRATION_MODULES = NoMigrations()
# Nobody steals this database: hashes that take long to try take long for the tests too.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = DATA_DIR / "mail"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}

# Behind nginx, which ends TLS and overwrites this header.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
LOGIN_URL = "/accounts/login/"
