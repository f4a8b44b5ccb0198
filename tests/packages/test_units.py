"""The units under systemd itself, as the packages install them: what is closed is closed, and what is needed still works.

Broker, agent and an application are on one machine that is booted for it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from machine import Machine

BROKER = """
sed -i -e 's|^public_url = .*|public_url = "https://login.store.test"|' \\
    -e 's|^agent_url = .*|agent_url = "https://login.store.test:8443"|' \\
    -e 's|^trust_domain = .*|trust_domain = "store.test"|' /etc/homeward-broker/broker.toml
echo '127.0.0.1 login.store.test' >>/etc/hosts
runuser -u homeward-broker -- homeward-broker init
"""

AGENT = """
cat >/etc/homeward-agent/agent.toml <<'END'
public_url = "https://alpha.store.test"
data_dir = "/var/lib/homeward-agent"
recipe = "generic-oidc"
[app]
url = "http://127.0.0.1:8000"
[relying_party]
credentials_dir = "/var/lib/homeward-credentials"
owner = "www-data"
group = "www-data"
reload = ["systemctl", "restart", "application.service"]
END
mkdir -p /etc/systemd/system/homeward-agent.service.d
printf '[Service]\nStandardError=append:/agent.log\n' >/etc/systemd/system/homeward-agent.service.d/log.conf
cat >/etc/systemd/system/application.service <<'END'
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
User=www-data
ExecStart=/bin/sh -c 'cat /var/lib/homeward-credentials/current/* >/tmp/application-has-read'
END
"""

# What the kernel knows of a service's first process.
CONFINED = "grep -E '^(Uid|CapBnd|NoNewPrivs|Seccomp):' /proc/$(systemctl show --property MainPID --value $1)/status"

UP = f"""
awaits() {{ timeout 30 sh -c "until $1; do sleep 0.1; done" || {{ systemctl status homeward-agent homeward-broker; cat /agent.log; exit 1; }}; }}
confined() {{ echo "$1"; {CONFINED}; }}
awaits 'homeward-broker healthcheck 2>/dev/null'
homeward-broker token create --instance alpha --output json | sed -n 's/.*"text": *"\\([^"]*\\)".*/\\1/p' >/tmp/token
chmod 600 /tmp/token
homeward-agent enrol --token-file /tmp/token
systemctl start homeward-agent
awaits 'test -s /tmp/application-has-read'
confined homeward-broker
confined homeward-agent
stat -c '%U %a' /var/lib/homeward-credentials/current/*
nsenter --target "$(systemctl show --property MainPID --value homeward-agent)" --mount sh -c \\
    'touch /etc/x 2>/dev/null || echo "/etc is closed"; touch /srv/x && echo "/srv is open"'
systemctl stop homeward-agent homeward-broker
systemctl show --property Result --value homeward-agent homeward-broker
"""


@pytest.fixture(scope="module")
def said(machine: Machine, packages: dict[str, Path]) -> str:
    machine.says("rm -f /var/lib/man-db/auto-update")
    machine.says('dpkg --force-unsafe-io --install "$@"', *packages.values())
    machine.says(BROKER + AGENT)
    return machine.boots(UP, "homeward-broker.service")


def status(said: str, unit: str) -> dict[str, str]:
    lines = said.split(f"\n{unit}\n")[1].splitlines()[:4]
    return {name: value.split()[0] for name, value in (line.split(":", 1) for line in lines)}


def test_the_broker_runs_with_nothing(said: str) -> None:
    found = status(said, "homeward-broker")
    assert found.pop("Uid") != "0"
    assert found == {"CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"}


def test_the_agent_runs_with_what_it_needs(said: str) -> None:
    """CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID and SETUID: bits 0, 1, 3, 5, 6 and 7."""
    assert status(said, "homeward-agent") == {"Uid": "0", "CapBnd": "00000000000000eb", "NoNewPrivs": "1", "Seccomp": "2"}
    assert "/etc is closed" in said and "/srv is open" in said


def test_the_agent_writes_for_another_user_and_restarts_the_application(said: str) -> None:
    """That it was restarted is what the script waited for: it has read what the agent wrote."""
    assert "www-data 600" in said, said


def test_both_end_well(said: str) -> None:
    assert said.rstrip().splitlines()[-3:] == ["success", "", "success"], said
