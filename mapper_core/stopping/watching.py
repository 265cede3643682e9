"""Stop soon: once somebody asks a load to stop, end what its sessions are waiting for."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from ..retry import first_line

logger = logging.getLogger(__name__)

# How often the caller's own function is asked whether to stop, and running statements are ended
# again: one may have begun just after the last time.
POLL_SECONDS = 0.2


@contextmanager
def cancelling(
    stop: Event, should_stop: Callable[[], bool] | None, cancel: Callable[[], None]
) -> Iterator[None]:
    """While the block runs, call `cancel` as soon as the load is to stop.

    Args:
        stop: set by whoever wants the load to stop; set here when `should_stop` says so.
        should_stop: the caller's own function; an error of its stops the load as well.
        cancel: ends running statements; it is called from another thread, perhaps several times.
    """
    done = Event()

    def asked() -> bool:
        try:
            return should_stop is not None and should_stop()
        except BaseException as error:  # noqa: BLE001 - a load that cannot be stopped is the worse choice
            logger.error("should_stop raised (%s): the load stops", first_line(error))  # noqa: TRY400
            return True

    def watch() -> None:
        while not done.wait(POLL_SECONDS):
            if not stop.is_set() and asked():
                stop.set()
            if stop.is_set():
                cancel()

    watcher = Thread(target=watch, name="mapper stop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
