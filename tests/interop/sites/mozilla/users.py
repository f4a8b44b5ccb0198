"""Who a federated user is here, and the way out: what mozilla-django-oidc leaves to the site."""

from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from mozilla_django_oidc.auth import OIDCAuthenticationBackend


class FederatedUsers(OIDCAuthenticationBackend):
    """Users are known by `sub` alone: an address or a name that somebody else is given must not be their account."""

    def filter_users_by_claims(self, claims: dict):
        return self.UserModel.objects.filter(username=claims["sub"])

    def create_user(self, claims: dict) -> User:
        return self.update_user(self.UserModel(username=claims["sub"]), claims)

    def update_user(self, user: User, claims: dict) -> User:
        user.first_name, user.last_name = claims.get("given_name", ""), claims.get("family_name", "")
        user.email = claims["email"] if claims.get("email_verified") else ""
        user.save()
        return user


def logout_at_the_provider(request: HttpRequest) -> str:
    """RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0 2)."""
    back = request.build_absolute_uri(settings.LOGOUT_REDIRECT_URL)
    parameters = {"id_token_hint": request.session["oidc_id_token"], "post_logout_redirect_uri": back}
    return f"{settings.OIDC_OP_END_SESSION_ENDPOINT}?{urlencode(parameters)}"
