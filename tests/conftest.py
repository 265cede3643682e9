"""A real PostgreSQL for every test that wants one, and a database of its own for each test."""

import os
import tempfile
from pathlib import Path

import psycopg
import pytest

# Before the wheel is imported: it warns where no login session has set this.
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())

from . import oracle
from .databases import making_databases
from .own_server import Server, initialized, start_server
from .programs import newest, system_server

# No test ends the machine, and nothing else needs the first two: a process that is killed loses
# nothing. What is known of a table is what its test has asked for, whenever a vacuum would come.
# (Were that off, an index that is made would tell nothing of its rows.)
HASTY = {"fsync": "off", "full_page_writes": "off", "autovacuum_naptime": "'1d'"}


def pytest_collection_modifyitems(items):
    """The deployed Dagster comes first: it waits more than it works, and others fill the time.

    All else comes as it was found, the other long modules of Dagster late and side by side.
    """
    items.sort(key=lambda item: "dagster_layer/test_service.py" not in item.nodeid)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    """No test sees the developer's own settings or `.env`."""
    for name in [name for name in os.environ if name.startswith("MAPPER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def cluster():
    """The data folder of a PostgreSQL that was never started, to be copied."""
    with tempfile.TemporaryDirectory(prefix="mp-") as folder:
        yield initialized(Path(folder) / "pg")


@pytest.fixture(scope="session")
def server(request):
    """The socket folder of a PostgreSQL that lives as long as the test run.

    Of one that is there already if `POSTGRES_TEST_HOST` names its folder or its host.
    """
    if found := os.environ.get("POSTGRES_TEST_HOST"):
        yield found
        return
    cluster = request.getfixturevalue("cluster")
    # Short: the path of a Unix socket holds about a hundred bytes.
    with tempfile.TemporaryDirectory(prefix="mp-") as folder:
        started = start_server(cluster, Path(folder) / "pg", **HASTY)
        socket = psycopg.conninfo.conninfo_to_dict(started.get_uri())["host"]
        try:
            yield socket
        finally:
            started.cleanup()


@pytest.fixture(scope="session")
def packaged_server():
    """The socket folder of a PostgreSQL of the system's packages; None where there is none."""
    if (programs := newest()) is None:
        yield None
        return
    with system_server(programs, **HASTY) as socket:
        yield socket


@pytest.fixture(scope="session")
def server_with(request):
    """Return the server itself if it has something, which a query tells by its rows.

    Else one of the system's packages, started for the first who needs it: its socket folder.
    Where neither has it, the test skips.
    """

    def find(server, what, query):
        found = server
        if not _rows(found, query):
            found = request.getfixturevalue("packaged_server")
        if found is None or not _rows(found, query):
            pytest.skip(
                f"neither the tests' server has {what}, nor one of the system's packages:"
                " .ci/postgresql gets one with apt"
            )
        return found

    return find


def _rows(server, query):
    with psycopg.connect(host=server, user="postgres", dbname="postgres") as asking:
        return asking.execute(query).fetchall()


@pytest.fixture
def own(cluster):
    """A PostgreSQL of the test's own, to be ended and started again."""
    with tempfile.TemporaryDirectory(prefix="mp-") as folder:
        alone = Server(cluster, Path(folder) / "pg")
        try:
            yield alone
        finally:
            alone.remove()


@pytest.fixture
def make_database(server):
    """Create an empty database; return its URL. Dropped, sessions and all, after the test."""
    with making_databases(server) as make:
        yield make


@pytest.fixture
def source(make_database):
    """The URL of an empty source database."""
    return make_database("source")


@pytest.fixture
def target(make_database):
    """The URL of an empty target database."""
    return make_database("target")


@pytest.fixture(scope="session")
def oracle_double():
    """A double of Oracle that lives as long as the test run; see `oracle_double`."""
    if reason := oracle.missing():
        pytest.skip(reason)
    double = oracle.Double()
    try:
        yield double
    finally:
        double.stop()


@pytest.fixture(scope="session")
def oracle_users(request):
    """Make users of Oracle, each with an empty schema.

    On a real server if `ORACLE_TEST_DSN` names one; else on the double.
    """
    if "ORACLE_TEST_DSN" not in os.environ:
        yield request.getfixturevalue("oracle_double").user
        return
    with oracle.real_users() as make:
        yield make


@pytest.fixture
def make_oracle(oracle_users, request):
    """Make a user of Oracle. A test that gives the double orders asks for `oracle_double` too."""
    yield oracle_users
    if "oracle_double" in request.fixturenames:
        request.getfixturevalue("oracle_double").order("clear")


@pytest.fixture
def run():
    """Run statements on a database, each committed; return the rows of the last one."""

    def run_sql(url, *statements):
        rows = []
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
                rows = cursor.fetchall() if cursor.description else []
        return rows

    return run_sql
