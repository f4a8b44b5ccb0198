"""InvenTree's addresses, as far as single sign-on goes."""

from allauth.headless.constants import Client
from allauth.headless.urls import build_urlpatterns
from django.conf import settings
from django.urls import include, path
from django.views.generic import RedirectView

import views

browser = path("", include((build_urlpatterns(Client.BROWSER), "headless"), namespace="browser"))
urlpatterns = [
    path("", RedirectView.as_view(url="/web")),
    path("web", views.desktop),
    path("web/login", views.login),
    path("web/logged-in", views.logged_in),
    path("web/settings", views.linked_accounts),
    path("accounts/login/", RedirectView.as_view(url="/web")),
    # HEADLESS_ONLY: the callback is all that is left of a provider's pages.
    path("accounts/<provider_id>/login/", views.not_found),
    path("accounts/", include("allauth.urls")),
    path("auth/", views.auth_request),
    path("auth/login/", views.auth_request),
    path("api/", views.about),
    path("api/auth/", include(([browser], "headless"), namespace="headless")),
    path("api/settings/global/<key>/", views.one_global_setting),
    path("api/user/", views.users),
    path("api/user/me/", views.me),
    path("api/user/token/", views.token),
    path("api/user/group/", views.groups),
    path("api/user/<int:pk>/", views.user),
    path("api/user/<int:pk>/set-password/", views.set_password),
]
if settings.OIDC_PROVIDER:
    urlpatterns.append(path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")))
