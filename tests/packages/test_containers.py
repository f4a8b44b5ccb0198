"""The images. There is no registry to have their bases from here, so nothing is built: they are read, by hadolint and below,
and what they say is tried on the programs themselves."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conftest import DEPLOY, TOOLS, output
from front import Front
from homeward import BINARIES, Agent, Broker
from processes import REPOSITORY

DOCKERFILE = DEPLOY / "Dockerfile"

# What distroless/cc has: the C library, libgcc, and the loader.
IN_THE_BASE = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "linux-vdso.so.1"}

# Instead of a compiler: what it would have made is there already.
CARGO = """#!/bin/sh
if [ "$1" = build ]; then
    mkdir -p target/release
    exec cp {binaries}/homeward-broker {binaries}/homeward-agent target/release/
fi
exec {cargo} "$@" --offline
"""


@dataclass
class Stage:
    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [text for instruction, text in self.instructions if instruction == name]

    def command(self, name: str) -> list[str]:
        """In its form without a shell: there is none in there."""
        return json.loads(self.all(name)[-1].removeprefix("--start-period=30s CMD "))


def stages() -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    lines = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    for line in filter(None, lines):
        instruction, text = line.split(maxsplit=1)
        if instruction == "FROM":
            base, name = text.split(" AS ")
            found[name] = stage = Stage(name, base)
        else:
            stage.instructions.append((instruction, text))
    return found


def test_hadolint_finds_nothing() -> None:
    assert output(TOOLS / "hadolint", DOCKERFILE) == ""


def test_it_is_built_with_the_compiler_that_the_code_asks_for() -> None:
    wanted = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    assert stages()["build"].base.startswith(f"rust:{wanted}-")


@pytest.mark.parametrize("role", ["broker", "agent"])
def test_the_image_is_closed(role: str) -> None:
    stage = stages()[role]
    assert stage.base.startswith("gcr.io/distroless/cc-"), "nothing but the C library"
    assert stage.all("USER") == ["65532:65532"]
    assert not stage.all("RUN") and not stage.all("ADD"), "there is no shell in there"


@pytest.mark.parametrize("role", ["broker", "agent"])
def test_the_program_takes_the_commands_of_the_image(role: str) -> None:
    stage, binary = stages()[role], BINARIES / f"homeward-{role}"
    entry, check = stage.command("ENTRYPOINT"), stage.command("HEALTHCHECK")
    assert entry == check[:1] == [f"/usr/bin/homeward-{role}"]
    for arguments in (stage.command("CMD"), check[1:]):
        assert f"Usage: homeward-{role}" in output(binary, *arguments, "--help")


@pytest.mark.parametrize("role", ["broker", "agent"])
def test_the_program_needs_no_library_that_the_base_has_not(role: str) -> None:
    needed = {Path(line.split()[0]).name for line in output("ldd", BINARIES / f"homeward-{role}").splitlines()}
    assert needed <= IN_THE_BASE, needed - IN_THE_BASE


def test_what_is_copied_was_made(folder: Path) -> None:
    """The commands of the build stage, but for Debian's packages and the compiler, and what the other stages take from it."""
    root = folder / "image"
    out = root / "out"
    tools = folder / "tools"
    tools.mkdir()
    cargo = output("sh", "-c", "command -v cargo").strip()
    (tools / "cargo").write_text(CARGO.format(binaries=BINARIES, cargo=cargo))
    (tools / "cargo").chmod(0o755)
    source = folder / "source"
    source.mkdir()
    for name in ("Cargo.toml", "Cargo.lock", "build.rs", "proto", "certs", "broker", "agent", "tests", "deploy"):
        (source / name).symlink_to(REPOSITORY / name)
    build = stages()["build"]
    assert build.all("COPY") == [". ."]
    (made,) = [script for script in build.all("RUN") if "apt-get" not in script]
    script = made.replace("/out/", f"{shlex.quote(str(out))}/")
    subprocess.run(["sh", "-euc", f'PATH="{tools}:$PATH"; {script}'], cwd=source, check=True)
    for role in ("broker", "agent"):
        copies = [text.split()[-2:] for text in stages()[role].all("COPY")]
        assert len(copies) == 3
        for taken, _ in copies:
            assert (root / taken.lstrip("/")).exists(), f"{role} takes {taken}, which nobody makes"
    licences = (out / "broker-licences").read_text()
    assert "sled 0.34" in licences and "Permission is hereby granted" in licences


def test_enrol_if_needed_enrols_once(folder: Path, front: Front, broker: Broker) -> None:
    """What a pod does at every start, also when the secret with the token is gone."""
    agent = Agent(folder / "pod", front.address("pod"))
    home = {"methods": ["file"], "file": {"users_file": str(folder / "pod-users.toml")}}
    agent.is_configured(recipe="generic-oidc", app={"url": "http://127.0.0.1:9"}, home=home)
    command = ["enrol", "--if-needed", "--token-file"]
    agent.says(*command, "-", stdin=broker.join_token("pod"))
    _, first = agent.tells("status")
    agent.says(*command, str(folder / "gone"))
    assert agent.tells("status")[1] == first and first["instance"] == "pod"
    with pytest.raises(AssertionError, match="gone"):
        agent.says("enrol", "--token-file", str(folder / "gone"))


def test_nothing_private_goes_into_the_build() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert {".git", "target", "tests/.cache"} <= set(ignored)
    assert {"deploy/compose/secrets", "deploy/compose/certs"} <= set(ignored)
