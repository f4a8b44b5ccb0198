"""What the headless API says about a user: allauth's own fields and the two names, which it leaves out by itself."""

from typing import Any

from allauth.headless.adapter import DefaultHeadlessAdapter


class NamedUserAdapter(DefaultHeadlessAdapter):
    """Adds `first_name` and `last_name`, so that a home can vouch for them."""

    def serialize_user(self, user) -> dict[str, Any]:
        return super().serialize_user(user) | {"first_name": user.first_name, "last_name": user.last_name}
