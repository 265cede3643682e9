"""The durable record of loads: what was planned, and the set of chunks that are finished.

It lives in the target database, because only there can a chunk's rows and its ledger row commit
together. What matters are three tables: `load` (one row a load, with its epoch), `chunk` (the plan)
and `claim` (one row a finished chunk, inserted before the chunk's rows and committed with them);
`reject` has the rows left out, `version` the release. The unique key of `claim` is what makes a
chunk exactly-once: a second writer waits for the first, and then either finds the chunk finished or
writes it.
"""

from collections.abc import Sequence
from dataclasses import replace

from .. import chunker
from ..model import Chunk, ChunkKind, Plan
from ..protocols import Transaction
from .claims import ChunkIsFinished, Claims
from .loads import LoadRecord, Loads, LoadState
from .stored import chunk_text
from .tables import LONGEST_NAME

__all__ = ["LONGEST_NAME", "ChunkIsFinished", "Ledger", "LoadRecord", "LoadState"]

# What `claim.done` says of a chunk that was split: nothing of it is to be done, nor was it loaded.
_SPLIT = 2


class Ledger(Loads, Claims):
    """The ledger of one target database: its loads, and their finished chunks."""

    def split(
        self, transaction: Transaction, plan: Plan, chunk: Chunk, cuts: Sequence[tuple[str, ...]]
    ) -> tuple[Chunk, ...]:
        """Put parts of a chunk that nobody has begun in its place; return them.

        The chunk's own claim goes with it, so that whoever still has the old plan cannot load it.
        Raises as `claim` does.
        """
        self.claim(transaction, plan, chunk)
        # Only one at a time counts: the load's own row is shared by those who load chunks.
        transaction.lock(f"split {plan.load_id}")
        named = {"load_id": plan.load_id}
        last = self._last_chunk(transaction, plan.load_id)
        parts = chunker.split(chunk, cuts, last + 1, weights=len(cuts) + 1)
        self._store_chunks(transaction, plan.load_id, parts)
        of_chunk = {**named, "chunk_id": chunk.id}
        transaction.execute(
            f"update {self._chunk} set bounds = :bounds"
            " where load_id = :load_id and chunk_id = :chunk_id",
            {**of_chunk, "bounds": chunk_text(replace(chunk, kind=ChunkKind.SPLIT))},
        )
        transaction.execute(
            f"update {self._claim} set done = {_SPLIT}"
            " where load_id = :load_id and chunk_id = :chunk_id",
            of_chunk,
        )
        return parts
