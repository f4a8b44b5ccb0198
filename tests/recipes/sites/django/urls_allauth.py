"""allauth's own pages and its headless API."""

from django.urls import include, path
from pages import ordinary_urls

urlpatterns = [
    *ordinary_urls('<a href="/accounts/oidc/homeward/login/?next=/parts/">Sign in with Homeward</a>'),
    path("accounts/", include("allauth.urls")),
    path("_allauth/", include("allauth.headless.urls")),
]
