"""Every page and every action of the web console, clicked in Chromium at the shipped binaries."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect

from conftest import PASSWORD
from front import Front
from homeward import Agent, Broker
from ops import Ops
from processes import PATIENCE_S


def eventually(what: str, holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(0.2)
    return found


def instance(broker: Broker, name: str) -> dict:
    return broker.shows("instance", "show", name)


def edges(broker: Broker) -> list[tuple[str, str]]:
    return [(edge["relying_party"], edge["home"]) for edge in broker.shows("trust", "list")]


def signs_in_at_garage(ops: Ops, name: str) -> None:
    ops.page.get_by_label("User name").fill(name)
    ops.page.get_by_label("Password").first.fill(PASSWORD)
    ops.page.get_by_role("button", name="Log in").click()


def test_01_an_operator_s_token(ops: Ops, broker: Broker) -> None:
    ops.enters()
    ops.clicks("Join tokens")
    ops.sees("Join tokens")
    ops.fills_in({"Name of the instance": "shed", "What it is for": "for Sheila's shed"})
    ops.clicks("Make a join token")
    command = "homeward-broker token create --instance shed --lifetime 30m --note 'for Sheila'\\''s shed'"
    ops.agrees("Make a join token for shed?", command, "Make the join token")
    ops.sees("Join token for shed")
    text = ops.page.locator(".paste").inner_text()
    assert re.search(r"printf %s hwj1\.\S+ \| homeward-agent enrol --token-file -", text), text
    (token,) = broker.shows("token", "list")
    assert (token["instance"], token["creator"]) == ("shed", "console:uid=0")
    ops.clicks("All join tokens")
    ops.sees("Join tokens")
    ops.clicks(f"Revoke {token['id']}")
    ops.agrees(f"Revoke join token {token['id']}?", f"token revoke {token['id']}", "Revoke the join token")
    ops.reads("The join token is revoked.")
    assert broker.shows("token", "list")[0]["state"] == "revoked"


def test_02_instances(ops: Ops, broker: Broker, front: Front, garage: Agent, workshop: Agent) -> None:
    ops.enters()
    ops.clicks("Instances")
    ops.sees("Instances")
    ops.clicks("garage")
    ops.sees("garage")
    ops.clicks("Quarantine")
    ops.fills_in({"Why, in one sentence": "it's been stolen"})
    ops.agrees("Quarantine garage?", "homeward-broker instance quarantine garage", "Quarantine")
    ops.reads("The instance is quarantined.")
    assert instance(broker, "garage")["quarantine_reason"] == "it's been stolen"
    ops.opens("/console/", "Overview")
    ops.reads("garage is quarantined: It's been stolen.")
    ops.clicks("garage is quarantined: It's been stolen.")
    ops.clicks("Release from quarantine")
    ops.agrees("Release garage from quarantine?", "homeward-broker instance release garage", "Release")
    ops.reads("The instance is released.")
    # What the broker refuses is said in its words.
    ops.page.goto(f"{broker.public.url}/console/do/release?name=garage")
    ops.clicks("Release")
    ops.sees("Release garage from quarantine?")
    ops.reads("there is nothing to release")
    # The browser says on its console that this page came with 409.
    ops.complaints[:] = [complaint for complaint in ops.complaints if "409" not in complaint]
    # An agent that is dismissed stops: its operator starts it again.
    garage.stop()
    garage.runs()
    front.start()
    broker.awaits_acknowledgement("garage")


def test_03_trust(ops: Ops, broker: Broker, garage: Agent, workshop: Agent) -> None:
    ops.enters()
    ops.clicks("Trust")
    ops.sees("Trust")
    ops.page.get_by_label("Relying party", exact=True).select_option("workshop")
    ops.page.get_by_label("accepts users of").select_option("garage")
    ops.clicks("On what terms?")
    ops.sees("workshop accepts garage")
    ops.fills_in({"Domains whose e-mail addresses garage may call verified": "garage.example"})
    ops.page.get_by_label("Groups", exact=True).fill("admins=bosses\npeople=staff")
    ops.clicks("See what that does")
    command = "trust allow --relying-party workshop --home garage --email-domain garage.example"
    ops.agrees("Let workshop accept users of garage?", command, "Allow")
    ops.reads("The trust edge is allowed.")
    ops.sees("Trust")
    (edge,) = broker.shows("trust", "list")
    assert edge["groups"] == ["admins=bosses", "people=staff"] and edge["email_domains"] == ["garage.example"]
    ops.clicks("Change workshop accepts garage")
    ops.sees("workshop accepts garage")
    expect(ops.page.get_by_label("Groups", exact=True)).to_have_value("admins=bosses\npeople=staff")
    ops.clicks("Trust")
    ops.clicks("Explain a login")
    ops.sees("Explain a login")
    ops.fills_in({"Login name": "greta"})
    ops.page.get_by_label("logs in at").select_option("workshop")
    ops.clicks("Explain")
    ops.sees("Explain a login")
    ops.reads("greta of garage at workshop")
    ops.clicks("Trust")
    one_consent_is_taken_back_and_given_again(ops, broker)
    ops.clicks("Deny workshop accepts garage")
    command = "homeward-broker trust deny --relying-party workshop --home garage"
    ops.agrees("Let workshop accept users of garage no more?", command, "Deny")
    ops.reads("The trust edge is denied.")
    assert edges(broker) == []


def one_consent_is_taken_back_and_given_again(ops: Ops, broker: Broker) -> None:
    edge = "--relying-party workshop --home garage --side home"
    ops.clicks("Change workshop accepts garage")
    ops.sees("workshop accepts garage")
    ops.clicks("Take back that garage releases its users")
    title = "Let garage release its users to workshop no more?"
    ops.agrees(title, f"homeward-broker trust deny {edge}", "Take this consent back")
    ops.reads("The consent is taken back.")
    ops.sees("Trust")
    ops.reads("no: it has not consented")
    expect(ops.page.locator(".trust-map")).to_contain_text("garage does not release them")
    (half,) = broker.shows("trust", "list")
    assert half["missing_side"] == "home" and half["groups"] == ["admins=bosses", "people=staff"]
    ops.clicks("Overview")
    ops.sees("Overview")
    ops.clicks("garage has not consented to release its users to workshop: nobody gets in.")
    ops.sees("Trust")
    ops.clicks("Change workshop accepts garage")
    ops.sees("workshop accepts garage")
    ops.reads("One consent is missing")
    # Other terms complete nothing by the way.
    expect(ops.page.get_by_label("Whose consent this is")).to_have_value("relying-party")
    ops.clicks("Trust")
    ops.clicks("Complete workshop accepts garage")
    title = "Let garage release its users to workshop?"
    ops.agrees(title, f"homeward-broker trust allow {edge}", "Give this consent")
    ops.reads("The consent is given.")
    ops.sees("Trust")
    (whole,) = broker.shows("trust", "list")
    assert not whole["missing_side"] and whole["groups"] == half["groups"]


def test_04_who_is_still_on_the_old_one(ops: Ops, broker: Broker, garage: Agent, workshop: Agent) -> None:
    # Nobody writes the new secret into an application whose agent is away.
    workshop.stop()
    eventually("workshop is offline", lambda: not instance(broker, "workshop")["online"])
    ops.enters()
    ops.clicks("Keys, secrets, CA")
    ops.sees("Keys, secrets, CA")
    ops.reads("Nothing is turning.")
    ops.page.get_by_label("Whose").select_option("secret/workshop")
    ops.clicks("Turn the secret")
    command = "homeward-broker secret rotate --instance workshop"
    ops.agrees("Turn the client secret of workshop?", command, "Begin")
    ops.reads("The rotation has begun.")
    ops.reads("Still on the old one")
    ops.sees("Keys, secrets, CA")
    # The page sees by itself what happens elsewhere.
    broker.says("secret", "rollback", "--instance", "workshop")
    expect(ops.page.locator("[data-live]")).to_contain_text("rolled back", timeout=PATIENCE_S * 1000)
    ops.clicks("Turn the signing keys")
    ops.agrees("Turn the signing keys?", "homeward-broker keys rotate", "Begin")
    ops.reads("keys/RS256")
    for algorithm in ("RS256", "ES256"):
        ops.page.goto(f"{broker.public.url}/console/do/roll-back?subject=keys/{algorithm}")
        command = f"homeward-broker keys rollback --algorithm {algorithm}"
        ops.agrees(f"Take the rotation of the {algorithm} signing keys back?", command, "Take it back")
        ops.reads("The rotation is taken back.")
    ops.clicks("Turn the CA")
    ops.agrees("Turn the CA?", "homeward-broker ca rotate", "Begin")
    ops.reads("The rotation has begun.")
    broker.says("ca", "rollback")
    states = lambda: {one["state"] for one in broker.shows("rotation", "status")}
    eventually("everything is taken back", lambda: states() == {"rolled back"})


def lets_admins_of_garage_in(broker: Broker) -> None:
    broker.says("trust", "allow", "--relying-party", "console", "--home", "garage", "--group", "admins=ops")


def test_05_through_the_federation(ops: Ops, broker: Broker, garage: Agent) -> None:
    ops.opens("/console/", "Console")
    ops.enters()
    ops.opens("/console/trust/edge?relying_party=console&home=garage", "console accepts garage")
    ops.page.get_by_label("Groups", exact=True).fill("admins=ops")
    ops.clicks("See what that does")
    ops.agrees("Let console accept users of garage?", "--group admins=ops", "Allow")
    ops.clicks("Sign out")
    ops.sees("Console")
    ops.reads("You are signed out of the console.")
    ops.clicks("Sign in with your account at home")
    signs_in_at_garage(ops, "greta")
    ops.sees("Overview")
    expect(ops.page.locator("header")).to_contain_text("greta@garage")
    ops.clicks("Sessions")
    ops.sees("Sessions")
    ops.reads("greta@garage")
    ops.clicks("Audit")
    ops.sees("Audit")
    ops.page.get_by_label("What", exact=True).select_option("console_entered")
    ops.clicks("Search")
    ops.reads("console_entered")
    ops.fills_in({"From": "yesterday"})
    ops.clicks("Search")
    ops.sees("Audit")
    ops.reads("rite a time as")
    # The session at the broker ends, and with it this one.
    ops.page.goto(f"{broker.public.url}/console/sessions?user=greta@garage")
    ops.clicks("End all sessions of greta@garage")
    command = "homeward-broker session end --user greta@garage"
    ops.agrees("End all sessions of greta@garage?", command, "End all sessions")
    ops.sees("Console")
    expect(ops.page).to_have_url(f"{broker.public.url}/console/enter")


def test_06_who_is_not_of_ops(ops: Ops, broker: Broker, garage: Agent) -> None:
    lets_admins_of_garage_in(broker)
    ops.opens("/console/", "Console")
    ops.clicks("Sign in with your account at home")
    signs_in_at_garage(ops, "hugo")
    ops.sees("The console is not for you")
    ops.page.goto(f"{broker.public.url}/console/instances")
    expect(ops.page).to_have_url(f"{broker.public.url}/console/enter")
    # The browser says on its console that the page came with 403.
    ops.complaints[:] = [complaint for complaint in ops.complaints if "403" not in complaint]


def test_07_sessions_of_the_console(ops: Ops, broker: Broker) -> None:
    ops.enters()
    ops.clicks("Sessions")
    ops.sees("Sessions")
    own = ops.page.get_by_role("row").filter(has_text="this browser")
    own.get_by_role("link", name="End the console session of uid=0").click()
    ops.agrees("End this session of the console?", "homeward-broker console session end", "End the session")
    expect(ops.page).to_have_url(f"{broker.public.url}/console/enter")


def test_08_without_agent(ops: Ops, broker: Broker, folder: Path) -> None:
    ops.enters()
    ops.clicks("Without agent")
    ops.sees("Without agent")
    ops.fills_in({"Name of the relying party": "wiki"})
    ops.clicks("Let it register")
    command = "homeward-broker registration open wiki --clients 1 --lifetime 60m"
    ops.agrees("Let the application of wiki register itself?", command, "Make the access token")
    ops.sees("wiki may register itself")
    ops.clicks("All without agent")
    ops.sees("Without agent")
    ops.clicks("Remove the relying party wiki")
    ops.agrees("Remove the relying party wiki?", "homeward-broker registration close wiki", "Remove")
    ops.reads("The relying party without agent is gone.")
    assert broker.shows("registration", "list") == []
    # A home whose provider nobody has asked for anything yet.
    secret = folder / "provider.secret"
    secret.write_text("not so secret")
    secret.chmod(0o600)
    provider = ("--issuer", "https://provider.example", "--client-id", "homeward", "--client-secret-file", str(secret))
    broker.says("upstream", "add", "provider", *provider, "--no-check")
    ops.opens("/console/without-agent", "Without agent")
    ops.clicks("Remove the home provider")
    ops.agrees("Remove the home provider?", "homeward-broker upstream remove provider", "Remove")
    ops.reads("The home without agent is gone.")
    assert broker.shows("upstream", "list") == []


def test_09_what_seals_the_store(ops: Ops, broker: Broker) -> None:
    ops.enters()
    ops.clicks("Keys, secrets, CA")
    ops.clicks("The keys that seal")
    ops.sees("The keys that seal")
    ops.reads("Everything is sealed by the configured key.")
    ops.reads(broker.shows("kek", "show")["key_id"])


def test_10_the_end_of_an_instance(ops: Ops, broker: Broker, workshop: Agent) -> None:
    workshop.stop()
    ops.enters()
    ops.reads("workshop is offline")
    ops.opens("/console/instances/workshop", "workshop")
    ops.clicks("Evict for good")
    ops.agrees("Evict workshop for good?", "homeward-broker instance evict workshop --yes", "Evict for good")
    ops.sees("Instances")
    ops.reads("The instance is evicted.")
    ops.page.goto(f"{broker.public.url}/console/instances/workshop")
    ops.sees("That cannot be shown")
    ops.complaints[:] = [complaint for complaint in ops.complaints if "404" not in complaint]


def test_11_without_javascript(chromium: Browser, broker: Broker) -> None:
    """What is done is done by forms; what is fresh is so after a reload."""
    context = chromium.new_context(java_script_enabled=False, locale="en-GB")
    page = context.new_page()
    page.goto(broker.shows("console", "code")["url"])
    page.get_by_role("button", name="Sign in with the code").click()
    page.get_by_role("link", name="Join tokens").click()
    page.get_by_label("Name of the instance").fill("barn")
    page.get_by_role("button", name="Make a join token").click()
    page.get_by_role("button", name="Make the join token").click()
    expect(page.locator(".paste")).to_contain_text("homeward-agent enrol --token-file -")
    page.get_by_role("link", name="Keys, secrets, CA").click()
    expect(page.get_by_role("link", name="Look again")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("main")).to_contain_text("You are signed out of the console.")
    context.close()
