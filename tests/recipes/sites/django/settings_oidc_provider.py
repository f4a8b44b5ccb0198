"""django-oidc-provider as its documents set it up, with the claims that they show how to add."""

from ordinary import *  # noqa: F403: how Django's settings are shared
from ordinary import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "oidc_provider"]
OIDC_USERINFO = "provider_claims.userinfo"
OIDC_IDTOKEN_INCLUDE_CLAIMS = True
