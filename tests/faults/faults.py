"""Faults, while people log in: `tests/run faults` (the short form) and `tests/run faults --long`.

Ends with 1 if anything that was acknowledged is lost, anything was used twice, or an answer came that nothing explains.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stage"))

import clustered  # noqa: E402
import embedded  # noqa: E402
from client import Board  # noqa: E402
from processes import fresh_artefacts  # noqa: E402

PARTS = {"sled": embedded.runs, "etcd": clustered.runs}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="at least 200 kills on sled and 100 faults on etcd")
    parser.add_argument("--only", choices=PARTS, help="one store only")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of what is random")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    fresh_artefacts("faults")
    board, began = Board(), time.monotonic()
    for name in [arguments.only] if arguments.only else PARTS:
        with tempfile.TemporaryDirectory(prefix="homeward-", ignore_cleanup_errors=True) as folder:
            PARTS[name](Path(folder), board, long=arguments.long)
    bad = report(board)
    print(f"\nseed {arguments.seed}, {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


def report(board: Board) -> bool:
    columns = ("fault", "count", "logins", "asked for again", "lost", "used twice", "longest outage")
    rows = [
        (name, row.count, row.acknowledged, row.checked, row.lost, row.twice, f"{row.outage:.1f} s")
        for name, row in board.rows.items()
    ]
    width = [max(len(str(row[column])) for row in [columns, *rows]) for column in range(len(columns))]
    print()
    for row in [columns, *rows]:
        cells = [str(cell).ljust(width[0]) if column == 0 else str(cell).rjust(width[column]) for column, cell in enumerate(row)]
        print("  ".join(cells))
    print("\n" + ", ".join(f"{name}: {count}" for name, count in sorted(board.seen.items())))
    for note in board.notes[:40]:
        print(note)
    return bool(board.notes) or any(row.count == 0 for row in board.rows.values())


if __name__ == "__main__":
    sys.exit(main())
