"""The Compose file, read by Docker Compose itself, and every configuration in it by the program that it is for."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from certificates import ThrowAwayAuthority
from conftest import DEPLOY, TOOLS, output
from homeward import BINARIES
from machine import Machine
from processes import PATIENCE_S

OURS = ("broker", "broker-init", "agent")


@pytest.fixture(scope="module")
def there(folder: Path) -> Path:
    """A copy of the folder, after `prepare`."""
    there = folder / "deploy"
    shutil.copytree(DEPLOY, there)
    output(there / "compose" / "prepare")
    return there / "compose"


@pytest.fixture(scope="module")
def project(there: Path) -> dict:
    """As Docker Compose understands it."""
    return json.loads(output(TOOLS / "docker-compose", "--file", there / "compose.yml", "config", "--format", "json"))


@pytest.fixture(scope="module")
def services(project: dict) -> dict[str, dict]:
    return project["services"]


def test_docker_compose_takes_the_file(services: dict[str, dict]) -> None:
    assert {"broker", "agent", "inventree", "postgres", "nginx"} <= set(services)


def test_what_is_mounted_is_there(services: dict[str, dict]) -> None:
    for name, service in services.items():
        for mount in service.get("volumes", []):
            there = mount["type"] != "bind" or Path(mount["source"]).exists() or mount["source"].endswith("/certs")
            assert there, f"{name} mounts {mount['source']}"


def test_postgres_is_up_when_others_reach_it(services: dict[str, dict]) -> None:
    """While its image makes the database, it answers by the socket only."""
    assert "--host=127.0.0.1" in services["postgres"]["healthcheck"]["test"]


def test_ours_are_closed(services: dict[str, dict]) -> None:
    for name in OURS:
        service = services[name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"] and "user" not in service, name


def test_secrets_are_secret_and_made_once(there: Path) -> None:
    secrets = there / "secrets"
    assert secrets.stat().st_mode & 0o077 == 0
    for secret in secrets.iterdir():
        assert secret.stat().st_mode & 0o077 == 0, secret
    if os.geteuid() == 0:
        assert {(secrets / name).stat().st_uid for name in ("kek", "database-url")} == {65532}
    kek = (secrets / "kek").read_text()
    with pytest.raises(AssertionError, match="File exists"):
        output(there / "prepare")
    assert (secrets / "kek").read_text() == kek


def test_the_broker_does_at_every_start_what_compose_says(machine: Machine, there: Path, services: dict[str, dict]) -> None:
    """As user 65532, with the secret where Compose puts it. A key that was none at the first start is all there is to mend."""
    configuration = f"mkdir -p /etc/homeward-broker /run/secrets && cp {there}/broker.toml /etc/homeward-broker/"
    volume = "install -d -m 755 -o 65532 -g 65532 /var/lib/homeward-broker"
    machine.says(f"{configuration} && {volume} && install -o 65532 -m 400 /dev/null /run/secrets/kek")
    run = f"CREDENTIALS_DIRECTORY=/run/secrets setpriv --reuid 65532 --regid 65532 --clear-groups {BINARIES}/homeward-broker"
    first = " ".join(services["broker-init"]["command"])
    refused = machine.tries(f"{run} {first}")
    assert refused.returncode == 1 and "/run/secrets/kek" in refused.stdout, refused.stdout
    machine.says(f"install -o 65532 -m 400 {there}/secrets/kek /run/secrets/kek")
    assert "Made the federation" in machine.says(f"{run} {first}")
    assert "There is a federation" in machine.says(f"{run} {first}")
    assert "can be used" in machine.says(f"{run} config check")
    ready = "timeout 20 sh -c 'until grep -q listening /tmp/said; do sleep 0.1; done'"
    machine.says(f"{run} serve >/tmp/said 2>/tmp/log & {ready} || {{ cat /tmp/log; exit 1; }}; {run} healthcheck")


def test_the_agent_takes_its_configuration(there: Path) -> None:
    output(BINARIES / "homeward-agent", "--config", there / "agent.toml", "config", "check")
    # Nothing runs here, and the agent says so of the socket: it speaks to no database over a network.
    file = there / "elsewhere.toml"
    here = {"/run/secrets/database-url": there / "secrets" / "database-url", "/var/lib/homeward-agent": there}
    text = (there / "agent.toml").read_text()
    for inside, outside in here.items():
        text = text.replace(inside, str(outside))
    file.write_text(text)
    command = [BINARIES / "homeward-agent", "--config", file, "recipe", "test", "--output", "json"]
    tested = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert "the database cannot be opened" in tested.stdout and "No such file or directory" in tested.stdout, tested.stdout


def test_nginx_takes_its_configuration(machine: Machine, there: Path, authority: ThrowAwayAuthority) -> None:
    """Around it, what the nginx image has in its own file."""
    certificates = [authority.issue(name, ["127.0.0.1"]) for name in ("login", "parts")]
    machine.says("rm -rf /etc/nginx/sites-enabled/* /etc/nginx/conf.d/*; mkdir -p /etc/nginx/certs")
    for chain, key in certificates:
        machine.says('cp "$@" /etc/nginx/certs/', chain, key)
    machine.says(f"cp {there}/nginx.conf /etc/nginx/conf.d/default.conf; nginx -t")


def test_only_nginx_is_believed(there: Path, project: dict) -> None:
    address = project["services"]["nginx"]["networks"]["default"]["ipv4_address"]
    (addresses,) = project["networks"]["default"]["ipam"]["config"]
    assert ipaddress.ip_address(address) in ipaddress.ip_network(addresses["subnet"])
    assert ipaddress.ip_address(address) not in ipaddress.ip_network(addresses["ip_range"]), "who starts first may take it"
    for name in ("broker.toml", "agent.toml"):
        assert f'trusted_proxies = ["{address}"]' in (there / name).read_text()
