"""A mapping to begin with, as `dg scaffold defs` writes it."""

from typing import Any

import dagster as dg

_EXAMPLE = {
    "name": "fact_orders",
    "source_sql_file": "orders.sql",
    "target_schema": "dw",
    "target_table": "fact_orders",
    "window_column": "order_date",
    "partitions": {"type": "daily", "start_date": "2024-01-01"},
    "checks": {"compare": "count"},
}
_EXAMPLE_SQL = """\
SELECT * FROM orders
WHERE order_date >= :window_start AND order_date < :window_end
"""


class MappingScaffolder(dg.Scaffolder[Any]):
    """Writes a mapping to start from, and its SQL beside it."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write `defs.yaml` and `orders.sql`."""
        dg.scaffold_component(request, _EXAMPLE)
        (request.target_path / "orders.sql").write_text(_EXAMPLE_SQL)
