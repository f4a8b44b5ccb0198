"""Sites in Python as their operators run them: gunicorn, sqlite, their own user."""

import os
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from processes import REPOSITORY, Program, application_user, identity

WEBSITE = REPOSITORY / "tests" / "interop" / "sites" / "allauth"
BIN = Path(sys.executable).parent

_CREATE_USER = """
import sys
from allauth.account.models import EmailAddress
from django.contrib.auth.models import User
username, password, email, first_name, last_name = sys.stdin.read().splitlines()
user = User.objects.create_user(username, email, password, first_name=first_name, last_name=last_name)
EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
"""


@dataclass(frozen=True)
class Account:
    """A user, with what only the user knows."""

    username: str
    password: str
    email: str
    first_name: str
    last_name: str


class Site:
    """Any folder of a part's sites: what its `wsgi.py` calls `application`."""

    # Where its Python and its packages are; most sites share the tests' own.
    bin = BIN

    def __init__(self, name: str, source: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.user = application_user()
        self._data_dir = folder / "data"
        self._data_dir.mkdir(parents=True, mode=0o700)
        if self.user:
            shutil.chown(self._data_dir, self.user, self.user)
        self._environment = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(source),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SITE_DATA_DIR": str(self._data_dir),
            **environment,
        }
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._gunicorn: Program | None = None

    @property
    def address(self) -> str:
        """Where it is reached without its reverse proxy."""
        return "{}:{}".format(*self._socket.getsockname())

    @property
    def owner(self) -> dict[str, str]:
        """Whose the files are that an agent writes for it, in the words of `agent.toml`."""
        return {"owner": self.user, "group": self.user} if self.user else {}

    def runs(self, *, workers: int = 1, threads: int = 1) -> None:
        number = self._socket.fileno()
        options = ["--bind", f"fd://{number}", "--workers", str(workers), "--threads", str(threads), "--no-control-socket"]
        self._gunicorn = Program(
            f"{self.name}-gunicorn",
            [self.bin / "gunicorn", *options, "wsgi:application"],
            env=self._environment,
            user=self.user,
            pass_fds=[number],
        )

    def stop(self) -> None:
        if self._gunicorn:
            self._gunicorn.stop()
        self._socket.close()


class DjangoSite(Site):
    """One with a database."""

    def __init__(self, name: str, source: Path, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(name, source, folder, {"DJANGO_SETTINGS_MODULE": "settings", **environment})
        self._makes_database()
        # It will hold the client's secret.
        for file in self._data_dir.glob("db.sqlite3"):
            file.chmod(0o600)
        # What an operator gives the agent to run: Python, as the site's user and with the site's environment.
        self.python = folder / "python"
        self.python.write_text(self._as_the_site(self.bin / "python"))
        self.python.chmod(0o755)

    def _makes_database(self) -> None:
        self._django("migrate", "--verbosity", "0")

    @property
    def reload_command(self) -> list[str]:
        """What makes it read its settings again."""
        return ["kill", "-HUP", str(self._gunicorn.pid)]

    def rows(self, query: str) -> list[tuple]:
        """Looks into its database, past everything that could make it look better than it is."""
        # The database keeps a journal beside itself, so its owner has to be the one who opens it: a copy is enough.
        copy = self._data_dir.parent / "look.sqlite3"
        shutil.copyfile(self._data_dir / "db.sqlite3", copy)
        with sqlite3.connect(copy) as connection:
            found = connection.execute(query).fetchall()
        connection.close()
        return found

    def _django(self, *arguments: str, stdin: str = "") -> None:
        subprocess.run(
            [self.bin / "django-admin", *arguments],
            input=stdin,
            text=True,
            check=True,
            env=self._environment,
            cwd=os.sep,
            **identity(self.user),
        )

    def _as_the_site(self, program: Path) -> str:
        environment = [shlex.quote(f"{name}={value}") for name, value in self._environment.items()]
        user = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"] if self.user else []
        return f'#!/bin/sh\nexec {" ".join([*user, "env", *environment, str(program)])} "$@"\n'


class Website(DjangoSite):
    """A member of the federation: Django with django-allauth, with an agent beside it."""

    def __init__(self, name: str, folder: Path, public_host: str, ca_file: Path) -> None:
        self.credentials_dir = folder / "credentials"
        environment = {
            "REQUESTS_CA_BUNDLE": str(ca_file),
            "SITE_PUBLIC_HOST": public_host,
            "SITE_CREDENTIALS_DIR": str(self.credentials_dir),
        }
        super().__init__(name, WEBSITE, folder, environment)
        self.runs(workers=2)

    @property
    def manage(self) -> Path:
        return WEBSITE / "manage.py"

    def add(self, account: Account) -> None:
        """Registers a user whose email address is verified."""
        fields = [account.username, account.password, account.email, account.first_name, account.last_name]
        self._django("shell", "--verbosity", "0", "--command", _CREATE_USER, stdin="\n".join(fields))
