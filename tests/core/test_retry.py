"""Trying again: how often, how long, after what."""

import logging
import time
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper_core import RetryConfig, RetryHandler, SettingsError, create_retry_handler

AT_ONCE = RetryConfig(max_retries=3, initial_delay=0)


class Flaky:
    """Work that fails a number of times before it succeeds."""

    def __init__(self, failures, error=None):
        self.failures, self.error, self.calls = failures, error or ConnectionError("gone"), 0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


def test_transient_errors_are_retried():
    """Until it works; the result is the work's."""
    work = Flaky(3)
    attempts: list[int] = []
    assert RetryHandler(AT_ONCE).execute_with_retry(work, on_attempt=attempts.append) == "done"
    assert attempts == [1, 2, 3, 4]


def test_max_retries_3_means_four_attempts():
    """Then the last error is raised as it is."""
    work = Flaky(9)
    with pytest.raises(ConnectionError, match="gone"):
        RetryHandler(AT_ONCE).execute_with_retry(work)
    assert work.calls == 4


def test_permanent_errors_are_not_retried():
    """Trying again cannot help."""
    work = Flaky(9, ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        RetryHandler(AT_ONCE).execute_with_retry(work)
    assert work.calls == 1


def test_the_caller_may_say_what_is_transient():
    """For one call, or for a handler."""
    work = Flaky(2, ValueError("later"))
    handler = RetryHandler(AT_ONCE)
    assert handler.execute_with_retry(work, is_transient=lambda _: True) == "done"
    work = Flaky(2, ValueError("later"))
    assert RetryHandler(AT_ONCE, is_transient=lambda _: True).execute_with_retry(work) == "done"


def test_no_attempt_begins_after_the_time_is_up():
    """Attempts are bounded in time as well as in number."""
    work = Flaky(9)
    with pytest.raises(ConnectionError):
        RetryHandler(RetryConfig(initial_delay=0, max_elapsed=0)).execute_with_retry(work)
    assert work.calls == 1


def test_no_wait_begins_that_would_end_after_the_time_is_up():
    """The next attempt would begin too late: its error is raised now, not then."""
    work, begun = Flaky(9), time.monotonic()
    config = RetryConfig(initial_delay=1e12, max_delay=1e12, max_elapsed=1)
    with pytest.raises(ConnectionError):
        RetryHandler(config).execute_with_retry(work)
    assert work.calls == 1
    assert time.monotonic() - begun < 10


def test_a_stop_ends_trying():
    """Set while the work runs: its error is the last."""
    stop = Event()

    def work():
        stop.set()
        raise ConnectionError

    with pytest.raises(ConnectionError):
        RetryHandler(AT_ONCE).execute_with_retry(work, stop=stop)


def test_a_stop_ends_waiting_and_nothing_begins_after_it():
    """Set between two attempts: the error of the first is raised at once."""
    stop, work = Event(), Flaky(9)

    class StopOnWarning(logging.Handler):
        def emit(self, record):
            stop.set()

    handler, logger = StopOnWarning(), logging.getLogger("mapper_core.retry")
    logger.addHandler(handler)
    try:
        with pytest.raises(ConnectionError, match="gone"):
            RetryHandler(RetryConfig(initial_delay=3600, max_delay=3600)).execute_with_retry(
                work, stop=stop
            )
    finally:
        logger.removeHandler(handler)
    assert work.calls == 1


def test_the_log_names_the_work_and_the_error_in_one_line(caplog):
    """And how long it waits."""
    work = Flaky(1, ConnectionError("first line\nsecond line"))
    RetryHandler(AT_ONCE).execute_with_retry(work, name="load x, chunk 7")
    (record,) = caplog.records
    assert record.getMessage() == (
        "load x, chunk 7: attempt 1 failed (ConnectionError: first line); trying again in 0.0 s"
    )


@given(
    attempt=st.integers(1, 10_000),
    initial=st.floats(0, 100),
    longest=st.floats(0, 100),
    multiplier=st.floats(1, 10),
)
def test_a_delay_stays_within_its_bounds(attempt, initial, longest, multiplier):
    """Whatever the numbers: jitter from nothing up to the growing cap."""
    config = RetryConfig(initial_delay=initial, max_delay=longest, multiplier=multiplier)
    delay = RetryHandler(config).calculate_delay(attempt)
    assert 0 <= delay <= min(longest, initial * multiplier ** min(attempt - 1, 64))


def test_should_retry_counts_attempts_from_one():
    """Three retries follow the first three attempts."""
    handler = create_retry_handler(max_retries=3)
    gone = TimeoutError()
    assert [handler.should_retry(gone, n) for n in (1, 3, 4)] == [True, True, False]
    assert not handler.should_retry(ValueError(), 1)


def test_the_short_form_sets_what_it_names():
    """`create_retry_handler` is a `RetryHandler` over a `RetryConfig`."""
    handler = create_retry_handler(5, initial_delay=2.0, max_delay=120.0)
    assert handler.config == RetryConfig(max_retries=5, initial_delay=2.0, max_delay=120.0)


@pytest.mark.parametrize(
    "wrong",
    [{"max_retries": -1}, {"initial_delay": -1}, {"max_delay": -0.1}, {"multiplier": 0.5}],
)
def test_bounds_that_make_no_sense_are_refused(wrong):
    """When the config is made, not when it is used."""
    with pytest.raises(SettingsError):
        RetryConfig(**wrong)
