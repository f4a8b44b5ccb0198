"""A page that says who is signed in, one that says why not, one that refreshes, and social-auth's own addresses."""

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.urls import include, path
from django.utils.html import format_html
from social_django.models import UserSocialAuth
from social_django.utils import load_strategy

_NOBODY = """<!doctype html><title>Welcome</title><p id="who">nobody</p>
<form method="post" action="/login/oidc/">
<input type="hidden" name="csrfmiddlewaretoken" value="{}"><button>Sign in</button></form>"""
_SIGNED_IN = """<!doctype html><title>Welcome</title><p id="who">{}</p><p id="name">{}</p>
<form method="post" action="/refresh/">
<input type="hidden" name="csrfmiddlewaretoken" value="{}"><button>Refresh</button></form>"""


def home(request: HttpRequest) -> HttpResponse:
    if not request.user.is_authenticated:
        return HttpResponse(format_html(_NOBODY, get_token(request)))
    user = request.user
    return HttpResponse(format_html(_SIGNED_IN, user.get_username(), user.get_full_name(), get_token(request)))


def refresh(request: HttpRequest) -> HttpResponse:
    """social-auth redeems the refresh token that it keeps, and says whether it got another one."""
    link = UserSocialAuth.objects.get(user=request.user)
    before = dict(link.extra_data)
    link.refresh_token(load_strategy(request))
    after = UserSocialAuth.objects.get(user=request.user).extra_data
    turned = [name for name in ("access_token", "refresh_token") if before[name] != after[name]]
    return HttpResponse(format_html('<!doctype html><title>Refreshed</title><p id="turned">{}</p>', ", ".join(turned)))


def failed(request: HttpRequest) -> HttpResponse:
    return HttpResponse('<!doctype html><title>Not signed in</title><p id="who">nobody</p>')


urlpatterns = [
    path("", home),
    path("failed/", failed),
    path("refresh/", refresh),
    path("", include("social_django.urls", namespace="social")),
]
