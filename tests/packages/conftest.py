"""What is in deploy/, and the programs that look at it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeward import BINARIES
from machine import Machine
from processes import PATIENCE_S, REPOSITORY

pytest_plugins = ["foundation"]

DEPLOY = REPOSITORY / "deploy"
TOOLS = REPOSITORY / "tests" / ".cache" / "venv-packages" / "bin"


def output(*command: str | Path, stdin: str = "") -> str:
    """What a program prints that has to succeed."""
    done = subprocess.run(
        [str(word) for word in command],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # lintian looks at everything, and shares the machine.
        timeout=10 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(str(word) for word in command)}: {done.returncode}\n{done.stdout}"
    return done.stdout


def build(to: Path) -> dict[str, Path]:
    """What is to be quick here is the compression."""
    quick = {"DPKG_DEB_COMPRESSOR_TYPE": "gzip", "DPKG_DEB_COMPRESSOR_LEVEL": "1"}
    subprocess.run([DEPLOY / "debian" / "build", "--binaries", BINARIES, "--to", to], env=os.environ | quick, check=True)
    return {package.name.split("_")[0]: package for package in to.iterdir()}


@pytest.fixture(scope="session")
def packages(folder: Path) -> dict[str, Path]:
    return build(folder / "debian")


@pytest.fixture(scope="module")
def machine(folder: Path) -> Iterator[Machine]:
    """On the disk: a layer on another one (a tmpfs with its own idea of attributes) may not be had."""
    own = Path(tempfile.mkdtemp(prefix="machine-", dir=REPOSITORY / "tests" / ".cache"))
    yield Machine(own, [REPOSITORY, folder])
    shutil.rmtree(own)
