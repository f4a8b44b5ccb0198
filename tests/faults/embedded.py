"""Faults of a broker on its embedded store."""

from __future__ import annotations

import random
import time
from pathlib import Path

from client import Board, Enroller, Worker, crowd
from power import Disk
from town import Town

WORKERS = 4

# Until a broker that was started again, or whose disk is well again, has acknowledged a login.
RECOVERY_S = 30

# An agent that has lost its broker so often in a minute waits for minutes.
ROUSED_AFTER = 8


def runs(folder: Path, board: Board, *, long: bool) -> None:
    town = Town(folder / "town")
    try:
        town.opens()
        with _Crowd(town, board, "kill -9 of the broker"):
            kills(town, board, 200 if long else 30)
            board.begins("power loss")
            power_losses(town, board, Disk(town.store, folder / "disk"), 60 if long else 10)
    finally:
        town.closes()
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
        _ends(workers)
    finally:
        town.closes()
    if lost.rows["deaf disk"].lost == 0:
        board.notes.append("BLIND: a disk that syncs nothing lost power, and nobody missed anything")
    board.sees("lost on a disk that syncs nothing, as it should be", lost.rows["deaf disk"].lost)


def goes_on(board: Board) -> None:
    """Waits until logins are acknowledged again."""
    before, deadline = board.acknowledged(), time.monotonic() + RECOVERY_S
    while board.acknowledged() == before:
        assert time.monotonic() < deadline, f"nobody could log in for {RECOVERY_S} s after: {board.fault}"
        time.sleep(0.01)


class _Crowd:
    """People who log in, and operators who enrol agents, until everything that was acknowledged was asked for again."""

    def __init__(self, town: Town, board: Board, first: str) -> None:
        board.begins(first)
        self._workers = crowd(town, board, WORKERS)
        self._enroller = Enroller(town, board, 1)

    def __enter__(self) -> None:
        self._enroller.start()

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._enroller.ended.set()
        self._enroller.join(60)
        _ends(self._workers, failed=kind is not None)


def _ends(workers: list[Worker], *, failed: bool = False) -> None:
    for worker in workers:
        worker.ended.set()
    for worker in workers:
        worker.join(60)
    for worker in workers:
        worker.checks_all(0 if failed else RECOVERY_S)
