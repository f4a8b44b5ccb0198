"""Python on the pages of the recipes, typed into a site as `django-admin startproject` makes it."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from book import BOOK, blocks
from processes import REPOSITORY

# Where the pages say that the agent writes; the test has no business there.
CREDENTIALS = "/var/lib/homeward-credentials"


def manage(site: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, cwd=site, env=environment, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_python_is_tried() -> None:
    with_python = {page.stem for page in BOOK.rglob("*.md") if blocks(page, "python")}
    assert with_python == {"django-social-auth", "mozilla-django-oidc"}


@pytest.mark.parametrize(
    ("page", "begins_at", "client_id"),
    [
        ("django-social-auth", "/login/oidc/", "SOCIAL_AUTH_OIDC_KEY"),
        ("mozilla-django-oidc", "/oidc/authenticate/", "OIDC_RP_CLIENT_ID"),
    ],
)
def test_a_new_site_becomes_what_the_page_says(tmp_path: Path, page: str, begins_at: str, client_id: str) -> None:
    subprocess.run([sys.executable, "-m", "django", "startproject", "site_of_a_reader", tmp_path], check=True, timeout=60)
    credentials = tmp_path / "credentials"
    for block in blocks(BOOK / "recipes" / f"{page}.md", "python"):
        file = re.match(r"# (\w+\.py), at the end\n", block)
        assert file, f"a block that says where it goes: {block}"
        with (tmp_path / "site_of_a_reader" / file[1]).open("a") as written:
            written.write(block.replace(CREDENTIALS, str(credentials)))
    recipe = tomllib.loads((REPOSITORY / "agent" / "recipes" / f"{page}.toml").read_text())
    [callback] = recipe["relying_party"]["callback_paths"]
    ask = f"from django.urls import resolve; from django.conf import settings; resolve({begins_at!r}); resolve({callback!r})"
    # Before the agent has written anything the site has to work as well.
    assert "no issues" in manage(tmp_path, "check")
    manage(tmp_path, "shell", "--no-imports", "-c", ask)
    way = recipe["relying_party"]["ways"][0]
    [file] = way["files"]
    assert client_id in file["content"]
    current = credentials / "current"
    current.mkdir(parents=True)
    values = {name: value if isinstance(value, bool) else f"from the agent: {name}" for name, value in file["content"].items()}
    (current / file["name"]).write_text(json.dumps(values))
    assert "no issues" in manage(tmp_path, "check")
    told = manage(tmp_path, "shell", "--no-imports", "-c", f"{ask}; print(settings.{client_id})")
    assert told.strip() == f"from the agent: {client_id}"
