"""What administrators do over the API, at once and without a restart."""

from flask import Blueprint, Response, request

from answers import administrator, failure, success
from store import GUEST, LOCK, STORE, Setting, TakenName

routes = Blueprint("administration", __name__)

_PUBLIC = 0
_READ_ONLY = 2
_CHANGED_BY_ADMINISTRATORS = ("username", "base_path", "permission", "disabled", "sso_id")


@routes.get("/api/public/settings")
def public() -> Response:
    """Without a login: what pages need to know."""
    shown = (_PUBLIC, _READ_ONLY)
    return success({setting.key: setting.value for setting in STORE.settings.values() if setting.flag in shown})


@routes.get("/api/admin/setting/list")
@administrator
def settings() -> Response:
    group = request.args.get("group")
    found = [setting for setting in STORE.settings.values() if group is None or str(setting.group) == group]
    return success([vars(setting) for setting in found])


@routes.get("/api/admin/setting/get")
@administrator
def setting() -> Response:
    found = STORE.settings.get(request.args["key"])
    return success(vars(found)) if found else failure(400, "record not found")


@routes.post("/api/admin/setting/save")
@administrator
def save() -> Response:
    """Items as they come: what an item leaves out is overwritten with nothing."""
    for given in request.get_json():
        blank = {"value": "", "type": "", "help": "", "options": "", "group": 0, "flag": 0}
        STORE.settings[given["key"]] = Setting(**(blank | {name: given[name] for name in given if name != "index"}))
    return success()


@routes.get("/api/admin/user/list")
@administrator
def users() -> Response:
    return success({"content": [user.described() for user in STORE.users], "total": len(STORE.users)})


@routes.get("/api/admin/user/get")
@administrator
def user() -> Response:
    found = STORE.numbered(int(request.args["id"]))
    return success(found.described()) if found else failure(500, "record not found")


@routes.post("/api/admin/user/create")
@administrator
def create() -> Response:
    given = request.get_json()
    wanted = {name: given[name] for name in ("base_path", "permission", "disabled", "sso_id") if name in given}
    try:
        STORE.add(given["username"], given["password"], **wanted)
    except TakenName as error:
        return failure(500, str(error))
    return success()


@routes.post("/api/admin/user/update")
@administrator
def update() -> Response:
    given = request.get_json()
    found = STORE.numbered(given["id"])
    if found is None:
        return failure(500, "record not found")
    for name in _CHANGED_BY_ADMINISTRATORS:
        setattr(found, name, given.get(name, getattr(found, name)))
    found.password = given.get("password") or found.password
    return success()


@routes.post("/api/admin/user/delete")
@administrator
def delete() -> Response:
    with LOCK:
        found = STORE.numbered(int(request.args["id"]))
        if found is None or found.role == GUEST:
            return failure(400, "cannot delete admin or guest user")
        STORE.users.remove(found)
    return success()
