"""What django-oidc-provider says of a user: by itself, hardly anything (OIDC_USERINFO)."""

from typing import Any


def userinfo(claims: dict[str, Any], user) -> dict[str, Any]:
    claims["preferred_username"] = user.get_username()
    claims["given_name"], claims["family_name"] = user.first_name, user.last_name
    claims["email"], claims["email_verified"] = user.email, True
    return claims
