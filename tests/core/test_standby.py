"""A target whose COMMIT waits for a standby that is gone: for ever, if nobody stops the load."""

import threading
from contextlib import suppress
from typing import Any

import pytest

from mapper_core import IncompleteLoadError

from ..waiting import assert_nothing_left, backends, wait_until
from .running import PAUSE, Background, at_the_gate, gate, load, multiset

ROWS = 2_000
PAUSED = "select * from orders where pause(id, 1200) = id order by id"
COMMITTING = "wait_event = 'SyncRep'"


@pytest.fixture
def orders(own, source, run):
    """2,000 orders in the source; a target that is told of a standby by a test."""
    run(
        source,
        "create table orders (id int primary key, note text)",
        f"insert into orders select i, 'n' || i from generate_series(1, {ROWS}) i",
        PAUSE,
        # Counting waits as well, before the load is published.
        PAUSE.replace("function pause", "function counts").replace(
            "^(copy|insert)", "^select count"
        ),
    )
    run(own.url, "create table copies (id int, note text)")
    yield
    assert_nothing_left(source, own.url)


def has_a_standby(own, run, name):
    run(own.url, f"alter system set synchronous_standby_names = '{name}'")
    run(own.url, "select pg_reload_conf()")
    wait_until(lambda: [(name,)] == run(own.url, "show synchronous_standby_names"), "the reload")


PHASES: dict[str, Any] = {
    "planned": (PAUSED, {}),
    "read": (PAUSED, {}),
    "streamed": (PAUSED, {"strategy": "stream_once"}),
    "published": (PAUSED.replace("pause", "counts"), {"load_mode": "replace"}),
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_load_whose_commit_waits_for_a_standby_can_be_stopped(
    own, orders, source, run, caplog, phase
):
    """What was committed is in the ledger; under its id the load goes on, or is done."""
    sql, options = PHASES[phase]
    options = {"load_id": "nightly", "max_workers": 2, **options}
    wanted = threading.Event()
    if phase == "planned":
        has_a_standby(own, run, "gone")
    with gate(source):
        loading = Background(
            load, source, sql, own.url, "copies", should_stop=wanted.is_set, **options
        )
        if phase != "planned":
            at_the_gate(source)
            has_a_standby(own, run, "gone")
    wait_until(lambda: backends(own.url, extra=COMMITTING), "a COMMIT that waits")
    wanted.set()
    # While it is planned, it has no result, unless that is the end of the planning.
    with suppress(*([IncompleteLoadError] if phase == "planned" else [])):
        result = loading.result()
        assert (phase == "published") is result.published
        assert ("succeeded" if result.published else "stopped") == result.status
    assert "might not have been replicated to the standby" in caplog.text

    has_a_standby(own, run, "")
    again = load(source, sql, own.url, "copies", **options)

    assert "succeeded" == again.status
    assert multiset(source, "select * from orders") == multiset(own.url, "select * from copies")
