"""A django-simple-sso client as its README sets it up. Nothing of it was changed for Homeward but the server's address."""

import os

from ordinary import *  # noqa: F403: how Django's settings are shared

SSO_SERVER = os.environ["SITE_SSO_SERVER"]
SSO_PUBLIC_KEY = os.environ["SITE_SSO_PUBLIC_KEY"]
SSO_PRIVATE_KEY = os.environ["SITE_SSO_PRIVATE_KEY"]
LOGIN_URL = "/client/"
