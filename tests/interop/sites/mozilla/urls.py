"""A page that says who is signed in, and mozilla-django-oidc's own addresses."""

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.urls import include, path
from django.utils.html import format_html

_SIGNED_IN = """<!doctype html><title>Welcome</title><p id="who">{}</p>
<form method="post" action="/oidc/logout/">
<input type="hidden" name="csrfmiddlewaretoken" value="{}"><button>Sign out</button></form>"""


def home(request: HttpRequest) -> HttpResponse:
    if not request.user.is_authenticated:
        return HttpResponse(
            '<!doctype html><title>Welcome</title><p id="who">nobody</p><a href="/oidc/authenticate/">Sign in</a>'
        )
    return HttpResponse(format_html(_SIGNED_IN, request.user.email, get_token(request)))


urlpatterns = [path("", home), path("oidc/", include("mozilla_django_oidc.urls"))]
