"""Work that several threads do together: it ends early once one of them fails, or on Ctrl-C."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def beside(
    jobs: Sequence[Callable[[], object]],
    *,
    stop: Event,
    give_up: Callable[[BaseException], object],
    name: str,
) -> Iterator[None]:
    """Run jobs beside the block, each in a thread of its own; all have ended when it is left.

    The block's error is raised, or else the first one of a job, once nobody is at work any more.

    Args:
        jobs: take no arguments.
        stop: the load's; set on Ctrl-C, and whatever else is no `Exception`.
        give_up: hears of each error at once, from any thread, and has the jobs end soon.
        name: what the threads are called, numbered from 1.
    """
    failed: list[BaseException] = []

    def hear(error: BaseException) -> None:
        if not isinstance(error, Exception):
            stop.set()
        give_up(error)

    def run(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)
            hear(error)

    threads = [
        Thread(target=run, args=(job,), name=f"{name} {number}")
        for number, job in enumerate(jobs, start=1)
    ]
    try:
        for thread in threads:
            thread.start()
        yield
        _wait_for(threads)
    except BaseException as error:
        hear(error)
        _wait_for(threads)
        raise
    if failed:
        raise failed[0]


def together(
    jobs: Sequence[Callable[[], T]],
    *,
    stop: Event,
    give_up: Callable[[BaseException], object],
    name: str,
) -> list[T]:
    """Return what the jobs return, each run in a thread of its own; see `beside`.

    One alone is run in the caller's thread: a lone connection may not leave it.
    """
    if len(jobs) == 1:
        return [jobs[0]()]
    found: dict[int, T] = {}

    def keep(number: int, job: Callable[[], T]) -> None:
        found[number] = job()

    kept = [partial(keep, number, job) for number, job in enumerate(jobs)]
    with beside(kept, stop=stop, give_up=give_up, name=name):
        """They are waited for."""
    return [found[number] for number in range(len(jobs))]


def _wait_for(threads: Sequence[Thread]) -> None:
    for thread in threads:
        if thread.is_alive():  # one may not have been started
            thread.join()
