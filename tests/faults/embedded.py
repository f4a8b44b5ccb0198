"""Faults of a broker on its embedded store."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from client import WORKERS, Board, Busy, Crowd, Line, crowd, ends, goes_on
from power import Disk
from town import Refused, Town

# How far the clock is off, at most: less than half of what a code lives here.
CLOCK_S = 290
LIFETIMES = {"authorization_code": 600, "session": 86400, "session_idle": 86400}

# An agent that has lost its broker so often in a minute waits for minutes.
ROUSED_AFTER = 8


def runs(folder: Path, board: Board, *, long: bool) -> None:
    town = Town(folder / "town", lifetimes=LIFETIMES)
    try:
        town.opens()
        with Crowd(town, board, "kill -9 of the broker"):
            kills(town, board, 200 if long else 30)
            board.begins("power loss")
            power_losses(town, board, Disk(town.store, folder / "disk"), 60 if long else 10)
            board.begins("SIGSTOP of the broker")
            pauses(town, board, 10 if long else 2)
            board.begins("clock jump")
            clock_jumps(town, board, folder / "clock", 20 if long else 4)
    finally:
        town.closes()
    with small_disk(folder / "small") as disk:
        full_and_broken_disks(folder, disk, board, long=long)
    foundings(folder, board, 20 if long else 4)
    notices_a_deaf_disk(folder, board)


def kills(town: Town, board: Board, count: int) -> None:
    for number in range(count):
        if number % ROUSED_AFTER == ROUSED_AFTER - 1:
            town.rouses()
        time.sleep(random.uniform(0.05, 0.6))
        town.broker.is_killed()
        board.struck()
        town.broker.starts()
        goes_on(board)


def power_losses(town: Town, board: Board, disk: Disk, count: int) -> None:
    """Each time the broker comes back on what the disk has kept, and nobody repairs anything."""
    town.broker.is_killed()
    disk.forgets_nothing()
    for number in range(count):
        if number % ROUSED_AFTER == ROUSED_AFTER - 1:
            town.rouses()
        town.broker.starts(env=disk.environment())
        goes_on(board)
        time.sleep(random.uniform(0.1, 1))
        town.broker.is_killed()
        board.struck()
        board.sees("pages lost", disk.loses_power())
    town.broker.starts()
    goes_on(board)


def pauses(town: Town, board: Board, count: int) -> None:
    for _ in range(count):
        town.broker.pauses(random.uniform(0.5, 3))
        board.struck()
        goes_on(board)


def clock_jumps(town: Town, board: Board, clock: Path, count: int) -> None:
    """Of the running broker, to either side; the agents' clocks are right."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    clock.write_text("+0")
    town.broker.is_killed()
    wrong = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": clock, "FAKETIME_NO_CACHE": 1, "FAKETIME_DONT_FAKE_MONOTONIC": 1}
    town.broker.starts(env={name: str(value) for name, value in wrong.items()})
    for _ in range(count):
        goes_on(board)
        moved = clock.with_suffix(".new")
        moved.write_text(f"{random.randint(-CLOCK_S, CLOCK_S):+}")
        moved.rename(clock)
        board.struck()
        goes_on(board)
        time.sleep(0.5)
    town.broker.is_killed()
    town.broker.starts()
    goes_on(board)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    options = f"size=64m,mode=0700,uid={os.geteuid()}"
    subprocess.run([*as_root, "mount", "-t", "tmpfs", "-o", options, "faults", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*as_root, "umount", "--lazy", folder], check=True)


def full_and_broken_disks(folder: Path, small: Path, board: Board, *, long: bool) -> None:
    """The broker says 503 and stays; reads go on; when the disk is well again, so is the broker, by itself."""
    store = small / "store"
    town = Town(folder / "on-small-disk", store=f"sled:{store}")
    try:
        town.opens()
        store_disk = Disk(store, folder / "small-disk")
        town.broker.is_killed()
        town.broker.starts(env=store_disk.environment_of_errors())
        pid = town.broker.pid
        rounds = 10 if long else 2
        with Crowd(town, board, "disk full"):
            for _ in range(rounds):
                _strikes(town, board, lambda: _fills(small), lambda: (small / "filler").unlink())
            for name, number in (("disk full, found by a write", errno.ENOSPC), ("disk with errors", errno.EIO)):
                board.begins(name)
                for _ in range(rounds):
                    _strikes(town, board, lambda: store_disk.fails(number), store_disk.heals)
            board.begins("disk read-only")
            for _ in range(rounds):
                _strikes(town, board, lambda: store_disk.fails(errno.EROFS), store_disk.heals)
            assert town.broker.pid == pid and town.broker.running
            board.begins("kill -9 after all these")
            kills(town, board, 1)
    finally:
        town.closes()


def _strikes(town: Town, board: Board, begins: Callable[[], object], ends: Callable[[], object]) -> None:
    goes_on(board)
    begins()
    board.struck()
    time.sleep(0.3)
    line, deadline = Line(town), time.monotonic() + 2
    while time.monotonic() < deadline:
        for path in ("/.well-known/openid-configuration", "/jwks", "/healthz"):
            if (answer := line.asks("GET", f"{town.url}{path}", {})).status != 200:
                board.wrong(f"{path}: {answer.status}")
        time.sleep(0.2)
    if _is_ready(town, line):
        board.wrong("/readyz while nobody can log in")
    try:
        town.join_token("nobody")
        board.wrong("a join token was made on a disk that takes nothing")
    except Refused as refused:
        if "takes no commits" not in str(refused):
            board.wrong(str(refused))
    ends()
    goes_on(board)
    deadline = time.monotonic() + 5
    while not _is_ready(town, line):
        if time.monotonic() > deadline:
            board.wrong("not /readyz when all is well again")
            break
        time.sleep(0.2)


def _is_ready(town: Town, line: Line) -> bool:
    try:
        return line.asks("GET", f"{town.url}/readyz", {}).status == 200
    except Busy:
        return False


def _fills(disk: Path) -> None:
    # Unbuffered: what did not fit would be written again, and fail again, as the file is closed.
    with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(65536))


def foundings(folder: Path, board: Board, count: int) -> None:
    """What `init` has said that it made is there after a power cut."""
    board.begins("power loss after init")
    for number in range(count):
        town = Town(folder / f"founded-{number}")
        disk = Disk(town.folder, folder / f"founded-{number}-disk")
        try:
            town.says("init", env=disk.environment())
            board.sees("pages lost", disk.loses_power())
            board.struck()
            town.broker.starts()
        except AssertionError as gone:
            board.lost(board.fault, str(gone))
        finally:
            town.closes()


def notices_a_deaf_disk(folder: Path, board: Board) -> None:
    """The test of the test: where fdatasync does nothing, acknowledged logins are lost, and the harness sees it."""
    town, lost = Town(folder / "deaf"), Board()
    disk = Disk(town.folder, folder / "deaf-disk")
    try:
        town.opens()
        disk.folder = town.store
        town.broker.is_killed()
        lost.begins("deaf disk")
        town.broker.starts(env=disk.environment(deaf=True))
        workers = crowd(town, lost, WORKERS)
        goes_on(lost)
        time.sleep(1)
        town.broker.is_killed()
        disk.loses_power()
        try:
            town.broker.starts()
        except AssertionError:
            # It does not even open.
            for worker in workers:
                for _ in worker.facts:
                    lost.lost("deaf disk", "everything")
                worker.facts.clear()
        ends(workers)
    finally:
        town.closes()
    if lost.rows["deaf disk"].lost == 0:
        board.notes.append("BLIND: a disk that syncs nothing lost power, and nobody missed anything")
    board.sees("lost on a disk that syncs nothing, as it should be", lost.rows["deaf disk"].lost)
