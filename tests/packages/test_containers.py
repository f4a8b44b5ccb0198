"""The images of broker and agent: read by hadolint, built by Buildah, and run as their user with nothing else in there."""

from __future__ import annotations

import re
import shutil
import stat
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import DEPLOY, TOOLS, output
from engine import DISTROLESS, DOCKERFILE, IN_DISTROLESS, Engine, libraries
from front import Front
from homeward import Agent, Broker
from processes import PATIENCE_S, REPOSITORY, Program

USER = 65532


@dataclass
class Image:
    """One that was built, and a container of it."""

    role: str
    engine: Engine
    name: str
    container: str

    @property
    def configuration(self) -> dict:
        return self.engine.configuration(self.name)

    @property
    def files(self) -> Path:
        return self.engine.files(self.container)

    def command(self, arguments: list[str], *volumes: str) -> list[str | Path]:
        """What runs the entry point in there, as the image's user."""
        entry = self.configuration["Entrypoint"]
        mounted = [f"--volume={volume}" for volume in volumes]
        return [*self.engine.command, "run", "--isolation=chroot", *mounted, self.container, *entry, *arguments]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """On the disk, as the machine that is spoilt."""
    folder = Path(tempfile.mkdtemp(prefix="engine-", dir=REPOSITORY / "tests" / ".cache"))
    engine = Engine(folder)
    yield engine
    engine.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def images(engine: Engine) -> dict[str, Image]:
    names = {role: engine.builds(role) for role in ("broker", "agent")}
    return {role: Image(role, engine, name, engine.says("from", name).strip()) for role, name in names.items()}


@pytest.fixture(params=["broker", "agent"])
def image(request: pytest.FixtureRequest, images: dict[str, Image]) -> Image:
    return images[request.param]


def test_hadolint_finds_nothing() -> None:
    assert output(TOOLS / "hadolint", DOCKERFILE) == ""


def test_it_is_built_with_the_compiler_that_the_code_asks_for() -> None:
    wanted = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    assert re.search(rf"^FROM rust:{re.escape(wanted)}-bookworm AS build$", DOCKERFILE.read_text(), re.MULTILINE)


def test_nothing_private_goes_into_the_build() -> None:
    ignored = Path(f"{DOCKERFILE}.dockerignore").read_text().split()
    assert {".git", "target", "tests/.cache", "deploy/compose/secrets", "deploy/compose/certs"} <= set(ignored)


def test_the_base_has_the_libraries_that_the_program_needs() -> None:
    assert DOCKERFILE.read_text().count(f"FROM {DISTROLESS} AS") == 2
    for program in ("homeward-broker", "homeward-agent"):
        needed = {library.name for library in libraries(program)}
        assert needed <= IN_DISTROLESS, needed - IN_DISTROLESS


def test_there_is_the_program_and_what_it_is_licensed_by(image: Image) -> None:
    name = f"homeward-{image.role}"
    assert [file.name for file in (image.files / "usr/bin").iterdir()] == [name]
    licences = (image.files / "usr/share/doc" / name / "licences").read_text()
    assert "tokio 1." in licences and "Permission is hereby granted" in licences
    kept = image.files / "var/lib" / name
    assert kept.stat().st_uid == kept.stat().st_gid == USER and not list(kept.iterdir())


def test_nobody_in_there_is_root(image: Image) -> None:
    assert image.configuration["User"] == f"{USER}:{USER}"
    privileged = [file for file in image.files.rglob("*") if file.is_file() and file.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)]
    assert not privileged


def test_the_program_takes_the_commands_of_the_image(image: Image) -> None:
    assert f"Usage: homeward-{image.role}" in output(*image.command([*image.configuration["Cmd"], "--help"]))


def test_only_the_broker_is_asked_by_a_command(images: dict[str, Image]) -> None:
    """The agent has none that asks the one that runs: `status` looks at the disk, and an expired certificate is renewed."""
    kind, program, *_ = images["broker"].configuration["Healthcheck"]["Test"]
    assert kind == "CMD" and [program] == images["broker"].configuration["Entrypoint"], "there is no shell in there"
    assert "Healthcheck" not in images["agent"].configuration


def test_the_broker_runs_in_there_and_is_healthy(images: dict[str, Image], folder: Path) -> None:
    """With the configuration and the secret where Compose puts them."""
    image = images["broker"]
    secrets, configuration = folder / "secrets", folder / "configuration"
    secrets.mkdir()
    configuration.mkdir()
    (secrets / "kek").write_text(output("openssl", "rand", "-base64", "32"))
    (secrets / "kek").chmod(0o400)
    shutil.chown(secrets / "kek", USER, USER)
    text = (DEPLOY / "compose" / "broker.toml").read_text()
    (configuration / "broker.toml").write_text(re.sub(r'"0\.0\.0\.0:\d+"', '"127.0.0.1:0"', text))
    volumes = [f"{configuration}:/etc/homeward-broker:ro", f"{secrets}:/run/secrets:ro"]
    assert "Made the federation" in output(*image.command(["init", "--if-needed"], *volumes))
    serving = Program("broker-in-its-image", image.command(image.configuration["Cmd"], *volumes))
    serving.announced()
    output(*image.command(image.configuration["Healthcheck"]["Test"][2:], *volumes))
    serving.stop()
    assert "trusts no CA" not in serving.log_file.read_text()
    kept = image.files / "var/lib/homeward-broker/data"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700 and kept.stat().st_uid == USER


def test_enrol_if_needed_enrols_once(folder: Path, front: Front, broker: Broker) -> None:
    """What a pod does at every start, also when the secret with the token is gone; and what it asks of the one that runs."""
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
    agent.runs()
    with urllib.request.urlopen(f"http://{agent.public.behind['/homeward/']}/homeward/health", timeout=PATIENCE_S) as answer:
        assert answer.status == 200
    agent.stop()
