"""A machine to install things on: this one, with a layer over its disk that takes all changes, and no network but loopback.

Nothing that happens there is seen here, and no process outlives the command that started it. It takes root and overlayfs.
"""

import subprocess
from pathlib import Path

PATIENCE_S = 120

# The mounts and the network go with the last process of the command.
_ENTER = """
mount -t overlay -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" overlay "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
ip link set lo up
root=$1/root
shift
exec chroot "$root" "$@"
"""


class Machine:
    """What is on it is what was on this one, and what was done there since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.changes = folder / "changes"
        for name in ("changes", "work", "root"):
            (folder / name).mkdir(parents=True)

    def says(self, script: str, *arguments: str | Path) -> str:
        """Runs a script there as root, and returns what it says. It has to succeed."""
        done = self.tries(script, *arguments)
        assert done.returncode == 0, f"{script}\n{done.returncode}\n{done.stdout}"
        return done.stdout

    def tries(self, script: str, *arguments: str | Path) -> subprocess.CompletedProcess:
        """The same, whether it succeeds or not. What it complains of is among what it says."""
        apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        there = ["sh", "-euc", script, "sh", *map(str, arguments)]
        return subprocess.run(
            [*apart, "sh", "-euc", _ENTER, "sh", str(self._folder), *there],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
