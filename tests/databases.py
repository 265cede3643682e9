"""Databases of a test's own in the server of the test run."""

import uuid
from contextlib import contextmanager
from urllib.parse import quote

import psycopg


@contextmanager
def making_databases(server):
    """Yield what creates an empty database and returns its URL; dropped, sessions and all, after.

    Takes the server's socket folder.
    """
    made = []

    def make(label="db", encoding="utf8"):
        name = f"{label}_{uuid.uuid4().hex[:8]}"
        with _admin(server) as admin:
            # Its files copied, which without fsync costs a third of writing them to the log.
            admin.execute(
                f"create database {name} template template0 encoding '{encoding}'"
                " strategy file_copy"
            )
        made.append(name)
        return f"postgresql://postgres@/{name}?host={quote(server, safe='')}"

    yield make
    with _admin(server) as admin:
        for name in made:
            admin.execute(f"drop database {name} with (force)")


def _admin(server):
    return psycopg.connect(
        f"postgresql://postgres@/postgres?host={quote(server, safe='')}", autocommit=True
    )
