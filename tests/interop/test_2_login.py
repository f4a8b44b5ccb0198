"""The main job: alice, whose account is at alpha, signs in at beta. Beta's operator has typed nothing into beta.

The tests are one story: the account that the first one makes at beta is the one that the others come back to.
"""

import grp
import json
import os
import pwd
import stat

import pytest

from conftest import ALICE, Addresses
from homeward import Agent, Broker
from processes import artefacts
from visitor import Visitor
from website import Website

WRONG_PASSWORD = "not the password of alice"


def test_beta_is_set_up_by_its_agent_alone(federation: Broker, beta_site: Website) -> None:
    """The credentials are there, private to the website's user, and acknowledged as in use."""
    file = beta_site.credentials_dir / "current" / "homeward_allauth.json"
    found = file.stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    owner = beta_site.user or pwd.getpwuid(os.geteuid()).pw_name
    assert pwd.getpwuid(found.st_uid).pw_name == owner
    assert grp.getgrgid(found.st_gid).gr_name == grp.getgrgid(pwd.getpwnam(owner).pw_gid).gr_name
    assert stat.S_IMODE(file.parent.resolve().stat().st_mode) == 0o700

    (provider,) = json.loads(file.read_text())["openid_connect"]["APPS"]
    shown = federation.awaits_acknowledgement("beta")
    assert shown["client_id"] == provider["client_id"]
    assert provider["settings"]["server_url"] == federation.public.url
    assert shown["problem"] == ""
    assert provider["secret"] not in json.dumps(shown)


def test_alice_signs_in_at_her_home_on_the_way(
    federation: Broker, addresses: Addresses, visitor: Visitor, beta_site: Website
) -> None:
    """Home by `session`, not signed in there yet: alpha's own login page comes up in between."""
    starts_at_beta(visitor, addresses)
    visitor.sees("Sign In")
    assert visitor.page.url.startswith(addresses.alpha.url), "alpha's own login page"
    visitor.fills_in({"Username": ALICE.username, "Password": ALICE.password})
    visitor.clicks("Sign In")
    is_alice_at_beta(visitor, addresses, beta_site)


def test_alice_is_recognised_where_she_is_signed_in(
    federation: Broker, addresses: Addresses, visitor: Visitor, beta_site: Website
) -> None:
    """Home by `session`, signed in there before: no password is asked for."""
    visitor.opens(f"{addresses.alpha.url}/accounts/login/", title="Sign In")
    visitor.fills_in({"Username": ALICE.username, "Password": ALICE.password})
    visitor.clicks("Sign In")
    visitor.reads("#who", "alice")
    starts_at_beta(visitor, addresses)
    is_alice_at_beta(visitor, addresses, beta_site)


@pytest.mark.without_javascript
def test_alice_gives_her_password_to_her_home_only(
    alpha_by_password: Agent, addresses: Addresses, visitor: Visitor, beta_site: Website
) -> None:
    """Home by `password`: the agent's form, a slip of the keyboard first."""
    starts_at_beta(visitor, addresses)
    visitor.sees("Log in with your Alpha account")
    assert visitor.page.url.startswith(f"{addresses.alpha.url}/homeward/")
    gives_password(visitor, WRONG_PASSWORD)
    assert visitor.page.get_by_role("alert").inner_text().strip(), "a sentence that says what was wrong"
    visitor.sees("Log in with your Alpha account")
    assert visitor.page.get_by_label("Password").input_value() == "", "passwords are not sent back"
    gives_password(visitor, ALICE.password)
    is_alice_at_beta(visitor, addresses, beta_site)


def test_whoever_gives_up_is_told_so_by_beta(
    alpha_by_password: Agent, addresses: Addresses, visitor: Visitor, beta_site: Website
) -> None:
    before = beta_site.rows("SELECT id FROM auth_user")
    starts_at_beta(visitor, addresses)
    visitor.sees("Log in with your Alpha account")
    visitor.clicks("Cancel")
    visitor.sees("Login Cancelled")
    assert visitor.page.url.startswith(addresses.beta.url)
    visitor.opens(f"{addresses.beta.url}/", title="Welcome")
    visitor.reads("#who", "nobody")
    assert beta_site.rows("SELECT id FROM auth_user") == before


def test_no_password_is_in_any_log(alpha_by_password: Agent) -> None:
    """What people typed has gone to alpha, and into none of our programs' logs, at the most talkative level."""
    for name in ("broker", "alpha-agent", "beta-agent"):
        said = (artefacts() / f"{name}.log").read_text()
        assert said, f"{name} logs something"
        assert ALICE.password not in said and WRONG_PASSWORD not in said, name


def starts_at_beta(visitor: Visitor, addresses: Addresses) -> None:
    """From beta's login page to the home picker and on to alpha."""
    visitor.opens(f"{addresses.beta.url}/accounts/login/", title="Sign In")
    visitor.clicks("Homeward")
    visitor.sees("Log in to Beta")
    assert visitor.page.url.startswith(addresses.broker.url), "the home picker"
    assert visitor.page.get_by_role("button", name="Gamma", disabled=True).count() == 1, "a home that is not there"
    visitor.clicks("Alpha")


def gives_password(visitor: Visitor, password: str) -> None:
    visitor.fills_in({"User name": ALICE.username, "Password": password})
    visitor.clicks("Log in")


def is_alice_at_beta(visitor: Visitor, addresses: Addresses, beta_site: Website) -> None:
    """Signed in, as one and the same account however she came, with everything that alpha vouches for."""
    visitor.sees("Welcome")
    assert visitor.page.url == f"{addresses.beta.url}/"
    visitor.reads("#who", f"{ALICE.username}@alpha")
    visitor.reads("#name", f"{ALICE.first_name} {ALICE.last_name}")
    users = beta_site.rows("SELECT username, first_name, last_name, email FROM auth_user")
    assert users == [(f"{ALICE.username}@alpha", ALICE.first_name, ALICE.last_name, ALICE.email)]
    assert beta_site.rows('SELECT email, verified, "primary" FROM account_emailaddress') == [(ALICE.email, 1, 1)]
    assert beta_site.rows("SELECT provider FROM socialaccount_socialaccount") == [("homeward",)]
