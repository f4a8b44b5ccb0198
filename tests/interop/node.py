"""Scenarios that npm's clients play: small programs of theirs, for which pytest is the browser and the operator."""

import json
import subprocess
from pathlib import Path
from typing import Any

from person import Person
from processes import REPOSITORY, artefacts
from strangers import Strangers

# Where tests/run installs the packages, and a link to ./node beside them.
INSTALLED = REPOSITORY / "tests" / ".cache" / "node"
LONGEST_S = 60


class Node:
    """Plays scenarios, each in a Node of its own."""

    def __init__(self, strangers: Strangers, ca_file: Path, settings: dict[str, str]) -> None:
        self._strangers = strangers
        self._ca_file = ca_file
        self._settings = settings | {
            "issuer": strangers.broker.public.url,
            "initialAccessToken": strangers.initial_access_token,
        }

    def plays(self, scenario: str, person: Person) -> dict[str, Any]:
        """Runs a scenario to its end and returns what it leaves."""
        log = artefacts() / f"{scenario.replace('/', '-')}.log"
        with log.open("w") as errors, self._started(scenario, errors) as process:
            try:
                for line in process.stdout:
                    said = json.loads(line)
                    if "done" in said:
                        return said["done"]
                    process.stdin.write(json.dumps(self._does(said, person)) + "\n")
                    process.stdin.flush()
            finally:
                process.stdin.close()
                process.wait(LONGEST_S)
        raise AssertionError(f"{scenario}: {log.read_text()[-6000:]}")

    def _started(self, scenario: str, errors: Any) -> subprocess.Popen:
        program = INSTALLED / "scenarios" / f"{scenario}.mjs"
        # The link is where packages are looked for. Node 18 has Web Crypto behind an option; later ones ignore it.
        options = [
            "--preserve-symlinks",
            "--preserve-symlinks-main",
            "--experimental-global-webcrypto",
            "--no-warnings",
        ]
        return subprocess.Popen(
            ["node", *options, str(program), json.dumps(self._settings)],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "NODE_EXTRA_CA_CERTS": str(self._ca_file)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    def _does(self, asked: dict[str, Any], person: Person) -> dict[str, Any]:
        if "visit" in asked:
            arrival = person.logs_in(asked["visit"], asked["redirectUri"])
            return {"url": arrival.url, "posted": arrival.posted, "parameters": arrival.parameters}
        if "device" in asked:
            lets_a_device_in(person, asked["device"], asked.get("userCode"), deny=asked.get("deny", False))
            return {}
        if "policy" in asked:
            self._strangers.has_policy(asked["clientId"], *asked["policy"])
            return {}
        raise AssertionError(f"nobody knows how to {asked}")


def lets_a_device_in(person: Person, url: str, user_code: str | None, *, deny: bool = False) -> None:
    """Types the code in, if the address does not carry it, logs in and says yes or no (RFC 8628 3.3)."""
    page = person.opens(url)
    for _ in range(12):
        if found := page.button("Refuse" if deny else "Agree"):
            person.sends(*found)
            return
        form = next((form for form in page.forms if "user_code" in form.fields), None)
        if form:
            page = person.sends(form, form.fields | ({"user_code": user_code} if user_code else {}))
        else:
            page = person.answers(page)
    raise AssertionError(f"the device was never asked about: {page}")
