"""An etcd cluster of three real processes, each behind a network cable of its own that can be pulled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from processes import artefacts

# A network that nothing else on a test machine uses.
NETWORK = "10.213.77"
ANSWER_S = 30


class Member:
    def __init__(self, number: int, folder: Path) -> None:
        self.name = f"m{number}"
        self.address = f"{NETWORK}.{11 + number}"
        self.space = f"hwf{os.getpid()}-{number}"
        self.cable = f"hwf{os.getpid() % 100_000}-{number}"
        self.url = f"http://{self.address}:2379"
        self.folder = folder / self.name
        self._process: subprocess.Popen | None = None

    def starts(self, members: list[Member]) -> None:
        cluster = ",".join(f"{member.name}=http://{member.address}:2380" for member in members)
        options = {
            "name": self.name,
            "data-dir": self.folder,
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": f"http://{self.address}:2380",
            "initial-advertise-peer-urls": f"http://{self.address}:2380",
            "initial-cluster": cluster,
            "initial-cluster-token": str(os.getpid()),
        }
        command = ["ip", "netns", "exec", self.space, "etcd", *(f"--{name}={value}" for name, value in options.items())]
        with (artefacts() / f"etcd-{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(_as_root(command), stdout=log, stderr=log)

    def is_killed(self) -> None:
        if self._process:
            self.signals(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def pauses(self, seconds: float) -> None:
        self.signals(signal.SIGSTOP)
        time.sleep(seconds)
        self.signals(signal.SIGCONT)

    def signals(self, number: signal.Signals) -> None:
        _run("kill", f"-{number.value}", str(self._process.pid))

    def is_cut_off(self) -> None:
        _run("ip", "link", "set", self.cable, "down")

    def is_reached_again(self) -> None:
        _run("ip", "link", "set", self.cable, "up")


class Cluster:
    """Open until it is closed, which leaves nothing of it on the machine."""

    def __init__(self, folder: Path) -> None:
        self.members = [Member(number, folder) for number in range(3)]
        self._bridge = f"hwf{os.getpid() % 100_000}"

    @property
    def store(self) -> str:
        return f"etcd:{','.join(member.url for member in self.members)}/homeward"

    def opens(self) -> None:
        _run("ip", "link", "add", self._bridge, "type", "bridge")
        _run("ip", "address", "add", f"{NETWORK}.1/24", "dev", self._bridge)
        _run("ip", "link", "set", self._bridge, "up")
        for member in self.members:
            inside = f"{member.cable}i"
            _run("ip", "netns", "add", member.space)
            _run("ip", "link", "add", member.cable, "type", "veth", "peer", "name", inside, "netns", member.space)
            _run("ip", "link", "set", member.cable, "master", self._bridge, "up")
            for words in (["address", "add", f"{member.address}/24", "dev", inside], ["link", "set", inside, "up"], ["link", "set", "lo", "up"]):
                _run("ip", "-n", member.space, *words)
            member.starts(self.members)
        self.leader()

    def leader(self) -> Member:
        """Who leads now; waits until somebody does."""
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            for member in self.members:
                command = ["etcdctl", f"--endpoints={member.url}", "--command-timeout=1s", "endpoint", "status", "-w", "json"]
                done = subprocess.run(command, env=os.environ | {"ETCDCTL_API": "3"}, capture_output=True, check=False)
                if done.returncode == 0 and (found := json.loads(done.stdout)):
                    status = found[0]["Status"]
                    if status.get("leader") == status["header"]["member_id"]:
                        return member
            time.sleep(0.1)
        raise AssertionError("the etcd has chosen no leader")

    def closes(self) -> None:
        for member in self.members:
            member.is_killed()
            subprocess.run(_as_root(["ip", "netns", "delete", member.space]), check=False, capture_output=True)
            subprocess.run(_as_root(["ip", "link", "delete", member.cable]), check=False, capture_output=True)
        subprocess.run(_as_root(["ip", "link", "delete", self._bridge]), check=False, capture_output=True)


def _as_root(command: list[str]) -> list[str]:
    return command if os.geteuid() == 0 else ["sudo", *command]


def _run(*command: str) -> None:
    subprocess.run(_as_root(list(command)), check=True)
