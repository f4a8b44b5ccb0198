"""The address of the browser, and the second factor that an administrator demands of everyone."""

from allauth.mfa.utils import is_mfa_enabled
from django.http import JsonResponse

from common.models import global_setting

# Addresses that answer someone who has yet to set a second factor up.
_OPEN = ("/accounts/", "/api/auth/", "/api/user/me/", "/o/", "/web")


class ForwardedAddress:
    """Believes X-Forwarded-For, whoever sent it: the first address in it is the client."""

    def __init__(self, get_response):
        self._get_response = get_response

    def __call__(self, request):
        if forwarded := request.headers.get("X-Forwarded-For"):
            request.META["REMOTE_ADDR"] = forwarded.split(",")[0].strip()
        return self._get_response(request)


class EnforcedSecondFactor:
    def __init__(self, get_response):
        self._get_response = get_response

    def __call__(self, request):
        if (
            request.user.is_authenticated
            and request.path != "/api/"
            and not request.path.startswith(_OPEN)
            and global_setting("LOGIN_ENFORCE_MFA")
            and not is_mfa_enabled(request.user)
        ):
            return JsonResponse({"id": "mfa_register"}, status=401)
        return self._get_response(request)
