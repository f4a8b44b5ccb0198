"""django-oauth-toolkit at /o/."""

from django.urls import include, path
from pages import ordinary_urls, own_login

urlpatterns = [
    *ordinary_urls('<a href="/accounts/login/">Sign in</a>'),
    own_login,
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
]
