"""How a step ends that failed: in our words, and tried again only where that may help."""

import logging
from collections.abc import Iterator
from collections.abc import Mapping as Dict
from contextlib import contextmanager
from typing import Any

import dagster as dg

from mapper_core import DatabaseUnavailableError, MapperError
from mapper_core.passwords import in_full
from mapper_core.row_values import left_out

logger = logging.getLogger(__name__)

# For a step that failed for a passing reason, after the engine's own retries of its chunks.
RETRY_POLICY = dg.RetryPolicy(
    max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL
)

INTERRUPTED = "The step was interrupted."


def failure(
    context: Any, words: str, *, passing: bool, metadata: Dict[str, Any] | None = None
) -> dg.Failure:
    """Return the failure that a step of `RETRY_POLICY` ends with.

    The last attempt asks for no other: of a step that may not be tried again, Dagster would tell
    that its retries are used up, where people look for what was wrong.

    Args:
        context: the step's.
        words: what was wrong, and what to do.
        passing: whether another attempt may help.
        metadata: shown with it.
    """
    step = getattr(context, "op_execution_context", context)
    again = passing and step.retry_number < RETRY_POLICY.max_retries
    return dg.Failure(description=words, metadata=metadata, allow_retries=again)


@contextmanager
def in_words(context: Any, interrupted: str = INTERRUPTED) -> Iterator[None]:
    """Show an error of ours as the failure of a step, in its own words and without a stack trace.

    Args:
        context: the step's.
        interrupted: the words for a step that somebody has ended.
    """
    try:
        yield
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        # Dagster would retry an interrupted step, and keep whoever ended the run waiting for it.
        raise failure(context, interrupted, passing=False) from None
    except MapperError as error:
        # Every other mistake is still one after a while.
        passing = isinstance(error, DatabaseUnavailableError)
        logger.debug("the error in full: %s", in_full(error))
        raise failure(context, left_out(str(error)), passing=passing) from None
