"""Beta's client secret and the broker's signing key turn under a real django-allauth, whose agent proves that it follows."""

import json
import time

from conftest import ALICE, Addresses
from homeward import Agent, Broker
from processes import PATIENCE_S, artefacts
from test_2_login import gives_password, is_alice_at_beta, starts_at_beta
from visitor import Visitor
from website import Website


def test_the_first_secret_was_proved_by_a_login_of_the_application(federation: Broker) -> None:
    """allauth itself presented the probe; nothing was acknowledged on the agent's word alone."""
    said = (artefacts() / "beta-agent.log").read_text()
    assert "the application uses these client credentials" in said
    assert "acknowledged without a probe" not in said


def test_the_client_secret_turns_when_allauth_presents_the_new_one(federation: Broker, beta_site: Website) -> None:
    before = secret_of(beta_site)
    federation.says("secret", "rotate", "--instance", "beta")
    rotation = ends(federation, "secret/beta")
    assert rotation["phase"] == "done", rotation
    assert secret_of(beta_site) != before
    assert federation.awaits_acknowledgement("beta")["problem"] == ""


def test_the_signing_key_turns_as_allauth_keeps_no_keys(federation: Broker) -> None:
    federation.says("keys", "rotate", "--algorithm", "RS256")
    new = federation.shows("keys", "list")
    pending = next(key["key_id"] for key in new if key["algorithm"] == "RS256" and key["state"] != "active")
    deadline = time.monotonic() + PATIENCE_S
    while pending not in json.dumps(federation.shows("instance", "show", "beta")["acknowledged_key_ids"]):
        assert time.monotonic() < deadline, "beta's agent has not acknowledged the new key"
        time.sleep(0.1)


def test_alice_logs_in_with_the_new_secret(
    alpha_by_password: Agent, addresses: Addresses, visitor: Visitor, beta_site: Website
) -> None:
    starts_at_beta(visitor, addresses)
    gives_password(visitor, ALICE.password)
    is_alice_at_beta(visitor, addresses, beta_site)


def secret_of(site: Website) -> str:
    file = site.credentials_dir / "current" / "homeward_allauth.json"
    (provider,) = json.loads(file.read_text())["openid_connect"]["APPS"]
    return provider["secret"]


def ends(broker: Broker, subject: str) -> dict:
    """Waits until a rotation has ended, and returns how."""
    deadline = time.monotonic() + 2 * PATIENCE_S
    while True:
        (rotation,) = broker.shows("rotation", "status", subject)
        if rotation["phase"] in ("done", "rolled back"):
            return rotation
        assert time.monotonic() < deadline, rotation
        time.sleep(0.1)
