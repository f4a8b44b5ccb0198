"""InvenTree's stand-in and AList's double as their operators and administrators have them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import shutil
import signal
import socket
import struct
import time
from pathlib import Path
from typing import Any

import requests

from federation import eventually
from front import PublicAddress
from homeward import Agent
from processes import Program
from website import Account, DjangoSite, Site

SITES = Path(__file__).parent / "sites"
SERVICE = Path(__file__).parents[1] / "stage" / "service.py"

_CREATE_ADMINISTRATOR = """
import sys
from django.contrib.auth.models import User
from common.models import ApiToken
root = User.objects.create_superuser("root")
ApiToken.objects.create(user=root, key=sys.stdin.read(), name="administration")
"""

_SECOND_FACTOR = """
import sys
from allauth.mfa.totp.internal.auth import TOTP
from django.contrib.auth.models import User
username, secret = sys.stdin.read().splitlines()
TOTP.activate(User.objects.get(username=username), secret)
"""


_VERIFY_ADDRESS = """
import sys
from allauth.account.models import EmailAddress
from django.contrib.auth.models import User
user = User.objects.get(username=sys.stdin.read())
EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
"""


def now_code(secret: str) -> str:
    """What an authenticator app shows (RFC 6238)."""
    digest = hmac.new(base64.b32decode(secret), struct.pack(">Q", int(time.time()) // 30), hashlib.sha1).digest()
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"


class InvenTree(DjangoSite):
    """One, as a service: its environment is in a file, and only a restart makes it read that again."""

    agent: Agent
    source = SITES / "inventree"
    # The administrator's, of every one of a run: they begin with the same database.
    token = f"inv-{secrets.token_hex(20)}"

    def __init__(self, public: PublicAddress, folder: Path, ca_file: Path, *accounts: Account, **environment: str):
        self.public = public
        self.folder = folder / public.name
        self.config_file = self.folder / "config.yaml"
        self.env_file = self.folder / "inventree.env"
        self._accounts = accounts
        self._state = self.folder / "data" / "starts"
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self._port = unused.getsockname()[1]
        every = {
            "REQUESTS_CA_BUNDLE": str(ca_file),
            "INVENTREE_CONFIG_FILE": str(self.config_file),
            "INVENTREE_SITE_URL": public.url,
            "INVENTREE_USE_X_FORWARDED_PROTO": "True",
            "INVENTREE_SESSION_COOKIE_SECURE": "True",
        }
        super().__init__(public.name, self.source, self.folder, every | environment)
        self._socket.close()
        for file in (self.config_file, self.env_file):
            self.writes(file, "")
        public.behind["/"] = self.address

    def _makes_database(self) -> None:
        """Every fresh InvenTree has the same: the first of a run is copied."""
        fresh, own = self.folder.parent / "fresh-inventree.sqlite3", self._data_dir / "db.sqlite3"
        if not fresh.exists():
            self._django("migrate", "--run-syncdb", "--verbosity", "0")
            self._django("shell", "--verbosity", "0", "--command", _CREATE_ADMINISTRATOR, stdin=self.token)
            shutil.copyfile(own, fresh)
        shutil.copyfile(fresh, own)
        if self.user:
            shutil.chown(own, self.user, self.user)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def database_url_file(self) -> Path:
        return self.agent_secret("database-url", f"sqlite://{self._data_dir / 'db.sqlite3'}")

    def agent_secret(self, name: str, content: str) -> Path:
        """A file that nobody but the agent may read."""
        file = self.folder / name
        file.touch(0o600)
        file.write_text(content)
        return file

    def writes(self, file: Path, content: str) -> None:
        """What its operator edits: files of the user that it runs as."""
        file.touch(0o600)
        file.write_text(content)
        if self.user:
            shutil.chown(file, self.user, self.user)

    def runs(self) -> None:
        self.starts_up()
        self.answers()
        self.add(*self._accounts)

    def starts_up(self) -> None:
        gunicorn = [self.bin / "gunicorn", "--bind", self.address, "--preload", "--no-control-socket"]
        self._gunicorn = Program(
            f"{self.name}-service",
            [self.bin / "python", SERVICE, self.env_file, self._state, *gunicorn, "wsgi:application"],
            env=self._environment,
            user=self.user,
        )

    def answers(self) -> None:
        """Waits until it does, whatever it answers."""
        eventually(f"{self.name} answers", self._is_up)

    def _is_up(self) -> bool:
        try:
            return bool(self.asks("GET", "/api/"))
        except requests.ConnectionError:
            return False

    @property
    def restart_command(self) -> list[str]:
        """As `systemctl restart` would: it returns when the new program has been started."""
        script = self.folder / "restart"
        script.write_text(
            f'#!/bin/sh\nbefore=$(cat {self._state})\nkill -HUP {self._gunicorn.pid}\n'
            f'until [ "$(cat {self._state})" != "$before" ]; do sleep 0.05; done\n'
        )
        script.chmod(0o755)
        return [str(script)]

    def restarts(self) -> None:
        before = self.starts
        self._gunicorn.signals(signal.SIGHUP)
        eventually(f"{self.name} is started again", lambda: self.starts != before)
        self.answers()

    @property
    def starts(self) -> int:
        """How often it was started."""
        return int(self._state.read_text() or 0)

    def add(self, *accounts: Account) -> None:
        """In the administration."""
        for account in accounts:
            names = {"username": account.username, "first_name": account.first_name, "last_name": account.last_name}
            made = self.administers("POST", "/api/user/", names | {"email": account.email})
            self.administers("PUT", f"/api/user/{made['pk']}/set-password/", {"password": account.password})

    def asks(self, method: str, path: str, body: Any = None, token: str | None = None) -> requests.Response:
        """The API, past its reverse proxy, as an administrator."""
        headers = {"Host": self.public.url.removeprefix("https://"), "X-Forwarded-Proto": "https"}
        headers |= {"Authorization": f"Token {token or self.token}"}
        return requests.request(method, f"http://{self.address}{path}", json=body, headers=headers, timeout=30)

    def administers(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.asks(method, path, body)
        assert answer.ok, answer.text
        return answer.json() if answer.content and answer.status_code != 204 else None

    def sets(self, **settings: Any) -> None:
        """Global settings, in the administration."""
        for key, value in settings.items():
            self.administers("PATCH", f"/api/settings/global/{key}/", {"value": value})

    def described(self, username: str) -> dict[str, Any]:
        (found,) = self.administers("GET", f"/api/user/?username={username}")
        return found

    def usernames(self) -> set[str]:
        return {user["username"] for user in self.administers("GET", "/api/user/")}

    def puts_into_groups(self, username: str, *groups: str) -> None:
        known = {group["name"]: group["pk"] for group in self.administers("GET", "/api/user/group/")}
        for name in groups:
            if name not in known:
                known = {
                    group["name"]: group["pk"]
                    for group in self.administers("POST", "/api/user/group/", {"name": name})
                }
        pk = self.described(username)["pk"]
        self.administers("PATCH", f"/api/user/{pk}/", {"group_ids": [known[name] for name in groups]})

    def verifies_address(self, username: str) -> None:
        """As if the user had followed the link in the mail."""
        self._django("shell", "--verbosity", "0", "--command", _VERIFY_ADDRESS, stdin=username)

    def turns_second_factor_on(self, username: str) -> str:
        """As the user would in the settings; returns what the authenticator app keeps."""
        secret = base64.b32encode(secrets.token_bytes(20)).decode()
        self._django("shell", "--verbosity", "0", "--command", _SECOND_FACTOR, stdin=f"{username}\n{secret}")
        return secret

    def groups_of(self, username: str) -> set[str]:
        return {group["name"] for group in self.described(username)["groups"]}

    def providers(self) -> list[dict[str, Any]]:
        """What its login page offers."""
        answer = self.asks("GET", "/api/auth/v1/config")
        assert answer.status_code == 200, f"the login page is broken: {answer.status_code}"
        return answer.json()["data"]["socialaccount"]["providers"]


class AList(Site):
    """One, with its administrator."""

    agent: Agent

    def __init__(self, public: PublicAddress, folder: Path, ca_file: Path, **environment: str) -> None:
        self.public = public
        self.folder = folder / public.name
        self.token = f"alist-{secrets.token_hex(20)}"
        self.password = secrets.token_urlsafe()
        every = {
            "REQUESTS_CA_BUNDLE": str(ca_file),
            "ALIST_ADMIN_TOKEN": self.token,
            "ALIST_ADMIN_PASSWORD": self.password,
            "ALIST_TITLE": public.name.capitalize(),
            "ALIST_SITE_URL": public.url,
        }
        super().__init__(public.name, SITES / "alist", self.folder, every | environment)
        self.token_file = self.folder / "admin-token"
        self.token_file.touch(0o600)
        self.token_file.write_text(self.token + "\n")
        public.behind["/"] = self.address

    def asks(self, method: str, path: str, body: Any = None, token: str = "", **headers: str) -> dict[str, Any]:
        """Its API answers 200 whatever happened."""
        answer = requests.request(
            method,
            f"http://{self.address}/api/{path}",
            json=body,
            headers={"Authorization": token, **headers},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def administers(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.asks(method, f"admin/{path}", body, self.token)
        assert answer["code"] == 200, answer
        return answer["data"]

    def settings(self) -> dict[str, dict[str, Any]]:
        return {item["key"]: item for item in self.administers("GET", "setting/list?group=7")}

    def sets(self, **values: str) -> None:
        items = self.settings()
        self.administers("POST", "setting/save", [items[key] | {"value": value} for key, value in values.items()])

    def users(self) -> dict[str, dict[str, Any]]:
        return {user["username"]: user for user in self.administers("GET", "user/list")["content"]}

    def add(self, account: Account, **rest: Any) -> None:
        self.administers("POST", "user/create", {"username": account.username, "password": account.password} | rest)

    def changes(self, account: str, /, **rest: Any) -> None:
        self.administers("POST", "user/update", self.users()[account] | rest)

    def removes(self, username: str) -> None:
        self.administers("POST", f"user/delete?id={self.users()[username]['id']}")

    def turns_second_factor_on(self, account: Account) -> str:
        """As the user would in the profile; returns what the authenticator app keeps."""
        token = self.asks("POST", "auth/login", {"username": account.username, "password": account.password})
        token = token["data"]["token"]
        secret = self.asks("POST", "auth/2fa/generate", {}, token)["data"]["secret"]
        assert self.asks("POST", "auth/2fa/verify", {"secret": secret, "code": now_code(secret)}, token)["code"] == 200
        return secret
