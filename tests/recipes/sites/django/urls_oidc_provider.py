"""django-oidc-provider at /openid/."""

from django.urls import include, path
from pages import ordinary_urls, own_login

urlpatterns = [
    *ordinary_urls('<a href="/accounts/login/">Sign in</a>'),
    own_login,
    path("openid/", include("oidc_provider.urls", namespace="oidc_provider")),
]
