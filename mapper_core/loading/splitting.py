"""Splitting a chunk that lags behind: others load its parts, and nobody loads it as a whole."""

import logging
from collections.abc import Sequence

from .. import chunker
from ..model import Chunk, ChunkKind
from ..retry import first_line
from .doubt import is_claimed
from .sessions import Sessions
from .work import Work

logger = logging.getLogger(__name__)


def split(
    work: Work, sessions: Sessions, chunk: Chunk, parts: int, width: int
) -> tuple[Chunk, ...]:
    """Put parts in the place of a chunk that nobody has begun; return them, or just the chunk.

    Args:
        work: what the workers share.
        sessions: of the worker that has the chunk in hand.
        chunk: of a key, or of blocks.
        parts: how many there should be.
        width: blocks of another chunk, for one of blocks without an end.
    """
    try:
        return _split(work, sessions, chunk, parts, width)
    except Exception as error:  # noqa: BLE001 - it is loaded as it is, and then says what is wrong
        logger.debug("chunk %d could not be split: %s", chunk.id, first_line(error))
        sessions.close()
        return (chunk,)


def _split(
    work: Work, sessions: Sessions, chunk: Chunk, parts: int, width: int
) -> tuple[Chunk, ...]:
    opened = sessions.open()
    if chunk.kind is ChunkKind.BLOCKS:
        cuts = chunker.cuts_of_blocks(chunk, parts, width)
    elif opened.reader is not None:
        cuts = opened.reader.cuts_within(work.query, work.plan, chunk, parts)
    else:
        cuts = []
    if not cuts or opened.writer is None:
        return (chunk,)
    made: tuple[Chunk, ...] = ()
    try:
        with opened.writer.begin() as transaction:
            made = work.writes_to.ledger.split(transaction, work.plan, chunk, cuts)
    except Exception:
        # With parts in hand it was the COMMIT that failed, or the reply to it.
        if not made or not _split_after_all(work, sessions, chunk, made):
            raise
    logger.info(
        "load %s: chunk %d, which lagged behind, was split into %d",
        work.plan.load_id,
        chunk.id,
        len(made),
    )
    return made


def _split_after_all(work: Work, sessions: Sessions, chunk: Chunk, parts: Sequence[Chunk]) -> bool:
    """Whether the ledger has the parts: asked as often as it takes, or they would be lost."""

    def look() -> bool:
        try:
            writer = sessions.open_writer()
            if not is_claimed(work, writer, chunk):
                return False
            with writer.begin() as transaction:
                record = work.writes_to.ledger.find(transaction, work.plan.load_id)
        finally:
            sessions.close()
        # Another process may have split one of them already.
        return record is not None and not set(parts).isdisjoint(record.plan.chunks)

    sessions.close()
    return work.retry.execute_with_retry(
        look,
        is_transient=work.is_transient,
        stop=work.stop,
        name=f"load {work.plan.load_id}, splitting of chunk {chunk.id}",
    )
