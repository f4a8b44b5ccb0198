"""mozilla-django-oidc's own addresses."""

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from pages import ordinary_urls


def failed(request: HttpRequest) -> HttpResponse:
    return HttpResponse('<!doctype html><title>Not signed in</title><p id="who">nobody</p>')


urlpatterns = [
    *ordinary_urls('<a href="/oidc/authenticate/">Sign in with Homeward</a>'),
    path("failed/", failed),
    path("oidc/", include("mozilla_django_oidc.urls")),
]
