"""Real database servers as anybody may run them: below a folder of their own, on loopback, for one test."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from processes import PATIENCE_S, Program, application_user, identity

PASSWORD = "a word: with/odd@signs"
_QUOTED = "a%20word%3A%20with%2Fodd%40signs"


class Sqlite:
    """A file."""

    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        home = _own_folder(folder / "rows-sqlite-database")
        self.url = f"sqlite://{home}/site.sqlite3"

    def stop(self) -> None:
        """Nothing runs."""


class PostgreSql:
    """Debian's newest."""

    name = "postgres"

    def __init__(self, folder: Path) -> None:
        home = _own_folder(folder / "postgres")
        bin = max(Path("/usr/lib/postgresql").glob("*/bin"))
        secret = home / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        cluster = ["--pgdata", home / "data", "--username", "site", "--pwfile", secret, "--auth", "scram-sha-256"]
        _run(bin / "initdb", *cluster, "--no-sync", "--encoding", "UTF8", "--locale", "C")
        port = _port()
        listen = ["-c", f"port={port}", "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={home}"]
        self._program = Program(
            "postgres", [bin / "postgres", "-D", home / "data", *listen, "-c", "fsync=off"], user=application_user()
        )
        _awaits(self._program, bin / "pg_isready", "--host", "127.0.0.1", "--port", port, "--username", "site")
        self.url = f"postgres://site:{_QUOTED}@127.0.0.1:{port}/postgres"

    def stop(self) -> None:
        self._program.stop()


class MariaDb:
    """Debian's."""

    name = "mariadb"

    def __init__(self, folder: Path) -> None:
        home = _own_folder(folder / "mariadb")
        data = f"--datadir={home / 'data'}"
        user = application_user()
        # A child of root's would look for a user named mysql.
        as_whom = [f"--user={user}"] if user else []
        _run("mariadb-install-db", "--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db")
        first = home / "first.sql"
        first.write_text(
            f"CREATE DATABASE site CHARACTER SET utf8mb4;\n"
            f"CREATE USER 'site'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT ALL ON site.* TO 'site'@'127.0.0.1';\n"
        )
        first.chmod(0o644)
        port = _port()
        listen = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={home / 'socket'}", "--skip-name-resolve"]
        files = [f"--pid-file={home / 'pid'}", f"--init-file={first}", f"--tmpdir={home}"]
        self._program = Program("mariadb", ["mariadbd", "--no-defaults", data, *listen, *files, *as_whom], user=user)
        login = ["--host=127.0.0.1", f"--port={port}", "--user=site", f"--password={PASSWORD}"]
        _awaits(self._program, "mariadb", "--no-defaults", *login, "--execute=SELECT 1", "site")
        self.url = f"mysql://site:{_QUOTED}@127.0.0.1:{port}/site"

    def stop(self) -> None:
        self._program.stop()


def _own_folder(path: Path) -> Path:
    path.mkdir()
    if user := application_user():
        import shutil

        shutil.chown(path, user, user)
    return path


def _run(*command: object) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        **identity(application_user()),
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def _awaits(program: Program, *probe: object) -> None:
    """Until this command succeeds."""
    deadline = time.monotonic() + PATIENCE_S
    command = [str(word) for word in probe]
    while subprocess.run(command, capture_output=True, check=False).returncode != 0:
        assert program.running and time.monotonic() < deadline, program.tail()
        time.sleep(0.1)


def _port() -> int:
    """For a program that wants to be told."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as unused:
        return unused.getsockname()[1]
