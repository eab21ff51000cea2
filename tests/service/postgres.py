"""A PostgreSQL of one's own: made for a test session and thrown away with it, however that ends.

A shell waits on a pipe that only this process holds open; when it closes (the session ended, or was
killed) the shell stops the server and removes its folder. A superuser's PostgreSQL is run by
somebody else, because PostgreSQL refuses to be run by root.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

# Without fsync a machine that loses power loses data, and a server that is killed does not.
OPTIONS = (
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=16MB",
    "max_connections=60",
    "listen_addresses=127.0.0.1",
    "autovacuum=off",
)
CLEAN_UP = 'cat >/dev/null; "$1" -D "$2/data" -m immediate -w stop >/dev/null 2>&1; rm -rf "$2"'
WAIT_SECONDS = 120.0


class PostgresServer:
    """A server on a port of loopback, the same port after each restart."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._databases = 0
        self._folder = Path(tempfile.mkdtemp(prefix="poet-postgres-"))
        self._user = _unprivileged_user()
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        self.port = _free_port()
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", CLEAN_UP, "sh", str(programs / "pg_ctl"), str(self._folder)],
            stdin=subprocess.PIPE,
            user=self._user,
            cwd="/",
            start_new_session=True,
        )
        self._run("initdb", "-U", "poet", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self.start()

    def make_database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"test_{self._databases}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def url(self, database: str) -> str:
        return f"postgresql://poet@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = " ".join(f"-c {option}" for option in OPTIONS)
        self._run(
            "pg_ctl", "-w", "-t", str(int(WAIT_SECONDS)), "-l", str(self._folder / "log"),
            "-o", f"-p {self.port} -k {self._folder} {options}", "start",
        )  # fmt: skip
        self._wait()

    def stop(self, *, immediate: bool = False) -> None:
        """Stop: politely to its clients' transactions' cost, or as if it had crashed."""
        self._run("pg_ctl", "-w", "-m", "immediate" if immediate else "fast", "stop")

    def restart(self, *, immediate: bool = True) -> None:
        """Stop and start again."""
        self.stop(immediate=immediate)
        self.start()

    def close(self) -> None:
        """Stop and remove everything."""
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()
        self._watcher.wait(WAIT_SECONDS)
        if self._folder.exists():  # the folder itself lies in another user's folder
            shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), "-D", str(self._folder / "data"), *arguments],
            user=self._user,
            cwd="/",
            # A server that keeps a pipe open would keep its reader waiting.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=WAIT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            log = self._folder / "log"
            said = log.read_text(errors="replace")[-2000:] if log.exists() else "nothing"
            raise RuntimeError(f"{program} {' '.join(arguments)} failed; the server said: {said}")

    def _wait(self) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return


def find_programs() -> Path | None:
    """The folder of initdb and pg_ctl, the newest version where there are several."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4])
    )
    found = [*installed, *map(Path, filter(None, [shutil.which("initdb")]))]
    return found[-1].resolve().parent if found else None


def _unprivileged_user() -> str | None:
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server for the session; skips where PostgreSQL is not installed."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not here: scripts/system_packages.sh --postgresql installs it")
    server = PostgresServer(programs)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """An empty database."""
    return postgres_server.make_database()
