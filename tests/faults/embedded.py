"""Faults of a broker on its embedded store."""

from __future__ import annotations

import random
import time
from pathlib import Path

from client import Board, Enroller, Worker, crowd
from town import Town

WORKERS = 4

# Until a broker that was started again, or whose disk is well again, has acknowledged a login.
RECOVERY_S = 30


def runs(folder: Path, board: Board, *, long: bool) -> None:
    town = Town(folder / "town")
    try:
        town.opens()
        board.begins("kill -9 of the broker")
        workers = crowd(town, board, WORKERS)
        enroller = Enroller(town, board, 5)
        enroller.start()
        kills(town, board, 200 if long else 30)
        _ends(board, workers, enroller)
    finally:
        town.closes()


def kills(town: Town, board: Board, count: int) -> None:
    for number in range(count):
        if number % 8 == 7:
            town.rouses()
        time.sleep(random.uniform(0.05, 0.6))
        town.broker.is_killed()
        board.struck()
        town.broker.starts()
        goes_on(board)


def goes_on(board: Board) -> None:
    """Waits until logins are acknowledged again."""
    before, deadline = board.acknowledged(), time.monotonic() + RECOVERY_S
    while board.acknowledged() == before:
        assert time.monotonic() < deadline, f"nobody could log in for {RECOVERY_S} s after: {board.fault}"
        time.sleep(0.01)


def _ends(board: Board, workers: list[Worker], *others: Enroller) -> None:
    for thread in [*workers, *others]:
        thread.ended.set()
    for thread in [*workers, *others]:
        thread.join(60)
    for worker in workers:
        worker.checks_all(RECOVERY_S)
