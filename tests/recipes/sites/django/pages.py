"""The pages that every site here has: who is signed in, in which groups, and a page that wants somebody to be."""

from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.urls import path
from django.utils.html import format_html
from django.views.decorators.http import require_POST

_NOBODY = '<!doctype html><html lang="en"><title>Welcome</title><p id="who">nobody</p>{}'
_SOMEBODY = """<!doctype html><html lang="en"><title>{}</title>
<p id="who">{}</p><p id="name">{}</p><p id="email">{}</p><p id="groups">{}</p><p id="staff">{}</p>
<form method="post" action="/sign-out/"><input type="hidden" name="csrfmiddlewaretoken" value="{}">
<button>Sign out</button></form>"""


def shown(request: HttpRequest, title: str) -> HttpResponse:
    user = request.user
    groups = ", ".join(sorted(group.name for group in user.groups.all()))
    staff = "staff" if user.is_staff or user.is_superuser else "no staff"
    fields = (user.get_username(), user.get_full_name(), user.email, groups, staff, get_token(request))
    return HttpResponse(format_html(_SOMEBODY, title, *fields))


def welcome(sign_in: str):
    """The first page, with this way to sign in."""

    def page(request: HttpRequest) -> HttpResponse:
        if request.user.is_authenticated:
            return shown(request, "Welcome")
        # The token also sets the cookie, for those whose login begins with a POST.
        way = format_html(sign_in, get_token(request))
        return HttpResponse(format_html(_NOBODY, way))

    return page


@login_required
def parts(request: HttpRequest) -> HttpResponse:
    """Where somebody wanted to go before anybody asked who it is."""
    return shown(request, "Parts")


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponseRedirect("/")


def ordinary_urls(sign_in: str) -> list:
    return [path("", welcome(sign_in)), path("parts/", parts), path("sign-out/", sign_out)]


# Of the sites that are homes: Django's own login page.
own_login = path("accounts/login/", LoginView.as_view(), name="login")
