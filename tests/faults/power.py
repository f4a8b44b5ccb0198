"""The plug: what power.c has noted, and a disk on which only that is left which was synced.

Of everything else some pages got there and some did not: each page of 4 KiB keeps a random number of the changes that
were made to it. Changes of names happen in their order, up to a random one.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096

# What a sync takes more than on the disk below: a slow disk.
SYNC_US = 5000

# As in power.c.
_ENTRY = struct.Struct("=7Q")
WRITTEN, CUT, MADE, RENAMED, REMOVED, SYNCED, DATA_SYNCED = range(1, 8)
_NAMES = (MADE, RENAMED, REMOVED)


@dataclass
class _Change:
    number: int
    kind: int
    inode: int
    offset: int
    length: int
    old_size: int
    path: str
    old: bytes


class Disk:
    """A folder whose changes are noted, and its errors."""

    def __init__(self, folder: Path, workshop: Path) -> None:
        workshop.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._journal = workshop / "journal"
        self._graves = workshop / "journal.removed"
        self._fault = workshop / "fault"
        self._library = workshop / "power.so"
        source = Path(__file__).with_name("power.c")
        command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", self._library, source, "-ldl"]
        subprocess.run(command, check=True)

    def environment_of_errors(self) -> dict[str, str]:
        """For a disk that keeps everything, and has errors now and then."""
        found = {"LD_PRELOAD": self._library, "POWER_FOLDER": self.folder, "POWER_FAULT": self._fault}
        return {name: str(value) for name, value in found.items()}

    def environment(self, *, deaf: bool = False) -> dict[str, str]:
        """What a program needs that is to run on this disk."""
        found = {"POWER_JOURNAL": self._journal} | ({"POWER_DEAF": 1} if deaf else {"POWER_SYNC_US": SYNC_US})
        return self.environment_of_errors() | {name: str(value) for name, value in found.items()}

    def fails(self, number: int) -> None:
        """From now on every change and every sync ends in this error."""
        new = self._fault.with_suffix(".new")
        new.write_text(str(number))
        new.rename(self._fault)

    def heals(self) -> None:
        self._fault.unlink()

    def forgets_nothing(self) -> None:
        """A fresh journal, for a program that starts on a disk that has everything."""
        self._journal.unlink(missing_ok=True)
        shutil.rmtree(self._graves, ignore_errors=True)

    def loses_power(self) -> int:
        """Undoes what was not durable, of a program that does not run any more. Says how many pages lost something."""
        changes = self._open_changes()
        pages = self._undoes_contents([change for change in changes if change.kind in (WRITTEN, CUT)])
        self._undoes_names([change for change in changes if change.kind in _NAMES])
        self.forgets_nothing()
        return pages

    def _open_changes(self) -> list[_Change]:
        """What no sync has covered."""
        changes = []
        for number, change in enumerate(self._read()):
            if change.kind not in (SYNCED, DATA_SYNCED):
                changes.append(change)
                continue
            # `offset` is how many entries there were when the sync began.
            changes = [other for other in changes if other.number >= change.offset or not _covers(change, other)]
        return changes

    def _read(self) -> list[_Change]:
        if not self._journal.exists():
            return []
        content, at, found = self._journal.read_bytes(), 0, []
        while at + _ENTRY.size <= len(content):
            kind, inode, offset, length, old_size, path_length, old_length = _ENTRY.unpack_from(content, at)
            at += _ENTRY.size
            path, old = content[at : at + path_length], content[at + path_length : at + path_length + old_length]
            at += path_length + old_length
            # The last one may be torn: then what it announces was not done.
            if at <= len(content):
                found.append(_Change(len(found), kind, inode, offset, length, old_size, path.decode(), old))
        return found

    def _undoes_contents(self, changes: list[_Change]) -> int:
        paths = {path.stat().st_ino: path for folder in (self.folder, self._graves) for path in folder.rglob("*")}
        lost = 0
        for inode in {change.inode for change in changes}:
            if inode in paths:
                lost += _undo(paths[inode], [change for change in changes if change.inode == inode])
        return lost

    def _undoes_names(self, changes: list[_Change]) -> None:
        kept = random.randint(0, len(changes))
        for change in reversed(changes[kept:]):
            if change.kind == MADE:
                Path(change.path).unlink(missing_ok=True)
            elif change.kind == REMOVED:
                os.link(self._graves / str(change.offset), change.path)
            else:
                old, new = change.path.split("\n")
                if Path(new).exists():
                    os.rename(new, old)
                if change.offset:
                    os.link(self._graves / str(change.offset - 1), new)


def _covers(sync: _Change, change: _Change) -> bool:
    if change.kind in _NAMES:
        return sync.kind == SYNCED or (change.kind == MADE and change.inode == sync.inode)
    return change.inode == sync.inode


def _undo(path: Path, changes: list[_Change]) -> int:
    """Takes each page back behind a random one of its changes. The last change is the first to go."""
    touched: dict[int, list[int]] = {}
    for change in changes:
        end = change.offset + (change.length if change.kind == WRITTEN else max(len(change.old), 1))
        for page in range(change.offset // PAGE, -(-end // PAGE)):
            touched.setdefault(page, []).append(change.number)
    # A page loses what came from this number on.
    cuts = {page: random.choice([*numbers, numbers[-1] + 1]) for page, numbers in touched.items()}
    sizes = [change.old_size for change in changes] + [path.stat().st_size]
    with path.open("r+b") as file:
        for change in reversed(changes):
            length = change.length if change.kind == WRITTEN else len(change.old)
            old = change.old.ljust(length, b"\0") if change.kind == WRITTEN else change.old
            for page in range(change.offset // PAGE, -(-(change.offset + length) // PAGE)):
                if cuts[page] <= change.number:
                    begin = max(change.offset, page * PAGE)
                    end = min(change.offset + length, (page + 1) * PAGE)
                    file.seek(begin)
                    file.write(old[begin - change.offset : end - change.offset])
        # Its size is one that it had: a file that is shorter has lost the pages behind it, too.
        file.truncate(random.choice(sizes))
    return sum(cuts[page] <= numbers[-1] for page, numbers in touched.items())
