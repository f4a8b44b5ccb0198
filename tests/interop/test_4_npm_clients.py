"""npm's openid-client and oauth4webapi, strict checks on, against the running broker.

The scenarios are in ./node; what a scenario proves is said in its first line.
"""

from pathlib import Path

import pytest

from node import Node
from person import Person

SCENARIOS = Path(__file__).parent / "node"


def scenarios() -> list[str]:
    """Every program that is there: none can be forgotten."""
    found = [f"{file.parent.name}/{file.stem}" for file in SCENARIOS.glob("*/*.mjs") if file.stem != "login"]
    return sorted(found)


@pytest.mark.parametrize("scenario", scenarios())
def test_scenario(scenario: str, node: Node, alice: Person) -> None:
    node.plays(scenario, alice)
