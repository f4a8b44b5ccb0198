"""Before the applications: the stage itself stands."""

import subprocess
from pathlib import Path

from certificates import ThrowAwayAuthority
from homeward import BINARIES, Broker
from person import Person
from processes import REPOSITORY
from website import Account


def test_the_broker_answers_behind_nginx(broker: Broker, authority: ThrowAwayAuthority) -> None:
    nobody = Person(authority.file, Account("", "", "", "", ""))
    found = nobody.opens(f"{broker.public.url}/.well-known/openid-configuration").response.json()
    assert found["issuer"] == broker.public.url


def test_every_recipe_in_the_repository_is_built_in() -> None:
    """A recipe that does not parse, or that nobody embedded, is found here and not by an operator."""
    listed = subprocess.run([BINARIES / "homeward-agent", "recipe", "list"], capture_output=True, text=True, check=True)
    for recipe in _recipes():
        assert recipe.stem in listed.stdout, f"{recipe.name} is not in the agent"


def _recipes() -> list[Path]:
    return sorted((REPOSITORY / "agent" / "recipes").glob("*.toml"))
