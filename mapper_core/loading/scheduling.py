"""How a thread that passes rows on shares the cores with databases on the same machine."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def giving_way() -> Iterator[None]:
    """Do not push others off a core whenever something arrives for this thread; Linux only.

    PostgreSQL sends 8 KiB at a time. A thread that is woken by each of them takes the core from a
    server every time, from the one that sends or the one that takes, and finds next to nothing to
    do. Here it waits its turn, and then finds all that has come meanwhile.

    Its share of the cores stays the same. Whoever chose another policy than the usual one keeps it.
    A thread that is begun meanwhile inherits this one, and would keep it: nothing to call functions
    of the user's in, nor libraries that have threads.

    Source: sched(7), SCHED_BATCH.
    """
    if sys.platform != "linux" or _policy() != os.SCHED_OTHER:
        yield
        return
    _choose(os.SCHED_BATCH)
    try:
        yield
    finally:
        _choose(os.SCHED_OTHER)


if sys.platform == "linux":

    def _policy() -> int | None:
        # Not every sandbox or C library lets anyone ask, or choose.
        with suppress(OSError):
            return os.sched_getscheduler(0)
        return None

    def _choose(policy: int) -> None:
        with suppress(OSError):
            os.sched_setscheduler(0, policy, os.sched_param(0))
