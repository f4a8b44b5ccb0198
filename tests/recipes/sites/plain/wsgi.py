"""An application without any login: it believes what nginx tells it of the user, and shows all of it."""

from collections.abc import Callable, Iterable
from html import escape

_PAGE = """<!doctype html><html lang="en"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Ledger</title><h1>Ledger</h1><p id="who">{}</p><p id="path">{}</p><dl>{}</dl>
<a href="/homeward/gate/logout">Sign out</a>"""


def application(environ: dict[str, str], start_response: Callable) -> Iterable[bytes]:
    told = {name: value for name, value in environ.items() if name.startswith("HTTP_X_HOMEWARD_")}
    rows = "".join(
        f'<dt>{name}</dt><dd id="{name.removeprefix("HTTP_X_HOMEWARD_").lower()}">{escape(value)}</dd>'
        for name, value in sorted(told.items())
    )
    path = environ["PATH_INFO"] + (f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else "")
    who = told.get("HTTP_X_HOMEWARD_USER", "nobody")
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [_PAGE.format(escape(who), escape(path), rows).encode()]
