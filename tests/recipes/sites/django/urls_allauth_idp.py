"""allauth's pages, and its provider at the root, where it has to be."""

from django.urls import include, path
from pages import ordinary_urls

urlpatterns = [
    *ordinary_urls('<a href="/accounts/login/">Sign in</a>'),
    path("accounts/", include("allauth.urls")),
    path("", include("allauth.idp.urls")),
]
