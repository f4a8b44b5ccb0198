"""The agent's page for its operator, in Chromium: alone on its machine, behind nginx, and beside a page of somebody else's."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, expect

from clientside import Call, ClientSide
from front import Front
from homeward import Agent, Broker
from ops import Ops
from processes import PATIENCE_S, REPOSITORY

CANARY = "canary-in-the-environment"
ADMIN = "admin=yes"


class Bench(Agent):
    """A relying party and home with a page, whose application can be made to hang."""

    def __init__(self, folder: Path, front: Front) -> None:
        self.application = ClientSide()
        self.answers = threading.Event()
        self.answers.set()
        super().__init__(folder / "bench", front.address("bench"), front.ca_file)
        self._machine |= {"CANARY": CANARY}
        self.credentials = folder / "bench-credentials"
        self.application.answers("/", self._front_page)
        self.application.answers("/admin-ping", self._ping)

    @property
    def page(self) -> str:
        return f"http://{self.announced['operator_page']}"

    def _front_page(self, _: Call) -> tuple[int, str, bytes]:
        self.answers.wait(PATIENCE_S)
        return 200, "text/html", b"<title>Bench</title>"

    def _ping(self, call: Call) -> tuple[int, str, bytes]:
        return 200 if ADMIN in call.headers.get("Cookie", "") else 403, "text/plain", b""


@pytest.fixture(scope="module")
def bench(folder: Path, front: Front, broker: Broker) -> Iterator[Bench]:
    bench = Bench(folder, front)
    bench.enrols(
        broker.join_token("bench"),
        recipe="generic-oidc",
        app={"url": f"http://{bench.application.address}"},
        relying_party={"credentials_dir": str(bench.credentials), "reload": ["/bin/true", CANARY]},
        home={"methods": ["file"], "file": {"users_file": str(folder / "bench-users.toml")}},
        operator_page={"listen": "127.0.0.1:0", "hosts": ["bench.example"]},
    )
    bench.says("user", "add", "greta", "--email", "greta@bench.example", stdin="gladly given gravel\n")
    bench.runs()
    bench.public.behind["/"] = bench.application.address
    operator = bench.announced["operator_page"]
    snippet = (REPOSITORY / "deploy/nginx-operator-page.conf").read_text()
    assert "127.0.0.1:9446/;" in snippet
    asked = f"set $homeward_admins_only http://{bench.application.address}/admin-ping;\n"
    bench.public.locations = asked + snippet.replace("127.0.0.1:9446/;", f"{operator}/;")
    front.start()
    # Not all of it is in effect for hours: who keeps the key set, and for how long, nobody can know of this recipe.
    deadline = time.monotonic() + PATIENCE_S
    while not bench.tells("status")[1]["credentials_proved"]:
        assert time.monotonic() < deadline, "the application has not proved its credentials"
        time.sleep(0.25)
    yield bench
    bench.answers.set()
    bench.stop()
    bench.application.stop()


@pytest.fixture
def operator(
    request: pytest.FixtureRequest, chromium: Browser, broker: Broker, front: Front, bench: Bench
) -> Iterator[Ops]:
    """Who runs the bench, with a browser on its machine."""
    name = f"operator-{request.node.name.removeprefix('test_')}"
    operator = Ops(name, chromium, broker, front, bench.page)
    yield operator
    operator.leaves()
    assert not operator.complaints, "\n".join(operator.complaints)


def lets_the_doctor_look(operator: Ops) -> None:
    """With the keyboard alone."""
    button = operator.page.get_by_role("button", name="Let the doctor look")
    button.focus()
    operator.page.keyboard.press("Enter")


def test_1_what_the_agent_knows_and_the_doctor_finds(operator: Ops, bench: Bench) -> None:
    operator.page.goto(bench.page)
    operator.sees("bench: Homeward agent")
    operator.reads("Nothing that the agent knows of.")
    operator.reads("The doctor has not looked")
    for fact in ("Credentials proved", "homeward_oidc.json", "Renews itself", "client_secret", "generic-oidc"):
        operator.reads(fact)
    lets_the_doctor_look(operator)
    expect(operator.page.locator("main")).to_contain_text("Looked at", timeout=PATIENCE_S * 1000)
    operator.sees("bench: Homeward agent")
    _, told = bench.tells("doctor")
    for finding in told["findings"]:
        if finding["about"] not in ("certificate", "clock"):
            operator.reads(finding["sentence"])
    assert operator.page.locator("h1").inner_text() == "bench"
    levels = [int(it.evaluate("it => it.tagName[1]")) for it in operator.page.locator("h1, h2, h3").all()]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in zip(levels, levels[1:])), levels


def test_2_the_doctor_is_waited_for(operator: Ops, bench: Bench) -> None:
    bench.answers.clear()
    try:
        operator.page.goto(bench.page)
        lets_the_doctor_look(operator)
        status = operator.page.locator("[role=status]")
        expect(status).to_contain_text("The doctor looks", timeout=PATIENCE_S * 1000)
        expect(status).to_contain_text("asking the application")
        # It opens itself again until it is back: without JavaScript there is no other way, and it says so.
        operator.sees("bench: Homeward agent", excused=("meta-refresh",))
    finally:
        bench.answers.set()
    expect(status).to_have_count(0, timeout=PATIENCE_S * 2000)
    operator.reads("Looked at")


def test_a_page_of_somebody_else_s_reads_and_presses_nothing(chromium: Browser, bench: Bench) -> None:
    """At another port of this machine, which is nearer than any page of the web."""
    frame = f'<iframe src="{bench.page}/"></iframe>'
    form = f'<form method="post" action="{bench.page}/doctor"><input name="form_token" value="x"><button>Win</button></form>'
    link = f'<a href="{bench.page}/">A link</a>'
    mallory = ClientSide()
    mallory.shows("/", f"<title>Mallory</title>{frame}{form}{link}", "text/html")
    page = chromium.new_page()
    try:
        page.goto(f"http://{mallory.address}/")
        for mode in ("cors", "no-cors"):
            read = page.evaluate(
                "([url, mode]) => fetch(url, {mode}).then(answer => answer.text()).catch(() => '')", [bench.page, mode]
            )
            assert read == "", f"{mode}: {read}"
        framed = page.frames[1]
        assert not framed.url.startswith("http") or "bench" not in framed.content()
        page.get_by_role("button", name="Win").click()
        expect(page.locator("h1")).to_have_text("Not from there")
        page.go_back()
        page.get_by_role("link", name="A link").click()
        expect(page.locator("h1")).to_have_text("bench")
        assert page.evaluate("window.opener") is None
    finally:
        page.close()
        mallory.stop()
    # A name of a stranger's that leads to this machine.
    rebound = requests.get(bench.page, headers={"Host": "mallory.example"}, timeout=PATIENCE_S)
    assert rebound.status_code == 421 and "bench" not in rebound.text
    proxied = requests.get(bench.page, headers={"Host": "bench.example"}, timeout=PATIENCE_S)
    assert proxied.status_code == 200 and "<h1>bench</h1>" in proxied.text


def test_behind_nginx_it_is_for_admins(operator: Ops, bench: Bench, front: Front) -> None:
    address = f"{bench.public.url}/homeward/operator/"
    stranger = requests.get(address, verify=str(front.ca_file), timeout=PATIENCE_S)
    assert stranger.status_code == 403 and "bench" not in stranger.text
    sent = requests.post(f"{address}doctor", verify=str(front.ca_file), timeout=PATIENCE_S)
    assert sent.status_code == 403 and "Homeward" not in sent.text
    asked = requests.get(f"{bench.public.url}/homeward/operator-check", verify=str(front.ca_file), timeout=PATIENCE_S)
    assert asked.status_code == 404, "only nginx asks"
    name, value = ADMIN.split("=")
    operator.page.context.add_cookies([{"name": name, "value": value, "url": bench.public.url}])
    operator.page.goto(address)
    operator.sees("bench: Homeward agent")
    lets_the_doctor_look(operator)
    expect(operator.page).to_have_url(f"{address}#doctor", timeout=PATIENCE_S * 1000)
    operator.reads("Looked at")


def test_no_secret_is_on_it(operator: Ops, bench: Bench) -> None:
    operator.page.goto(bench.page)
    lets_the_doctor_look(operator)
    expect(operator.page.locator("main")).to_contain_text("Looked at", timeout=PATIENCE_S * 1000)
    shown = operator.page.content()
    identity = json.loads((bench.folder / "data/identity.json").read_text())
    client = json.loads((bench.credentials / "current/homeward_oidc.json").read_text())
    users = (bench.folder.parent / "bench-users.toml").read_text()
    assert client["client_id"] in shown
    secrets = [CANARY, client["client_secret"], identity["recovery_key"], identity["certificate"]["key"]]
    secrets += re.findall(r"\$argon2\S+", users)
    assert len(secrets) == 5, users
    for secret in secrets:
        assert secret not in shown
    assert "greta" not in shown
