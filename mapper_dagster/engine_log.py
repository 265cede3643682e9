"""What the engine logs, in the log of the step that has it at work."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ENGINE = "mapper_core"


@contextmanager
def warnings_shown(context: Any) -> Iterator[None]:
    """While the block runs, show the engine's warnings in a step's log.

    Where the instance has Dagster manage the engine's logger, as `deploy/dagster.yaml` does, they
    are there already.
    """
    if {"root", _ENGINE} & {*context.instance.managed_python_loggers}:
        yield
        return
    logger, handler = logging.getLogger(_ENGINE), _Shown(context.log)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Shown(logging.Handler):
    """Hands records on to the log of a step."""

    def __init__(self, log: logging.Logger) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record's words, filled in, with its level."""
        self._log.log(record.levelno, "%s", record.getMessage())
