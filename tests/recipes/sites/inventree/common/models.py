"""Global settings and the tokens of the API."""

import secrets
from typing import Any

from django.conf import settings
from django.db import models

DEFAULTS: dict[str, Any] = {
    "LOGIN_ENABLE_SSO": False,
    "LOGIN_ENABLE_SSO_REG": False,
    "LOGIN_SIGNUP_SSO_AUTO": True,
    "LOGIN_ENABLE_SSO_GROUP_SYNC": False,
    "SSO_GROUP_KEY": "groups",
    "SSO_GROUP_MAP": "{}",
    "SSO_REMOVE_GROUPS": True,
    "SIGNUP_GROUP": "",
    "LOGIN_ENFORCE_MFA": False,
}


class InvenTreeSetting(models.Model):
    key = models.CharField(max_length=50, unique=True)
    value = models.CharField(max_length=2000, blank=True)


class ApiToken(models.Model):
    key = models.CharField(max_length=100, unique=True)
    name = models.CharField(max_length=100)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)

    @staticmethod
    def new_key() -> str:
        return f"inv-{secrets.token_hex(20)}"


def global_setting(key: str) -> Any:
    """What the configuration says, else what the administration says, else the default."""
    default = DEFAULTS[key]
    if key in settings.GLOBAL_SETTINGS_OVERRIDES:
        found = settings.GLOBAL_SETTINGS_OVERRIDES[key]
    else:
        row = InvenTreeSetting.objects.filter(key=key).first()
        found = row.value if row else default
    return str(found).lower() in ("1", "true", "yes", "on") if isinstance(default, bool) else found
