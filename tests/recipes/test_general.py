"""What the seeds ask of every federation, whatever the applications are (G1 to G8)."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path

import pytest

from certificates import ThrowAwayAuthority
from federation import ALICE, Member, chooses, eventually, signs_in, signs_in_at_home, who
from front import Front
from homeward import BINARIES, Agent, Broker
from person import Person
from processes import REPOSITORY, artefacts
from visitor import Visitor

DOCS = REPOSITORY / "docs"
# Error texts of the seeds, as somebody types them into a search box.
SEED_ERRORS = [
    "not bound to any users",
    "Invalid Redirect URL",
    "KeyError: 'server_url'",
    "redirect_uri is missing or not registered",
    "signup_closed",
    "incorrect or expired state parameter",
    "MultipleObjectsReturned",
    "Signature expired",
]


def test_g1_the_client_and_its_callback_are_made_for_the_operator(desk: Member, broker: Broker) -> None:
    """Nobody has typed a client id, a secret or a callback anywhere, and the broker knows all three."""
    (client,) = [client for client in broker.shows("client", "list") if "desk" in str(client)]
    written = (desk.credentials_dir / "current" / "homeward_allauth.json").read_text()
    assert client["client_id"] in written
    typed = desk.agent.config_file.read_text()
    assert client["client_id"] not in typed and "callback" not in typed


def test_g1_the_choice_of_protocol_is_documented() -> None:
    text = (DOCS / "choosing.md").read_text()
    assert "OpenID Connect" in text and "auth_request" in text and "ldap" in text.lower()


def test_g2_what_desk_would_see_of_alice_is_known_before_she_comes(
    desk: Member, alpha: Agent, broker: Broker
) -> None:
    explained = broker.shows("trust", "explain", "--user", "alice@alpha", "--rp", "desk")
    values = {row["claim"]: row["value"] for row in explained["claims"]}
    assert values["preferred_username"] == "alice@alpha"
    assert values["email"] == ALICE.email and values["email_verified"] is True
    assert values["given_name"] == ALICE.first_name
    assert explained["account"]["outcome"], "which account it would be"
    assert not any("staff" in claim or "superuser" in claim for claim in values)


def test_g2_a_user_that_home_does_not_know_is_said_to_be_unknown(desk: Member, alpha: Agent, broker: Broker) -> None:
    code, explained = broker.tells("trust", "explain", "--user", "nobody-here@alpha", "--rp", "desk")
    assert code == 1 or explained["problems"], explained


def test_g3_alice_sees_her_sessions_and_ends_them(desk: Member, broker: Broker, alice: Person) -> None:
    assert who(signs_in(alice, desk)) == "alice@alpha"
    page = alice.opens(f"{broker.public.url}/account")
    assert "Desk" in page.text and "This browser" in page.text
    alice.presses("Sign out everywhere")
    eventually("alice is out at desk", lambda: who(alice.opens(f"{desk.public.url}/")) == "nobody")


def test_g4_doctor_and_recipe_test_find_a_healthy_instance_healthy(desk: Member, front: Front) -> None:
    code, found = desk.agent.tells("doctor")
    # The test's authority is nobody's but the test's: what is said of certificates is not of the instance.
    errors = [finding for finding in found["findings"] if finding["verdict"] == "error"]
    assert code in (0, 1) and all("certificate" in str(error).lower() for error in errors), errors
    code, tried = desk.agent.tells("recipe", "test")
    assert code == 0, tried


def test_g4_doctor_says_what_is_wrong_before_a_user_meets_it(desk: Member) -> None:
    """Somebody has edited the file by hand, and restarted the site."""
    file = desk.credentials_dir / "current" / "homeward_allauth.json"
    was = file.read_text()

    def errors_about_credentials() -> list[dict]:
        _, found = desk.agent.tells("doctor")
        return [one for one in found["findings"] if (one["verdict"], one["about"]) == ("error", "credentials")]

    file.write_text("{}")
    desk.reads_settings_again()
    try:
        (error,) = eventually("doctor sees it", errors_about_credentials)
        assert "restart the agent" in error["remedy"]
    finally:
        file.write_text(was)
        desk.reads_settings_again()
    eventually("desk is well again", lambda: not errors_about_credentials())


def test_g5_secrets_are_private_files_and_in_no_log(desk: Member, alpha: Agent, folder: Path) -> None:
    secret = re.search(r'"secret": "([^"]+)"', (desk.credentials_dir / "current" / "homeward_allauth.json").read_text())[1]
    for agent in (desk.agent, alpha):
        for path in (agent.folder / "data").rglob("*"):
            mode = stat.S_IMODE(path.lstat().st_mode)
            assert path.is_symlink() or mode == (0o700 if path.is_dir() else 0o600), f"{path}: {mode:o}"
    for log in artefacts().glob("*.log"):
        text = log.read_text(errors="replace")
        for hidden in (secret, ALICE.password):
            assert hidden not in text, f"{log.name} has a secret in it"


def test_g5_browsers_are_sent_nowhere_but_to_registered_callbacks(
    desk: Member, broker: Broker, alice: Person
) -> None:
    (client,) = [client for client in broker.shows("client", "list") if "desk" in str(client)]
    query = {"client_id": client["client_id"], "response_type": "code", "scope": "openid", "state": "s"}
    for thief in ("https://thief.example/", f"{desk.public.url}/elsewhere/", desk.public.url.replace("https", "http")):
        page = alice.is_refused(f"{broker.public.url}/authorize", params=query | {"redirect_uri": thief})
        assert "thief.example" not in page.text


def test_g5_an_agent_speaks_for_no_site_without_https(desk: Member, folder: Path) -> None:
    text = desk.agent.config_file.read_text().replace(desk.public.url, "http://desk.example.org")
    file = folder / "plain.toml"
    file.write_text(text)
    command = [BINARIES / "homeward-agent", "--config", file, "status"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "https" in done.stderr


def test_g6_one_login_has_one_id_in_every_step_that_broker_and_home_log(desk: Member, alice: Person) -> None:
    assert who(signs_in(alice, desk)) == "alice@alpha"
    lines = [line for log in artefacts().glob("*.log") for line in log.read_text().splitlines()]
    at_the_broker = ("next step of a login", "ticket opened", "the home has spoken", "back from home")
    steps = {step: [line for line in lines if step in line] for step in (*at_the_broker, "a login began")}
    ids = [{re.search(r'transaction="?([\w-]+)', line)[1] for line in found} for found in steps.values()]
    assert set.intersection(*ids), "no login can be followed from its beginning to its end"
    assert all("request=" in line for line in steps["back from home"]), "and to the page that showed an error"


@pytest.mark.parametrize("text", SEED_ERRORS)
def test_g7_each_error_text_of_the_seeds_has_an_entry(text: str) -> None:
    pages = [page for page in DOCS.rglob("*.md") if text.lower() in page.read_text().lower()]
    assert pages, f"nobody who searches for {text!r} finds anything"


def test_g7_every_recipe_has_a_page() -> None:
    for recipe in (REPOSITORY / "agent" / "recipes").glob("*.toml"):
        assert (DOCS / "recipes" / f"{recipe.stem}.md").exists(), recipe.stem


def test_g8_alice_comes_back_to_the_page_she_asked_for(desk: Member, visitor: Visitor) -> None:
    visitor.opens(f"{desk.public.url}/", title="Welcome")
    visitor.clicks("Sign in with Homeward")
    chooses(visitor, "Alpha")
    signs_in_at_home(visitor, ALICE)
    visitor.sees("Parts")
    assert visitor.page.url == f"{desk.public.url}/parts/"
    visitor.reads("#staff", "no staff")


def test_g8_who_gives_up_is_told_so_and_can_begin_again(desk: Member, alice: Person, authority: ThrowAwayAuthority) -> None:
    page = alice.opens(f"{desk.public.url}/accounts/oidc/homeward/login/?next=/parts/")
    assert page.status == 200
    assert who(alice.opens(f"{desk.public.url}/")) == "nobody"
    assert who(signs_in(alice, desk)) == "alice@alpha"
