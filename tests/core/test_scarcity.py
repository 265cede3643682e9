"""A server that runs out of something: of disk for the target, of places for sessions."""

import shutil
import subprocess
import tempfile
import threading
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import psycopg_pool
import pytest
import sqlalchemy as sa

from mapper_core import RetryConfig, RetryHandler, execute_query_parallel

from ..own_server import Guests
from ..waiting import assert_nothing_left, wait_until

ROWS = 4_000
SUM = "select count(*), sum(hashtext(o::text)) from {} o"
DISK_MEGABYTES = 8
PATIENT = RetryHandler(
    RetryConfig(max_retries=400, initial_delay=0.02, max_delay=0.1, max_elapsed=60)
)


@pytest.fixture
def orders(source, run):
    """4,000 orders of about 4 kB that do not compress: twice what the small disk holds."""
    noise = "select string_agg(md5(i::text || j), '') from generate_series(1, 125) j"
    run(
        source,
        "create table orders (id int primary key, note text)",
        f"insert into orders select i, ({noise}) from generate_series(1, {ROWS}) i",
        "vacuum analyze orders",
    )


@pytest.fixture
def small_disk(own, run):
    """A tablespace of a few megabytes on the test's own server."""
    if not (shutil.which("mount") and shutil.which("umount")):
        pytest.skip("no small disk can be made here: there is no mount")
    folder = Path(tempfile.mkdtemp(prefix="mp-"))
    tried = _ran("mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "none", str(folder))
    try:
        if tried.returncode:
            pytest.skip(f"no small disk can be made here: {tried.stderr.strip()}")
        folder.chmod(0o700)
        shutil.chown(folder, *own.owner)
        run(own.url, f"create tablespace small location '{folder}'")
        yield "small"
        with suppress(psycopg.Error):
            run(own.url, "drop table if exists copies", "drop tablespace small")
    finally:
        # Lazily: after a failed test the server may still have files open there.
        _ran("umount", "--lazy", str(folder))
        folder.rmdir()


def _ran(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def load(source, target, **options):
    return execute_query_parallel(
        source,
        "select * from orders order by id",
        target_conn=target,
        target_table="copies",
        chunk_size=250,
        max_workers=2,
        min_rows_for_parallel=0,
        retry_handler=PATIENT,
        enable_progress=False,
        **options,
    )


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_a_full_disk_fails_what_it_has_no_room_for_at_once_and_keeps_the_rest(
    own, small_disk, orders, source, run, mode
):
    """Exactly what is missing is named; with room made, the same load id goes on."""
    run(own.url, "create table copies (id int, note text)")
    if mode == "append":
        run(own.url, f"alter table copies set tablespace {small_disk}")
    else:
        run(own.url, f"alter database postgres set default_tablespace = {small_disk}")

    first = load(source, own.url, load_mode=mode, load_id="cramped")

    assert not first.published
    assert first.chunk_errors
    for failed in first.chunk_results:
        if failed.error:
            assert "DiskFull" in failed.error, failed.error
            assert 1 == failed.attempts
    inside = sum(chunk.rows_written for chunk in first.chunk_results if chunk.rows_are_in)
    seen = inside if mode == "append" else 0
    assert ROWS > inside
    assert seen == first.total_rows_successful
    assert [(seen,)] == run(own.url, "select count(*) from copies")

    run(own.url, "alter database postgres reset default_tablespace")
    for table in run(
        own.url,
        "select format('%I.%I', schemaname, tablename) from pg_tables where tablespace = 'small'",
    ):
        run(own.url, f"alter table {table[0]} set tablespace pg_default")
    again = load(source, own.url, load_mode=mode, load_id="cramped")

    assert "succeeded" == again.status, again.chunk_errors
    assert run(source, SUM.format("orders")) == run(own.url, SUM.format("copies"))
    assert_nothing_left(source)


@pytest.mark.parametrize("side", ["source", "target", "both"])
def test_a_load_goes_on_with_the_three_places_that_max_connections_leaves(
    own, orders, source, target, run, side
):
    """Others hold all but three sessions of a server, on either side of the load or on both."""
    run(
        own.url,
        "create table orders (id int primary key, note text)",
        f"insert into orders select i, 'n' || i from generate_series(1, {ROWS}) i",
        "create table copies (id int, note text)",
        "create role loader login",
        "grant all on orders, copies to loader",
        "grant create on database postgres to loader",
    )
    run(target, "create table copies (id int, note text)")
    own.restart_with(max_connections=12, superuser_reserved_connections=3)
    loader = own.url.replace("postgres@", "loader@")
    from_url = source if side == "target" else loader
    to_url = target if side == "source" else loader
    with closing(Guests(loader)) as guests:
        guests.take_all_but(3)

        result = load(from_url, to_url)

    assert "succeeded" == result.status, result.chunk_errors
    origin = source if side == "target" else own.url
    arrived = target if side == "source" else own.url
    assert run(origin, SUM.format("orders")) == run(arrived, SUM.format("copies"))
    assert_nothing_left(origin, arrived)


def test_places_that_vanish_in_mid_load_cost_no_row(own, orders, source, run):
    """Others take each place as it is given up, and leave again: the load waits and goes on."""
    run(
        own.url,
        "create table copies (id int, note text)",
        "create role loader login",
        "grant all on copies to loader",
        "grant create on database postgres to loader",
    )
    own.restart_with(max_connections=12, superuser_reserved_connections=3)
    loader = own.url.replace("postgres@", "loader@")
    came_to = []
    with closing(Guests(loader)) as guests:
        job = threading.Thread(target=lambda: came_to.append(load(source, loader)))
        job.start()
        for _ in range(5):
            guests.take_all_but(0)
            guests.close()
        job.join(120)

    (result,) = came_to
    assert "succeeded" == result.status, result.chunk_errors
    assert run(source, SUM.format("orders")) == run(own.url, SUM.format("copies"))


@contextmanager
def an_engine(url, size):
    url = url.replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(url, pool_size=size, max_overflow=0, pool_timeout=0.05)
    yield engine, engine.connect
    assert "Current Checked out connections: 0" in engine.pool.status()
    engine.dispose()


@contextmanager
def a_psycopg_pool(url, size):
    with psycopg_pool.ConnectionPool(url, min_size=1, max_size=size, timeout=0.5) as pool:
        yield pool, pool.connection


@pytest.mark.parametrize("pool", [an_engine, a_psycopg_pool])
@pytest.mark.parametrize(
    ("side", "strategy"), [("source", "key"), ("target", "key"), ("target", "stream_once")]
)
def test_a_load_goes_on_with_what_an_application_leaves_of_its_pool(
    orders, source, target, run, caplog, pool, side, strategy
):
    """A worker that gets no connection leaves its place to the others: it fails no chunk."""
    run(target, "create table copies (id int, note text)")
    asked = threading.Event()

    def once_one_has_asked_in_vain(rows):
        if not asked.is_set():
            wait_until(lambda: "no connection" in caplog.text, "a worker to ask in vain", 20)
            asked.set()
        return rows

    with (
        pool(source, 4) as (from_pool, lend),
        pool(target, 3) as (to_pool, lend_too),
        (lend if side == "source" else lend_too)(),
    ):
        result = execute_query_parallel(
            from_pool,
            "select * from orders order by id",
            target_conn=to_pool,
            target_table="copies",
            chunk_size=250,
            max_workers=3,
            min_rows_for_parallel=0,
            max_retries=0,
            enable_progress=False,
            strategy=strategy,
            transformation_func=once_one_has_asked_in_vain,
        )

    assert "succeeded" == result.status, result.chunk_errors
    assert 3 == result.workers
    assert run(source, SUM.format("orders")) == run(target, SUM.format("copies"))
    assert_nothing_left(source, target)
