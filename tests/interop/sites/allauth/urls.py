"""A home page that says who is signed in, allauth's own pages and its headless API."""

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.utils.html import format_html


def home(request: HttpRequest) -> HttpResponse:
    """Who is signed in, for people and for the tests."""
    if not request.user.is_authenticated:
        return HttpResponse(
            '<!doctype html><title>Welcome</title><p id="who">nobody</p><a href="/accounts/login/">Sign in</a>'
        )
    return HttpResponse(
        format_html(
            '<!doctype html><title>Welcome</title><p id="who">{}</p><p id="name">{}</p>',
            request.user.get_username(),
            request.user.get_full_name(),
        )
    )


urlpatterns = [
    path("", home),
    path("accounts/", include("allauth.urls")),
    path("_allauth/", include("allauth.headless.urls")),
]
