"""InvenTree's rule for groups: what the provider says decides, through a map; everything unmapped is dropped."""

import json

from allauth.socialaccount.models import SocialLogin
from allauth.socialaccount.signals import social_account_added, social_account_updated
from django.conf import settings
from django.contrib.auth.models import AbstractUser, Group

from common.models import global_setting


def registration_enabled() -> bool:
    """Without a mail server nobody registers, whatever the switch says."""
    return global_setting("LOGIN_ENABLE_SSO_REG") and email_configured()


def email_configured() -> bool:
    return bool(settings.EMAIL_HOST)


def listen() -> None:
    social_account_added.connect(_on_login, dispatch_uid="added")
    social_account_updated.connect(_on_login, dispatch_uid="updated")


def sync_groups(user: AbstractUser, sociallogin: SocialLogin) -> None:
    """At every login. It looks into userinfo only, never into the ID token."""
    if not global_setting("LOGIN_ENABLE_SSO_GROUP_SYNC"):
        return
    group_map = json.loads(global_setting("SSO_GROUP_MAP"))
    userinfo = sociallogin.account.extra_data.get("userinfo", {})
    names = {group_map[name] for name in userinfo.get(global_setting("SSO_GROUP_KEY"), []) if name in group_map}
    for name in names:
        user.groups.add(Group.objects.get_or_create(name=name)[0])
    if global_setting("SSO_REMOVE_GROUPS"):
        user.groups.remove(*user.groups.exclude(name__in=names))


def _on_login(sender, request, sociallogin, **_) -> None:
    sync_groups(sociallogin.user, sociallogin)
