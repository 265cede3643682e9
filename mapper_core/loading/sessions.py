"""A worker's sessions: opened when first needed, ended from another thread, thrown away."""

import logging
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from ..model import StrategyName
from ..protocols import Reader, Writer
from ..retry import first_line
from ..stopping import InUse, SessionT, Spared
from .work import Work

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a worker has open; what its load has no use for is None."""

    reader: Reader | None
    writer: Writer | None
    asker: Writer | None
    """Asks the ledger while the writer reads at a snapshot."""


class Sessions:
    """Those of one worker."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._held = ExitStack()
        self._opened: Opened | None = None
        self._in_use = InUse()

    def open(self) -> Opened:
        """Return what a chunk is loaded with, opened unless it is open already."""
        if self._opened is None:
            work, enter = self._work, self._enter
            in_server, streamed = work.in_server, work.plan.strategy is StrategyName.STREAM_ONCE
            reader = writer = asker = None
            if not in_server and not streamed:
                several = work.plan.workers > 1 or work.has_neighbours
                reader = enter(work.source.open_reader(work.plan.snapshot, one_of_several=several))
            if work.table:
                writer = enter(work.table.database.open_writer())
                if in_server:
                    asker = enter(work.table.database.open_writer())
            self._opened = Opened(reader, writer, asker)
        return self._opened

    def open_writer(self) -> Writer:
        """Open a session of the target alone: there may be no reader at the snapshot any more."""
        writer = self._enter(self._work.writes_to.database.open_writer())
        self._opened = Opened(None, writer, None)
        return writer

    def open_asker(self) -> Writer:
        """Open a session of the target to ask what became of a chunk, also of a load that stops."""
        writer = self._held.enter_context(self._work.writes_to.database.open_writer())
        self._held.enter_context(self._in_use.using(Spared(writer)))
        self._opened = Opened(None, writer, None)
        return writer

    def _enter(self, opening: AbstractContextManager[SessionT]) -> SessionT:
        """Open a session, in use until it is given back."""
        session = self._held.enter_context(opening)
        return self._held.enter_context(self._in_use.using(session))

    def cancel(self) -> None:
        """End the statement that is running, from another thread."""
        self._in_use.cancel()

    def close(self) -> None:
        """Give all of them back; `open` opens new ones."""
        self._opened = None
        try:
            self._held.close()
        except Exception as error:  # noqa: BLE001 - it is being thrown away; what went wrong is already known
            logger.warning("a session did not close cleanly: %s", first_line(error))
