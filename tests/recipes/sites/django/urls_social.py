"""social-auth's own addresses; its login begins with a POST."""

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from pages import ordinary_urls

_SIGN_IN = """<form method="post" action="/login/oidc/">
<input type="hidden" name="csrfmiddlewaretoken" value="{}"><button>Sign in with Homeward</button></form>"""


def failed(request: HttpRequest) -> HttpResponse:
    return HttpResponse('<!doctype html><title>Not signed in</title><p id="who">nobody</p>')


urlpatterns = [
    *ordinary_urls(_SIGN_IN),
    path("failed/", failed),
    path("", include("social_django.urls", namespace="social")),
]
