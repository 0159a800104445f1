"""PostgreSQL and Redis for laboratories, on UNIX sockets in one directory; nothing outlives it.

Knows nothing of Synapse but that it wants UTF-8 with the C collation.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from .children import Child, LaboratoryError, run

ROLE = "synapse"
SOCKET_PATH_LIMIT = 107
UNPRIVILEGED = ("postgres", "nobody")
"""PostgreSQL refuses to run as root; the first of these accounts that exists runs it then."""


def postgres_programs() -> Path | None:
    """Directory with initdb and postgres: on the PATH, or the newest where Debian keeps them."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    return versions[-1].parent if versions else None


def missing() -> list[str]:
    """What the laboratory needs and this machine does not have, in words."""
    absent = []
    if postgres_programs() is None:
        absent.append("PostgreSQL (Debian package postgresql)")
    if shutil.which("redis-server") is None:
        absent.append("Redis (Debian package redis-server)")
    for module, package in (
        ("synapse", "matrix-synapse[redis]"),
        ("psycopg2", "psycopg2-binary"),
        ("nio", "matrix-nio[e2e]"),
        ("vodozemac", "matrix-nio[e2e]"),
    ):
        if importlib.util.find_spec(module) is None:
            absent.append(f"Python module {module} (pip install '{package}')")
    return absent


class Services:
    """A running PostgreSQL, and the Redis of each homeserver. A context manager."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.postgres_directory = root / "pg"
        self._children: list[Child] = []
        if len(str(root)) > SOCKET_PATH_LIMIT - 40:
            raise LaboratoryError(f"{root} is too long a path for UNIX sockets; set TMPDIR to a shorter one")

    def __enter__(self) -> Services:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        Child.stop_all(self._children)

    def redis_socket(self, homeserver: str) -> Path:
        return self.root / f"{homeserver}.redis"

    def pid(self, name: str) -> int:
        """The newest process with this name: `postgres` or `redis`."""
        return next(child.pid for child in reversed(self._children) if child.name == name)

    def start_redis(self, homeserver: str) -> None:
        """A Redis of its own for each.

        What one Synapse publishes all would hear that have the same Redis and the same server name, and would take its
        positions in the streams for their own.
        """
        path = self.redis_socket(homeserver)
        command: list[str | Path] = ["redis-server", "--port", "0", "--unixsocket", path]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no"]
        redis = Child("redis", command, self.root / f"{homeserver}.redis.log", directory=self.root)
        self._children.append(redis)
        redis.wait_until(lambda: _redis_answers(path), limit=20)

    def _start(self) -> None:
        programs, user = self._programs(), postgres_account()
        data = self.postgres_directory / "data"
        self.postgres_directory.mkdir(mode=0o700)
        if user is not None:
            self.root.chmod(0o711)
            os.chown(self.postgres_directory, pwd.getpwnam(user).pw_uid, -1)
        initdb: list[str | Path] = [
            programs / "initdb",
            "--no-sync",
            "-A",
            "trust",
            "-U",
            ROLE,
            "-E",
            "UTF8",
            "--locale=C",
            "-D",
            data,
        ]
        run(initdb, directory=self.postgres_directory, user=user)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.postgres_directory),
            "max_connections": "300",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        command: list[str | Path] = [programs / "postgres", "-D", data, *options]
        postgres = Child(
            "postgres",
            command,
            self.root / "postgres.log",
            directory=self.postgres_directory,
            user=user,
            end=signal.SIGINT,  # «fast»: does not wait for clients to leave
        )
        self._children.append(postgres)
        postgres.wait_until(lambda: self._postgres_answers("postgres"), limit=30)

    def _programs(self) -> Path:
        programs = postgres_programs()
        if programs is None:
            raise LaboratoryError("PostgreSQL was not found")
        return programs

    def _postgres_answers(self, database: str) -> bool:
        import psycopg2  # here, because `missing` must be able to say that it is absent

        with suppress(psycopg2.OperationalError):
            psycopg2.connect(host=str(self.postgres_directory), user=ROLE, dbname=database).close()
            return True
        return False

    def query(self, database: str, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows that this statement finds."""
        import psycopg2

        connection = psycopg2.connect(host=str(self.postgres_directory), user=ROLE, dbname=database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def create_database(self, name: str, template: str = "template0") -> None:
        """A new database, empty or a copy of another that nobody is connected to."""
        connect: list[str | Path] = ["--host", self.postgres_directory, "--username", ROLE]
        run([self._programs() / "createdb", *connect, "--template", template, name], directory=self.root)


def _redis_answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.connect(str(path))
        connection.sendall(b"PING\r\n")
        return connection.recv(16) == b"+PONG\r\n"
    return False


def postgres_account() -> str | None:
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise LaboratoryError(f"PostgreSQL does not run as root and none of {', '.join(UNPRIVILEGED)} exists")
