"""A machine to install things on: this one, with a layer over its disk that takes all changes, and no network but loopback.

Nothing that happens there is seen here, and no process outlives the command that started it. It takes root and overlayfs.

The layer is over the root's own disk: what is on another one here (/tmp, perhaps, or the repository) is empty there, but for
the folders that it is told to show, which are read-only.
"""

import subprocess
from pathlib import Path

PATIENCE_S = 120

_ROOT = """
mount -t overlay -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" overlay "$1/root"
while read -r shown; do
    mkdir -p "$1/root$shown"
    mount --bind "$shown" "$1/root$shown"
    mount -o remount,bind,ro "$1/root$shown"
done <"$1/shown"
"""

# The mounts and the network go with the last process of the command.
_ENTER = """
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
ip link set lo up
root=$1/root
shift
exec chroot "$root" "$@"
"""


# As its first process, which makes users and folders apart for its services: so it takes a root, and not a chroot.
_BOOT = """
cd "$1/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
ip link set lo up
# Of all that this machine starts, nothing.
rm -rf etc/systemd/system/*.wants lib/systemd/system/sysinit.target.wants lib/systemd/system/network-online.target.wants
mkdir -p former
pivot_root . former
umount -l former
exec env -i container=other PATH="$PATH" /lib/systemd/systemd --unit=said.service --log-target=console --show-status=no
"""

_SAID = """
[Unit]
DefaultDependencies=no
Wants={units}
After={units}

[Service]
Type=oneshot
StandardOutput=file:/said
StandardError=file:/said
ExecStart=/bin/sh -c 'sh -eu /script; echo $?; systemctl exit'
"""


class Machine:
    """What is on it is what was on this one, and what was done there since."""

    def __init__(self, folder: Path, shown: list[Path]) -> None:
        self._folder = folder
        self.changes = folder / "changes"
        for name in ("changes", "work", "root"):
            (folder / name).mkdir(parents=True)
        (folder / "shown").write_text("".join(f"{path}\n" for path in shown))

    def says(self, script: str, *arguments: str | Path) -> str:
        """Runs a script there as root, and returns what it says. It has to succeed."""
        done = self.tries(script, *arguments)
        assert done.returncode == 0, f"{script}\n{done.returncode}\n{done.stdout}"
        return done.stdout

    def boots(self, script: str, *units: str) -> str:
        """Starts systemd there with these units, and returns what a script says when they are up. It has to succeed."""
        files = {"script": script, "said": "", "etc/systemd/system/said.service": _SAID.format(units=" ".join(units))}
        for name, text in files.items():
            file = self.changes / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        done = self._apart(["--uts", "--ipc", "--cgroup"], _ROOT + _BOOT)
        said, _, code = (self.changes / "said").read_text().rstrip().rpartition("\n")
        assert code == "0", f"{script}\n{said}\n{code}\n{done.stdout}"
        return said

    def tries(self, script: str, *arguments: str | Path) -> subprocess.CompletedProcess:
        """The same, whether it succeeds or not. What it complains of is among what it says."""
        return self._apart([], _ROOT + _ENTER, "sh", "-euc", script, "sh", *map(str, arguments))

    def _apart(self, more: list[str], enter: str, *there: str) -> subprocess.CompletedProcess:
        apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", *more]
        return subprocess.run(
            [*apart, "sh", "-euc", enter, "sh", str(self._folder), *there],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
