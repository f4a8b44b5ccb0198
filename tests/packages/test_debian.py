"""The Debian packages, from building them to purging them, on a machine that may be spoilt."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from conftest import build, output
from machine import Machine

# Packages for Debian itself answer to a bug; these are nobody's intent to package.
NOT_IN_DEBIAN = "initial-upload-closes-no-bugs"

NAMED = """
sed -i -e 's|^public_url = .*|public_url = "https://login.store.test"|' \\
    -e 's|^agent_url = .*|agent_url = "https://login.store.test:8443"|' \\
    -e 's|^trust_domain = .*|trust_domain = "store.test"|' /etc/homeward-broker/broker.toml
"""

SERVED = """
rm -f /tmp/said
runuser -u homeward-broker -- homeward-broker serve >/tmp/said 2>/tmp/log &
timeout 20 sh -c 'until grep -q listening /tmp/said; do sleep 0.1; done' || { cat /tmp/log; exit 1; }
homeward-broker healthcheck
homeward-broker token create --instance beta
"""


@pytest.fixture(scope="module")
def installed(machine: Machine, packages: dict[str, Path]) -> Machine:
    # Who looks for a manual page by its words is not asked here.
    machine.says("rm -f /var/lib/man-db/auto-update")
    machine.says('dpkg --force-unsafe-io --install "$@"', *packages.values())
    return machine


def test_one_command_makes_both_and_the_same_again(packages: dict[str, Path], folder: Path) -> None:
    assert sorted(packages) == ["homeward-agent", "homeward-broker"]
    for name, again in build(folder / "again").items():
        hashes = [hashlib.sha256(package.read_bytes()).hexdigest() for package in (packages[name], again)]
        assert hashes[0] == hashes[1], f"{name} is another one the second time"


def test_lintian_finds_nothing(packages: dict[str, Path]) -> None:
    output("lintian", "--allow-root", "--fail-on=error,warning", f"--suppress-tags={NOT_IN_DEBIAN}", *packages.values())


def test_nothing_is_started_and_nothing_is_enabled(installed: Machine) -> None:
    for name in ("homeward-broker", "homeward-agent"):
        asked = installed.tries("systemctl is-enabled $1", name)
        assert asked.stdout.strip() == "disabled", asked.stdout
    assert not installed.says("find /var/lib/homeward-broker -mindepth 1")


def test_systemd_takes_the_units_as_installed(installed: Machine) -> None:
    for name in ("homeward-broker", "homeward-agent"):
        assert installed.says("systemd-analyze verify --recursive-errors=no /lib/systemd/system/$1.service", name) == ""


def test_the_program_describes_itself(installed: Machine) -> None:
    installed.says("test -f /usr/share/man/man1/homeward-broker-token-create.1.gz")
    installed.says("test -f /usr/share/man/man1/homeward-agent-enrol.1.gz")
    for name in ("homeward-broker", "homeward-agent"):
        installed.says('bash -c ". /usr/share/bash-completion/completions/$1; complete -p $1"', name)
        assert "tokio" in installed.says("zcat /usr/share/doc/$1/licences.gz", name)


def test_the_broker_has_a_user_and_a_folder_of_its_own(installed: Machine) -> None:
    assert installed.says("stat -c '%U:%G %a' /var/lib/homeward-broker").strip() == "homeward-broker:homeward-broker 700"


def test_the_broker_starts_after_what_its_readme_says(installed: Machine) -> None:
    """Three names in the file, `init`, `serve`; all of it as the user of the unit."""
    installed.says(NAMED)
    made = installed.says("runuser -u homeward-broker -- homeward-broker init")
    assert "Made the federation store.test" in made
    checked = installed.says("runuser -u homeward-broker -- homeward-broker config check")
    assert "The configuration can be used." in checked
    assert "hwj1." in installed.says(SERVED)


def test_init_if_needed_leaves_a_federation_alone(installed: Machine) -> None:
    """What a container does at every start."""
    key = installed.says("sha256sum /var/lib/homeward-broker/kek")
    again = installed.says("runuser -u homeward-broker -- homeward-broker init --if-needed")
    assert "There is a federation" in again
    assert installed.says("sha256sum /var/lib/homeward-broker/kek") == key
    refused = installed.tries("runuser -u homeward-broker -- homeward-broker init")
    assert refused.returncode == 1 and "touches no existing federation" in refused.stdout
    elsewhere = "sed 's|^data_dir = .*|data_dir = \"/tmp/other/data\"|' /etc/homeward-broker/broker.toml >/tmp/other.toml"
    assert "Made the federation" in installed.says(f"{elsewhere}; homeward-broker --config /tmp/other.toml init --if-needed")


def test_the_agent_takes_the_file_that_comes_with_it(installed: Machine) -> None:
    assert "alpha.example.org" in installed.says("homeward-agent config check")


def test_an_upgrade_keeps_configuration_data_and_whether_it_is_enabled(installed: Machine, packages: dict[str, Path]) -> None:
    installed.says("systemctl enable homeward-broker 2>/dev/null")
    installed.says('dpkg --force-unsafe-io --install "$1"', packages["homeward-broker"])
    assert 'trust_domain = "store.test"' in installed.says("cat /etc/homeward-broker/broker.toml")
    assert installed.says("systemctl is-enabled homeward-broker").strip() == "enabled"
    assert "hwj1." in installed.says(SERVED)


def test_removed_it_leaves_configuration_and_data(installed: Machine) -> None:
    installed.says("dpkg --remove homeward-broker homeward-agent")
    assert installed.tries("command -v homeward-broker homeward-agent").returncode != 0
    installed.says("test -f /etc/homeward-broker/broker.toml && test -f /etc/homeward-agent/agent.toml")
    installed.says("test -f /var/lib/homeward-broker/kek")


def test_installed_again_it_goes_on_where_it_was(installed: Machine, packages: dict[str, Path]) -> None:
    installed.says('dpkg --force-unsafe-io --install "$1"', packages["homeward-broker"])
    assert installed.says("systemctl is-enabled homeward-broker").strip() == "enabled"
    assert "hwj1." in installed.says(SERVED)


def test_purged_it_leaves_the_federation_and_says_so(installed: Machine) -> None:
    said = installed.says("dpkg --purge homeward-broker homeward-agent")
    assert "rm -r /var/lib/homeward-broker" in said and "rm -r /var/lib/homeward-agent" not in said
    installed.says("test -f /var/lib/homeward-broker/kek")
    left = installed.says("find /etc /lib /usr/bin /usr/lib /usr/share /var/lib/systemd -xdev -path '*homeward*'")
    assert left == "", left


def test_only_what_runs_is_started_again(installed: Machine, packages: dict[str, Path]) -> None:
    """What systemd is asked for where it runs (and no policy of an image forbids it); here something that notes it."""
    note = "printf '#!/bin/sh\\necho \"$@\" >>/tmp/asked\\n' >/usr/bin/systemctl; mkdir -p /run/systemd/system; rm -f /usr/sbin/policy-rc.d"
    asked = "cat /tmp/asked; rm /tmp/asked"
    install = 'dpkg --force-unsafe-io --install "$1" >/dev/null 2>&1'
    first = installed.says(f"{note}; {install}; {asked}", packages["homeward-broker"])
    assert first.split("\n") == ["--system daemon-reload", ""], "not started"
    upgrade = installed.says(f"{install}; {asked}", packages["homeward-broker"])
    assert "try-restart homeward-broker.service" in upgrade and "stop" not in upgrade
    assert "stop homeward-broker.service" in installed.says(f"dpkg --remove homeward-broker >/dev/null; {asked}")
