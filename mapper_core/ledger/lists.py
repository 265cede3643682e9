"""What people ask a ledger: which loads there are, which rows were left out. Reads only."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from ..protocols import Transaction
from ..results import Reject, RejectCause
from ..row_values import left_out
from .stored import SPLIT_TEXT, instant
from .tables import Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSummary:
    """A load in a list of loads."""

    load_id: str
    target: str
    published: bool
    chunks_planned: int
    chunks_finished: int
    rows: int
    """Source rows of what is finished."""
    created_at: datetime
    published_at: datetime | None


def summaries(ledger: Tables, transaction: Transaction) -> tuple[LoadSummary, ...]:
    """Return every load, newest first. Pieces of a stream are rows of it, and no chunks."""
    load, chunk, claim = (ledger.names[name] for name in ("load", "chunk", "claim"))
    rows = transaction.execute(
        "select l.load_id, l.target, l.status, l.created_at, l.published_at,"
        f" (select count(*) from {chunk} c where c.load_id = l.load_id"
        " and c.bounds not like :split),"
        f" (select count(*) from {chunk} c join {claim} d on d.load_id = c.load_id"
        " and d.chunk_id = c.chunk_id where c.load_id = l.load_id and d.done = 1),"
        f" (select sum(d.rows_read) from {claim} d"
        " where d.load_id = l.load_id and d.done = 1)"
        f" from {load} l order by l.created_at desc, l.load_id",
        {"split": SPLIT_TEXT},
    )
    return tuple(
        LoadSummary(
            load_id=row[0],
            target=row[1] or "",
            published=row[2] == "published",
            created_at=instant(row[3]),
            published_at=None if row[4] is None else instant(row[4]),
            chunks_planned=int(row[5]),
            chunks_finished=int(row[6]),
            rows=int(row[7] or 0),
        )
        for row in rows
    )


def published_rows(
    ledger: Tables, transaction: Transaction, target: str
) -> tuple[tuple[str, int], ...]:
    """Return group and rows written of each published load of a target, latest last."""
    load, claim = ledger.names["load"], ledger.names["claim"]
    rows = transaction.execute(
        f"select l.load_group, sum(d.rows_written) from {load} l"
        f" left join {claim} d on d.load_id = l.load_id and d.done = 1"
        " where l.target = :target and l.status = 'published' and l.load_group is not null"
        " group by l.load_id, l.load_group, l.published_at order by l.published_at",
        {"target": target},
    )
    return tuple((group, int(written or 0)) for group, written in rows)


def rejects(ledger: Tables, transaction: Transaction, load_id: str) -> list[Reject]:
    """Return the refused rows of a load, by chunk."""
    rows = transaction.execute(
        f"select chunk_id, source_row, error, code from {ledger.names['reject']}"
        " where load_id = :load_id order by chunk_id",
        {"load_id": load_id},
    )
    return [
        Reject(load_id=load_id, chunk_id=row[0], row=json.loads(row[1]), error=row[2], code=row[3])
        for row in rows
    ]


def reject_causes(
    ledger: Tables, transaction: Transaction, load_id: str
) -> tuple[RejectCause, ...]:
    """Return why rows of a load were refused, the most frequent cause first."""
    refused = transaction.execute(
        f"select chunk_id, code, error from {ledger.names['reject']} where load_id = :load_id"
        " order by chunk_id",
        {"load_id": load_id},
    )
    chunks_of: dict[tuple[str, str], Counter[int]] = {}
    for chunk_id, code, error in refused:
        # In the ledger each has the values of its own row.
        chunks_of.setdefault((code, left_out(error)), Counter())[chunk_id] += 1
    causes = (
        RejectCause(code=code, error=error, rows=of_chunks.total(), chunks=len(of_chunks))
        for (code, error), of_chunks in chunks_of.items()
    )
    return tuple(sorted(causes, key=lambda cause: -cause.rows))
