"""One change of rows, for each kind of function: the price gets the tax, the ship mode small letters.

Both are exact, so that every program comes to the same values.
"""

from typing import Any

# What the functions read and write.
COLUMNS = ("l_extendedprice", "l_tax", "l_shipmode")


def change_row(row: dict[str, Any]) -> dict[str, Any]:
    """Change one row."""
    row["l_extendedprice"] += row["l_tax"]
    row["l_shipmode"] = row["l_shipmode"].lower()
    return row


def change_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Change a list of rows."""
    return [change_row(row) for row in rows]


def change_batch(batch: Any) -> Any:
    """Change a pyarrow.RecordBatch."""
    import pyarrow
    from pyarrow import compute

    price = batch.schema.field("l_extendedprice")
    sums = compute.add(batch.column("l_extendedprice"), batch.column("l_tax"))
    mode = compute.utf8_lower(batch.column("l_shipmode"))
    arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
    arrays |= {"l_extendedprice": sums.cast(price.type), "l_shipmode": mode}
    return pyarrow.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
