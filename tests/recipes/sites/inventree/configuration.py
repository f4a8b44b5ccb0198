"""InvenTree's configuration: an environment variable wins over the entry of config.yaml."""

import json
import os
from pathlib import Path
from typing import Any

import yaml

_FILE = os.environ.get("INVENTREE_CONFIG_FILE")
_YAML: dict[str, Any] = (yaml.safe_load(Path(_FILE).read_text()) or {}) if _FILE and Path(_FILE).exists() else {}


def setting(variable: str, entry: str, default: Any = None) -> Any:
    """Text, from wherever it is said."""
    return os.environ.get(variable, _YAML.get(entry, default))


def flag(variable: str, entry: str) -> bool:
    return str(setting(variable, entry, False)).lower() in ("1", "true", "yes", "on")


def words(variable: str, entry: str) -> list[str]:
    """A list, with commas in the environment."""
    found = setting(variable, entry, [])
    return [word.strip() for word in found.split(",") if word.strip()] if isinstance(found, str) else list(found)


def mapping(variable: str, entry: str) -> dict[str, Any]:
    """An object, JSON in the environment."""
    found = setting(variable, entry, {})
    return (json.loads(found) if found.strip() else {}) if isinstance(found, str) else dict(found or {})
