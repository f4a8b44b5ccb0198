"""The pages that take part in a login, without their looks. What they do, they do in the browser, as AList's do."""

from flask import Blueprint, redirect, render_template

from store import STORE

routes = Blueprint("pages", __name__)


@routes.get("/")
def home() -> str:
    return _page("home.html")


@routes.get("/@login")
def login() -> str:
    return _page("login.html")


@routes.get("/@manage")
def manage() -> str:
    return _page("manage.html")


@routes.get("/favicon.ico")
def icon():
    return redirect("data:,")


def _page(name: str) -> str:
    shown = ("site_title", "sso_login_enabled", "sso_login_platform", "sso_compatibility_mode")
    return render_template(name, **{key: STORE.value(key) for key in shown})
