"""Row functions in processes of their own, past the lock that lets one thread run Python at a time.

What goes there are the rows as the source wrote them, and what comes back are rows as the target
takes them: taking apart, the function and putting together are all done over there.
"""

import os
import pickle
import time
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from threading import Lock, Thread
from typing import Any

import cloudpickle
import loky

from ..batches import Batch
from ..errors import SettingsError, TransformError, TransformProcessError
from .step import Changed, Step


def check_picklable(function: Any) -> None:
    """Raise SettingsError when a function cannot be sent to another process."""
    try:
        cloudpickle.dumps(function)
    except Exception as error:
        msg = (
            "workers='processes' sends transformation_func to other processes, and it cannot be"
            f" sent: {type(error).__name__}: {error}. Open connections, files and locks inside the"
            " function, or use workers='threads'"
        )
        raise SettingsError(msg) from error


# How often a process looks whether the load that it belongs to still lives.
WATCH_SECONDS = 1.0


class TransformProcesses:
    """A process for each thread that needs one at the same time.

    Each is a pool of its own: a process that dies breaks the whole pool it is in, and would cost
    chunks beside its own an attempt.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._pools: set[loky.ProcessPoolExecutor] = set()
        self._idle: list[loky.ProcessPoolExecutor] = []
        self._closed = False

    def __enter__(self) -> "TransformProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def apply(
        self, step: Step, group: Iterable[Batch], names: tuple[str, ...] | None
    ) -> Iterator[Changed]:
        """Yield what a step makes of some batches; see `Step.apply`.

        Raises TransformProcessError when the process ended before it had an answer.
        """
        pool = self._take()
        try:
            answer = pool.submit(_applied, step, list(group), names).result()
        except (BrokenProcessPool, loky.process_executor.ShutdownExecutorError) as error:
            self._forget(pool)
            raise TransformProcessError(
                "a process that ran transformation_func ended before it had returned: it was"
                " killed, or ran out of memory"
            ) from error
        except BaseException:
            self._give_back(pool)
            raise
        self._give_back(pool)
        yield from answer

    def cancel(self) -> None:
        """End the processes, whatever they are doing; they do not come back."""
        with self._lock:
            pools, self._closed = list(self._pools), True
            self._pools.clear()
            self._idle.clear()
        for pool in pools:
            pool.shutdown(wait=True, kill_workers=True)

    def _take(self) -> "loky.ProcessPoolExecutor":
        with self._lock:
            if self._closed:
                raise TransformProcessError("the load is to stop")
            if self._idle:
                return self._idle.pop()
            pool = loky.ProcessPoolExecutor(
                max_workers=1, initializer=_end_with, initargs=(os.getpid(),)
            )
            self._pools.add(pool)
            return pool

    def _give_back(self, pool: "loky.ProcessPoolExecutor") -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(pool)

    def _forget(self, pool: "loky.ProcessPoolExecutor") -> None:
        with self._lock:
            if pool not in self._pools:
                return  # it was ended by us
            self._pools.remove(pool)
        pool.shutdown(wait=False, kill_workers=True)


def _end_with(parent: int) -> None:
    """End this process soon after its parent, even if that was killed and a function is running."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    Thread(target=watch, name="mapper watch", daemon=True).start()


def _applied(step: Step, group: list[Batch], names: tuple[str, ...] | None) -> list[Changed]:
    try:
        return list(step.apply(group, names))
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - what was just pickled here
        except Exception:  # noqa: BLE001 - whatever it was, it cannot travel as it is
            words = f"{type(error).__name__}: {error}"
            raise TransformError(words) from None
        raise
