"""Buildah, which builds the Dockerfile as Docker does and takes no daemon: rootless here means that the programs are, in there.

The bases come from registries, which tests do not reach: stand-ins have their names. That of distroless has the C library and
public CAs, as the real one. That of Rust has this machine's programs, and instead of a compiler what it would have made.
"""

import json
import shutil
import subprocess
from pathlib import Path

from homeward import BINARIES
from processes import PATIENCE_S, REPOSITORY

DOCKERFILE = REPOSITORY / "deploy" / "Dockerfile"
DISTROLESS = "gcr.io/distroless/cc-debian12:nonroot"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

# What the C library of distroless/cc has, and what it runs on.
IN_DISTROLESS = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "linux-vdso.so.1"}

_CARGO = """#!/bin/sh
case $1 in
build) mkdir -p target/release && ln -s /made/homeward-broker /made/homeward-agent target/release/ ;;
metadata) cat /tools/metadata ;;
esac
"""


class Engine:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        storage = ["--root", folder / "storage", "--runroot", folder / "run", "--storage-driver", "overlay"]
        self.command: list[str | Path] = ["buildah", *storage]
        self._makes_base(DISTROLESS, self._distroless())
        self._makes_base(f"docker.io/library/rust:{_rust_tag()}", self._rust())

    def builds(self, target: str) -> str:
        """Builds an image and returns its name."""
        name = f"localhost/homeward-{target}"
        # The machine's own programs, what was compiled, and the sources of what it was compiled with, for their licences.
        mounts = {"/usr": "/usr", BINARIES: "/made", self._registry: self._registry}
        volumes = [f"--volume={outside}:{inside}:ro" for outside, inside in mounts.items()]
        ignored = f"--ignorefile={DOCKERFILE}.dockerignore"
        built = ["--isolation=chroot", "--pull-never", "--format=docker", f"--file={DOCKERFILE}", f"--target={target}"]
        self.says("build", *built, ignored, *volumes, f"--tag={name}", REPOSITORY)
        return name

    def configuration(self, image: str) -> dict:
        return json.loads(self.says("inspect", "--type=image", image))["Docker"]["config"]

    def files(self, container: str) -> Path:
        """Where its files are to be seen."""
        return Path(self.says("mount", container).strip())

    def says(self, *arguments: str | Path) -> str:
        """What Buildah prints. It has to succeed."""
        command = [str(word) for word in (*self.command, *arguments)]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=4 * PATIENCE_S, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def stop(self) -> None:
        """Takes its mounts away. The folder is the caller's."""
        self.says("rm", "--all")
        self.says("rmi", "--all", "--force")

    def _makes_base(self, name: str, files: Path) -> None:
        container = self.says("from", "scratch").strip()
        self.says("copy", "--quiet", container, files, "/")
        self.says("config", "--env=PATH=/tools:/usr/bin", container)
        self.says("commit", "--quiet", "--rm", container, name)

    def _distroless(self) -> Path:
        root = self._folder / "distroless"
        needed = libraries("homeward-broker") | libraries("homeward-agent")
        for library in [*(path for path in needed if path.name in IN_DISTROLESS and path.is_absolute()), CERTIFICATES]:
            inside = root / library.relative_to("/")
            inside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, inside)
        (root / "tmp").mkdir()
        return root

    def _rust(self) -> Path:
        root = self._folder / "rust"
        for folder in ("tools", "usr", "tmp"):
            (root / folder).mkdir(parents=True)
        for name in ("bin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        metadata = _metadata()
        (root / "tools" / "metadata").write_text(json.dumps(metadata))
        foreign = next(package for package in metadata["packages"] if package["source"])
        # …/registry/src/<index>/<package>/Cargo.toml
        self._registry = Path(foreign["manifest_path"]).parents[3]
        for name, script in {"cargo": _CARGO, "apt-get": "#!/bin/sh\n"}.items():
            (root / "tools" / name).write_text(script)
            (root / "tools" / name).chmod(0o755)
        return root


def libraries(program: str) -> set[Path]:
    """What the loader would load for it: paths, and names where it has no file."""
    listed = subprocess.run(["ldd", BINARIES / program], capture_output=True, text=True, check=True).stdout
    words = [line.split() for line in listed.splitlines()]
    return {Path(line[2] if "=>" in line else line[0]) for line in words}


def _rust_tag() -> str:
    (line,) = [line for line in DOCKERFILE.read_text().splitlines() if line.startswith("FROM rust:")]
    return line.split()[1].removeprefix("rust:")


def _metadata() -> dict:
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--features=homeward-broker/etcd"]
    return json.loads(subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True).stdout)
