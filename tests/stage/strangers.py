"""Relying parties without agent: what ops type to let them in, and how they register (RFC 7591)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from homeward import Broker


class Strangers:
    """One open registration. Every client that it registers is one more client of the same relying party."""

    def __init__(self, broker: Broker, ca_file: Path, name: str, clients: int) -> None:
        self.broker = broker
        self.name = name
        self.ca_file = ca_file
        opened = broker.shows("registration", "open", name, "--clients", str(clients))
        self.initial_access_token: str = opened["initial_access_token"]

    def may_log_in_from(self, home: str, *options: str) -> None:
        """Makes the trust edge. Options as of `trust allow`."""
        self.broker.says("trust", "allow", "--relying-party", self.name, "--home", home, *options)

    def asks(self, metadata: dict[str, Any], token: str | None = None) -> requests.Response:
        """Sends a registration and returns whatever comes back."""
        token = self.initial_access_token if token is None else token
        return requests.post(
            f"{self.broker.public.url}/register",
            json=metadata,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            verify=str(self.ca_file),
            timeout=30,
            allow_redirects=False,
        )

    def registers(self, *redirect_uris: str, **metadata: Any) -> dict[str, Any]:
        """Registers a client and returns what the broker says of it, credentials included."""
        answer = self.asks({"redirect_uris": list(redirect_uris), **metadata})
        assert answer.status_code == 201, answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        return answer.json()

    def has_policy(self, client_id: str, *options: str) -> None:
        """What ops demand of one of its clients. Options as of `client policy`."""
        self.broker.says("client", "policy", client_id, *options)
