"""Users, settings and sessions."""

import itertools
import os
import secrets
import threading
from dataclasses import dataclass, field

GENERAL, GUEST, ADMIN = 0, 1, 2
ROLE_NAMES = {GENERAL: "general", GUEST: "guest", ADMIN: "admin"}
OPENLIST = os.environ.get("ALIST_FLAVOUR") == "openlist"
# What a wrong login, or a request without one, is answered with.
REFUSED = 401 if OPENLIST else 400
SITE_URL = os.environ.get("ALIST_SITE_URL", "")
ADMIN_TOKEN = os.environ["ALIST_ADMIN_TOKEN"]

SSO_GROUP = 7
# One process, many threads.
LOCK = threading.RLock()


class TakenName(Exception):
    """In the words of the database."""


@dataclass
class User:
    id: int
    username: str
    password: str
    base_path: str = "/"
    role: int = GENERAL
    permission: int = 0
    disabled: bool = False
    sso_id: str = ""
    otp_secret: str = ""

    def described(self) -> dict:
        """As `/api/me` and the administration show it: there is no e-mail address, and no name but the login's."""
        shown = {
            "id": self.id,
            "username": self.username,
            "password": "",
            "base_path": self.base_path,
            "permission": self.permission,
            "disabled": self.disabled,
            "sso_id": self.sso_id,
            "otp": bool(self.otp_secret),
        }
        if OPENLIST:
            return shown | {"role": self.role}
        return shown | {"role": [self.role], "role_names": [ROLE_NAMES[self.role]]}


@dataclass
class Setting:
    key: str
    value: str
    type: str = "string"
    help: str = ""
    options: str = ""
    group: int = SSO_GROUP
    flag: int = 1


def _settings() -> dict[str, Setting]:
    platforms = "Casdoor,Github,Microsoft,Google,Dingtalk,OIDC"
    found = [
        Setting("site_title", os.environ.get("ALIST_TITLE", "AList"), group=1, flag=0),
        Setting("version", "v4.0.8" if OPENLIST else "v3.52.0", group=1, flag=2),
        Setting("default_role", str(GENERAL), "number", group=1),
        Setting("sso_login_enabled", "false", "bool", flag=0),
        Setting("sso_login_platform", "", "select", options=platforms, flag=0),
        Setting("sso_client_id", ""),
        Setting("sso_client_secret", ""),
        Setting("sso_oidc_username_key", "name"),
        Setting("sso_organization_name", ""),
        Setting("sso_application_name", ""),
        Setting("sso_endpoint_name", ""),
        Setting("sso_jwt_public_key", "", "text"),
        Setting("sso_extra_scopes", ""),
        Setting("sso_auto_register", "false", "bool"),
        Setting("sso_default_dir", "/"),
        Setting("sso_default_permission", "0", "number"),
        Setting("sso_compatibility_mode", "false", "bool", flag=0),
    ]
    return {setting.key: setting for setting in found}


@dataclass
class Store:
    settings: dict[str, Setting] = field(default_factory=_settings)
    users: list[User] = field(default_factory=list)
    # Token -> user id. The token is no cookie: a browser keeps it in its local storage.
    sessions: dict[str, int] = field(default_factory=dict)
    _ids: itertools.count = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.add("admin", os.environ["ALIST_ADMIN_PASSWORD"], role=ADMIN)
        self.add("guest", "guest", role=GUEST, disabled=True)

    def value(self, key: str) -> str:
        return self.settings[key].value

    def is_on(self, key: str) -> bool:
        return self.value(key) == "true"

    def add(self, username: str, password: str, **rest: object) -> User:
        with LOCK:
            if self.named(username):
                if os.environ.get("ALIST_DATABASE", "sqlite3") == "sqlite3":
                    raise TakenName("UNIQUE constraint failed: x_users.username")
                raise TakenName(f"Error 1062 (23000): Duplicate entry '{username}' for key 'username'")
            user = User(next(self._ids), username, password, **rest)
            self.users.append(user)
            return user

    def named(self, username: str) -> User | None:
        return next((user for user in self.users if user.username == username), None)

    def numbered(self, number: int) -> User | None:
        return next((user for user in self.users if user.id == number), None)

    def federated(self, sso_id: str) -> User | None:
        """The first who has it: nothing says that there is only one."""
        return next((user for user in self.users if sso_id and user.sso_id == sso_id), None)

    def opens_session(self, user: User) -> str:
        token = secrets.token_urlsafe(24)
        self.sessions[token] = user.id
        return token


STORE = Store()
