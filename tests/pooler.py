"""A pooler, PgBouncer, before the server of the test run. Only where it is installed."""

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from .waiting import wait_until

_SETTINGS = """\
[databases]
* = host={server} port=5432
[pgbouncer]
listen_port = 5432
unix_socket_dir = {folder}
logfile = {folder}/log
auth_type = trust
auth_file = {folder}/users
"""


@contextmanager
def pooling(server, **settings):
    """Yield what returns the URL of a database by way of a pooler with these settings.

    Takes the server's socket folder.
    """
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None or not Path(server).is_dir():
        pytest.skip("no PgBouncer is installed, or the server has no socket here")
    with tempfile.TemporaryDirectory(prefix="mp-") as name:
        folder = Path(name)
        asked = "".join(f"{key} = {value}\n" for key, value in settings.items())
        (folder / "ini").write_text(_SETTINGS.format(server=server, folder=folder) + asked)
        (folder / "users").write_text('"postgres" ""\n')
        command = [program, "--quiet", str(folder / "ini")]
        if os.geteuid() == 0:
            # It refuses to run as root: as the server's own user it reaches its socket.
            owner = (Path(server) / ".s.PGSQL.5432").stat()
            for each in (folder, *folder.iterdir()):
                os.chown(each, owner.st_uid, owner.st_gid)
            running = subprocess.Popen(command, user=owner.st_uid, group=owner.st_gid)
        else:
            running = subprocess.Popen(command)
        try:
            wait_until((folder / ".s.PGSQL.5432").exists, "the pooler to come up", 20)
            yield (
                lambda url: (
                    f"postgresql://postgres@{urlsplit(url).path}?host={quote(name, safe='')}"
                )
            )
        finally:
            running.terminate()
            running.wait()
