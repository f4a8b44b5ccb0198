"""Who may register, and what happens to someone who just did."""

from allauth.account.adapter import DefaultAccountAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.contrib.auth.models import Group

import sso
from common.models import global_setting


class AccountAdapter(DefaultAccountAdapter):
    def is_open_for_signup(self, request):
        return False


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    def is_open_for_signup(self, request, sociallogin):
        return sso.registration_enabled()

    def is_auto_signup_allowed(self, request, sociallogin):
        return global_setting("LOGIN_SIGNUP_SSO_AUTO") and super().is_auto_signup_allowed(request, sociallogin)

    def save_user(self, request, sociallogin, form=None):
        user = super().save_user(request, sociallogin, form)
        sso.sync_groups(user, sociallogin)
        group = global_setting("SIGNUP_GROUP")
        if group and not user.groups.exists():
            user.groups.add(Group.objects.get(pk=group))
        return user
