"""A django-simple-sso server as its README sets it up."""

from ordinary import *  # noqa: F403: how Django's settings are shared
from ordinary import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.admin", "simple_sso.sso_server"]
