"""Arrow batches into the table through binary COPY, encoded by pgpq."""

from collections.abc import Iterable
from typing import Any

from benchmarks.functions import change_batch

BATCH = 50_000


def write(target: str, batches: Iterable[Any], *, change: bool = False) -> None:
    """Write batches of the table's columns, whose decimals may have any width, in one COPY."""
    import pgpq
    import psycopg

    encoder: Any = None
    with (
        psycopg.connect(target) as connection,
        connection.cursor().copy("copy lineitem from stdin (format binary)") as copy,
    ):
        plain = map(_plain, batches)
        for batch in map(change_batch, plain) if change else plain:
            if encoder is None:
                encoder = pgpq.ArrowToPostgresBinaryEncoder(batch.schema)
                copy.write(encoder.write_header())
            copy.write(encoder.write_batch(batch))
        copy.write(encoder.finish())


def _plain(batch: Any) -> Any:
    """Return a batch without extension types, decimals as the table has them."""
    import pyarrow

    arrays = [getattr(column, "storage", column) for column in batch.columns]
    for number, name in enumerate(batch.schema.names):
        if name in {"l_quantity", "l_extendedprice", "l_discount", "l_tax"}:
            arrays[number] = arrays[number].cast(pyarrow.decimal128(15, 2))
    return pyarrow.RecordBatch.from_arrays(arrays, names=batch.schema.names)
