"""The client, mounted where its README mounts it."""

from django.conf import settings
from django.urls import include, path
from pages import ordinary_urls
from simple_sso.sso_client.client import Client

client = Client(settings.SSO_SERVER, settings.SSO_PUBLIC_KEY, settings.SSO_PRIVATE_KEY)
urlpatterns = [
    *ordinary_urls('<a href="/client/?next=/parts/">Sign in with Homeward</a>'),
    path("client/", include(client.get_urls())),
]
