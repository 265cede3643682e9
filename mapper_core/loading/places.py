"""The workers' places: who finds no connection leaves what there is to the others, for a while."""

import logging
from dataclasses import dataclass, field
from threading import Condition

from .work import Work
from .worker import CrowdedOutError

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Places:
    """How many of the workers of a load are at work."""

    work: Work
    at_work: int = 0
    """Workers that neither rest nor have ended."""
    changed: Condition = field(default_factory=Condition)
    """Held to count workers; told when there are more or fewer."""

    def count(self, more: int) -> None:
        """Note that so many more workers are at work; fewer where it is negative."""
        with self.changed:
            self.at_work += more
            self.changed.notify_all()

    def leave(self) -> bool:
        """Give a worker's place to the others; False when there are none at work."""
        with self.changed:
            if self.at_work <= 1:
                return False
            self.at_work -= 1
            return True

    def rest(self, error: CrowdedOutError) -> None:
        """Wait before the next look for connections; then the worker has its place again."""
        logger.warning(
            "load %s: %s; continuing with %d workers", self.work.plan.load_id, error, self.at_work
        )
        self.work.retry.rest(self.work.stop)
        self.count(+1)
