"""Try again, in one place. Nobody else sleeps, loops or counts attempts.

Exponential backoff with full jitter, bounded in attempts and in total time.
Source of the scheme: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_any,
    stop_before_delay,
    stop_when_event_set,
)
from tenacity.nap import sleep_using_event

from .errors import SettingsError
from .origins import told
from .passwords import hidden

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """When to try again, and when to give up. Times are in seconds."""

    max_retries: int = 3
    """Attempts after the first: 3 means up to four attempts."""
    initial_delay: float = 1.0
    """Longest wait before the second attempt."""
    max_delay: float = 60.0
    """Longest wait before any attempt."""
    multiplier: float = 2.0
    """Factor by which the longest wait grows with each attempt."""
    max_elapsed: float = 900.0
    """No further attempt begins when this long has passed since the first began."""

    def __post_init__(self) -> None:
        if self.max_retries < 0:
            raise SettingsError("max_retries is negative: 0 means one attempt and no retry")
        if min(self.initial_delay, self.max_delay, self.max_elapsed) < 0 or self.multiplier < 1:
            raise SettingsError("retry delays must not be negative, and multiplier at least 1")


def is_connection_trouble(error: BaseException) -> bool:
    """Whether Python itself calls the error a broken or slow connection.

    What a database means by its own codes is asked of its adapter, not here.
    """
    return isinstance(error, ConnectionError | TimeoutError)


class RetryHandler:
    """Runs work until it succeeds, fails permanently, or reaches the bounds of its config."""

    def __init__(
        self,
        config: RetryConfig | None = None,
        *,
        is_transient: Callable[[BaseException], bool] = is_connection_trouble,
    ) -> None:
        self.config = config or RetryConfig()
        self._is_transient = is_transient

    def should_retry(self, error: BaseException, attempt: int = 1) -> bool:
        """Whether another attempt is due after the `attempt`-th (from 1) ended in `error`."""
        return attempt <= self.config.max_retries and self._is_transient(error)

    def calculate_delay(self, attempt: int) -> float:
        """Return the seconds to wait after the `attempt`-th attempt (from 1): full jitter."""
        # 2.0 ** 1100 overflows a float; past 64 doublings every cap has long been reached.
        growth = self.config.multiplier ** min(attempt - 1, 64)
        longest = min(self.config.max_delay, self.config.initial_delay * growth)
        return random.uniform(0, longest)  # noqa: S311 - jitter, not a secret

    def rest(self, stop: Event) -> None:
        """Wait as after a first attempt, or until `stop` is set."""
        stop.wait(self.calculate_delay(1))

    def execute_with_retry(
        self,
        work: Callable[[], T],
        *,
        is_transient: Callable[[BaseException], bool] | None = None,
        stop: Event | None = None,
        name: str = "work",
        on_attempt: Callable[[int], None] | None = None,
    ) -> T:
        """Return what `work` returns, calling it again after transient errors.

        Args:
            work: called with no arguments, once per attempt.
            is_transient: says whether trying again may help, instead of the handler's own.
            stop: once set, waiting ends and no further attempt begins.
            name: what the log calls the work.
            on_attempt: called with the number of each attempt, from 1, before it begins.

        Raises:
            Exception: what the last attempt raised.
        """
        transient = is_transient or self._is_transient
        stop = stop or Event()

        failed: BaseException | None = None

        def log(state: RetryCallState) -> None:
            nonlocal failed
            error = failed = state.outcome.exception() if state.outcome else None
            wait = state.next_action.sleep if state.next_action else 0.0
            logger.warning(
                "%s: attempt %d failed (%s); trying again in %.1f s",
                name,
                state.attempt_number,
                first_line(error),
                wait,
            )

        def begin(state: RetryCallState) -> None:
            if failed is not None and stop.is_set():
                raise failed  # stopped while it waited
            if on_attempt:
                on_attempt(state.attempt_number)

        retrying = Retrying(
            retry=retry_if_exception(transient),
            wait=lambda state: self.calculate_delay(state.attempt_number),
            stop=stop_any(
                stop_after_attempt(self.config.max_retries + 1),
                stop_before_delay(self.config.max_elapsed),
                stop_when_event_set(stop),
            ),
            sleep=sleep_using_event(stop),
            before=begin,
            before_sleep=log,
            reraise=True,
        )
        return retrying(work)


def create_retry_handler(
    max_retries: int = 3, *, initial_delay: float = 1.0, max_delay: float = 60.0
) -> RetryHandler:
    """Return a handler with these bounds; see `RetryConfig` for their meaning."""
    return RetryHandler(
        RetryConfig(max_retries=max_retries, initial_delay=initial_delay, max_delay=max_delay)
    )


def first_line(error: BaseException | None) -> str:
    """Return an error's type, its first line and where it was met: what a log line has room for.

    No password.
    """
    lines = hidden(str(error)).strip().splitlines()
    words = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return f"{words}{told(error)}"
