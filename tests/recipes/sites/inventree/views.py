"""The part of InvenTree's API that single sign-on touches, and its pages without their looks."""

import base64
import functools
import json
from collections.abc import Callable

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.internal.flows.signup import get_pending_signup
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth import login as log_in
from django.contrib.auth.models import Group, User
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.csrf import csrf_exempt, ensure_csrf_cookie
from oauth2_provider.models import AccessToken

import sso
from common.models import ApiToken, InvenTreeSetting, global_setting


def about(request: HttpRequest) -> JsonResponse:
    """Anonymous, and what an agent can see before anyone meets it."""
    return JsonResponse(
        {
            "server": "InvenTree",
            "id": "InvenTree",
            "version": "1.5.0 dev",
            "apiVersion": 530,
            "instance": "InvenTree",
            "email_configured": sso.email_configured(),
            "settings": {
                "sso_registration": global_setting("LOGIN_ENABLE_SSO_REG"),
                "registration_enabled": False,
                "password_forgotten_enabled": True,
            },
        }
    )


def as_user(*, staff: bool = False) -> Callable:
    """Whoever has a session, an API token, an access token of its own provider, or a password in the header.

    The last one asks for no second factor and counts no failures: an agent must never use it.
    """

    def decorate(view: Callable) -> Callable:
        @csrf_exempt
        @functools.wraps(view)
        def guarded(request: HttpRequest, **arguments: object) -> HttpResponse:
            request.user = _by_header(request) or request.user
            if not request.user.is_authenticated:
                return JsonResponse({"detail": "Authentication credentials were not provided."}, status=401)
            if staff and not request.user.is_staff:
                return JsonResponse({"detail": "You do not have permission to perform this action."}, status=403)
            return view(request, **arguments)

        return guarded

    return decorate


def _by_header(request: HttpRequest) -> User | None:
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind == "Token":
        token = ApiToken.objects.filter(key=value, user__is_active=True).first()
        return token and token.user
    if kind == "Bearer":
        token = AccessToken.objects.filter(token=value).first()
        return token.user if token and token.is_valid(["g:read"]) and token.user.is_active else None
    if kind == "Basic":
        username, _, password = base64.b64decode(value).decode().partition(":")
        return authenticate(request, username=username, password=password)
    return None


@as_user()
def me(request: HttpRequest) -> JsonResponse:
    return JsonResponse(_described(request.user))


@as_user(staff=True)
def users(request: HttpRequest) -> JsonResponse:
    if request.method == "POST":
        wanted = json.loads(request.body)
        names = ("username", "email", "first_name", "last_name", "is_staff")
        user = User(**{name: wanted[name] for name in names if name in wanted})
        user.set_unusable_password()
        user.save()
        return JsonResponse(_described(user), status=201)
    found = User.objects.order_by("pk")
    if username := request.GET.get("username"):
        found = found.filter(username=username)
    return JsonResponse([_described(user) for user in found], safe=False)


@as_user(staff=True)
def user(request: HttpRequest, pk: int) -> JsonResponse:
    found = get_object_or_404(User, pk=pk)
    if request.method == "DELETE":
        found.delete()
        return JsonResponse({}, status=204)
    if request.method == "PATCH":
        wanted = json.loads(request.body)
        found.is_active = wanted.get("is_active", found.is_active)
        found.save()
        if "group_ids" in wanted:
            found.groups.set(wanted["group_ids"])
    return JsonResponse(_described(found))


@as_user(staff=True)
def set_password(request: HttpRequest, pk: int) -> JsonResponse:
    found = get_object_or_404(User, pk=pk)
    found.set_password(json.loads(request.body)["password"])
    found.save()
    return JsonResponse({})


@as_user(staff=True)
def groups(request: HttpRequest) -> JsonResponse:
    if request.method == "POST":
        Group.objects.create(name=json.loads(request.body)["name"])
    return JsonResponse(list(Group.objects.values("pk", "name")), safe=False)


@as_user()
def token(request: HttpRequest) -> JsonResponse:
    """It logs a session in as well."""
    log_in(request, request.user, backend="django.contrib.auth.backends.ModelBackend")
    name = request.GET.get("name", "")
    found, _ = ApiToken.objects.get_or_create(user=request.user, name=name, defaults={"key": ApiToken.new_key()})
    return JsonResponse({"token": found.key, "name": name})


@as_user(staff=True)
def one_global_setting(request: HttpRequest, key: str) -> JsonResponse:
    """A setting that the configuration decides cannot be changed: the answer is 200 all the same."""
    if request.method == "PATCH":
        value = json.loads(request.body)["value"]
        if key == "LOGIN_ENFORCE_MFA":
            return JsonResponse({"value": "This setting has to be confirmed"}, status=400)
        if key not in settings.GLOBAL_SETTINGS_OVERRIDES:
            InvenTreeSetting.objects.update_or_create(key=key, defaults={"value": str(value)})
    return JsonResponse({"key": key, "value": global_setting(key)})


def auth_request(request: HttpRequest) -> HttpResponse:
    """For nginx: whether there is a session. The middleware has asked for the second factor before."""
    return HttpResponse(status=200 if request.user.is_authenticated else 401)


def not_found(request: HttpRequest, provider_id: str) -> HttpResponse:
    raise Http404


@ensure_csrf_cookie
def login(request: HttpRequest) -> HttpResponse:
    """The real page asks the API for the providers; `next` is ignored there too."""
    return render(request, "login.html", {"providers": _providers(request)})


def desktop(request: HttpRequest) -> HttpResponse:
    return render(request, "desktop.html")


def logged_in(request: HttpRequest) -> HttpResponse:
    """Where every login through a provider ends. Someone whose registration is pending is simply not logged in here."""
    pending = get_pending_signup(request)
    return render(request, "logged_in.html", {"error": request.GET.get("error"), "pending": pending})


def linked_accounts(request: HttpRequest) -> HttpResponse:
    accounts = SocialAccount.objects.filter(user=request.user) if request.user.is_authenticated else []
    return render(
        request,
        "settings.html",
        {"providers": _providers(request), "accounts": accounts, "error": request.GET.get("error")},
    )


def _providers(request: HttpRequest) -> list:
    return list(get_adapter().list_providers(request))


def _described(user: User) -> dict:
    return {
        "pk": user.pk,
        "username": user.username,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "email": user.email,
        "groups": [{"pk": group.pk, "name": group.name} for group in user.groups.order_by("pk")],
        "is_staff": user.is_staff,
        "is_superuser": user.is_superuser,
        "is_active": user.is_active,
        "profile": {"language": None, "displayname": user.get_full_name()},
    }
