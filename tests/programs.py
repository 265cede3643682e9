"""A PostgreSQL started by its programs: the system's have what the wheel's were built without."""

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from .waiting import wait_until

# Where the packages of Debian and Ubuntu have them, those of each version in a folder of its own.
_PACKAGED = Path("/usr/lib/postgresql")


def newest():
    """Return the folder of the system's newest programs; None where there are none."""
    found = [program.parent for program in _PACKAGED.glob("*/bin/initdb")]
    return max(found, key=lambda folder: float(folder.parent.name), default=None)


@contextmanager
def system_server(programs, **settings):
    """Start a new server of the system's programs, with these settings; yield its socket folder."""
    with tempfile.TemporaryDirectory(prefix="mp-") as name:
        data = Path(name) / "pg"
        data.mkdir()
        if os.geteuid() == 0:
            # The programs refuse to run as root; their packages made this user.
            for folder in (data.parent, data):
                shutil.chown(folder, "postgres", "postgres")
        command = [programs / "initdb", "--auth=trust", "--encoding=utf8", "--no-locale"]
        command += ["--username=postgres", "--no-sync", "--pgdata", data]
        with _log(data) as log:
            made = _started(command, data, log).wait()
        assert 0 == made, _said(data)
        configure(data, settings)
        with serving(programs, data) as socket:
            yield socket


def configure(data, settings):
    """Add settings to a data folder's own."""
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.writelines(f"{name} = {value}\n" for name, value in settings.items())


@contextmanager
def serving(programs, data):
    """Have programs serve a data folder, as the user who owns it; yield the socket's folder.

    In the end nothing is saved: the data are not for another server.
    """
    command = [programs / "postgres", "-D", data, "-k", data, "-h", ""]
    with _log(data) as log:
        server = _started(command, data, log)
    socket = str(data)

    def answers():
        assert server.poll() is None, _said(data)
        with suppress(psycopg.OperationalError):
            psycopg.connect(host=socket, user="postgres", dbname="postgres").close()
            return True
        return False

    try:
        wait_until(answers, "the server to come up")
        yield socket
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait()


def _log(data):
    return data.with_suffix(".log").open("ab")


def _said(data):
    return data.with_suffix(".log").read_text()


def _started(command, data, log):
    owner = data.stat()
    as_owner = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    return subprocess.Popen(
        command,
        cwd=data,  # The test's own folder may be closed to that user.
        stdout=log,
        stderr=subprocess.STDOUT,
        **(as_owner if os.geteuid() == 0 else {}),
    )
