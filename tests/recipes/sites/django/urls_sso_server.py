"""The server, mounted where its README mounts it."""

from django.urls import include, path
from pages import ordinary_urls, own_login
from simple_sso.sso_server.server import Server

urlpatterns = [
    *ordinary_urls('<a href="/accounts/login/">Sign in</a>'),
    own_login,
    path("server/", include(Server().get_urls())),
]
