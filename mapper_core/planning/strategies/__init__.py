"""How a query's rows are divided: the strategies, best first, each with its reasons.

Each module here has a `divide(case)` that answers with a `Division`, or with why it cannot serve.
The first that can is taken; `strategy=` asks for one by its name.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from ...errors import QueryError
from ...model import Refused, StrategyName
from . import key, offset, one_pass, physical, same_database, stream_once
from .case import Answer, Case, Division

logger = logging.getLogger(__name__)

__all__ = ["Case", "Division", "choose"]

_LADDER: dict[StrategyName, Callable[[Case], Answer]] = {
    StrategyName.SAME_DATABASE: same_database.divide,
    StrategyName.PHYSICAL: physical.divide,
    StrategyName.KEY: key.divide,
    StrategyName.STREAM_ONCE: stream_once.divide,
}

# Never chosen, only asked for.
_BY_NAME: dict[StrategyName, Callable[[Case], Answer]] = {
    StrategyName.OFFSET: offset.divide,
    StrategyName.ONE_PASS: one_pass.divide,
}


def choose(case: Case) -> Division:
    """Divide the query by the first strategy that can serve, or by the one asked for.

    Raises QueryError when the one asked for cannot.
    """
    if (wanted := case.mapping.strategy) is not None:
        answer = {**_LADDER, **_BY_NAME}[wanted](case)
        if isinstance(answer, Refused):
            raise QueryError(f"strategy={wanted.value!r} is not possible: {answer.reason}")
        return _told(answer)
    refused: dict[StrategyName, str] = {}
    for name, divide in _LADDER.items():
        answer = divide(case)
        if isinstance(answer, Division):
            division = answer
            break
        refused[name] = answer.reason
    else:
        division = one_pass.divide(case, refused[StrategyName.KEY])
    return _told(replace(division, refused=tuple(refused.items())))


def _told(division: Division) -> Division:
    if division.undivided:
        logger.info("Parallel processing disabled: %s", division.undivided)
    return division
