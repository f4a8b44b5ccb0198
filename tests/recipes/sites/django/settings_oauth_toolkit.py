"""django-oauth-toolkit as an OpenID provider, with the claims that its documents show how to add."""

from ordinary import *  # noqa: F403: how Django's settings are shared
from ordinary import DATA_DIR, INSTALLED_APPS
from signing_key import kept_signing_key

INSTALLED_APPS = [*INSTALLED_APPS, "oauth2_provider"]
OAUTH2_PROVIDER = {
    "OIDC_ENABLED": True,
    "OIDC_RSA_PRIVATE_KEY": kept_signing_key(DATA_DIR),
    "OAUTH2_VALIDATOR_CLASS": "toolkit_claims.Claims",
    "PKCE_REQUIRED": True,
    "SCOPES": {"openid": "Who you are", "profile": "Your name", "email": "Your address"},
}
