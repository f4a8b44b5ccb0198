"""A service manager for one program, as small as can be: what systemd is to an application that only a restart changes.

    service.py ENVIRONMENT_FILE STATE_FILE PROGRAM ARGUMENT…

SIGHUP restarts the program with the environment as it is in the file then; SIGTERM ends it. STATE_FILE has the number of
starts, so that whoever asked for a restart can wait for it. A program that ends by itself is left so until the next restart.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path


def main() -> int:
    environment_file, state_file = Path(sys.argv[1]), Path(sys.argv[2])
    signals = {signal.SIGHUP, signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    starts = 0
    while True:
        program = subprocess.Popen(
            sys.argv[3:],
            env=os.environ | read(environment_file),
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, signals),
        )
        starts += 1
        state_file.write_text(str(starts))
        asked = signal.sigwait(signals)
        program.terminate()
        program.wait()
        if asked != signal.SIGHUP:
            return 0


def read(file: Path) -> dict[str, str]:
    """An EnvironmentFile of systemd's: a value in quotes is what is in them, any other is as it stands."""
    found = {}
    for line in file.read_text().splitlines():
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith(("#", ";")):
            continue
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] == "'":
            value = value[1:-1]
        elif len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
        found[name.strip()] = value
    return found


if __name__ == "__main__":
    sys.exit(main())
