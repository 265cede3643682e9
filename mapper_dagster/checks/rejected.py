"""Whether few rows were left out."""

import dagster as dg

from mapper_core import SettingsError

from .. import metadata
from .check import Case, Check, Finding


def few_rows_rejected(case: Case, most: float) -> Check:
    """Return the check of the share of rows left out. Raises SettingsError for what is no share."""
    if not 0 <= most <= 1:
        raise SettingsError(
            f"mapping {case.mapping.name}: max_reject_share {most} is not a share: use a number"
            " from 0 (no row) to 1 (every row)"
        )

    def find(context: dg.AssetCheckExecutionContext) -> Finding:
        shown = [case.latest(context, [load.partition_key])[1] for load in case.loads(context)]
        rejected = sum(of_one.get(metadata.REJECTED, 0) for of_one in shown)
        read = sum(of_one.get(metadata.ROWS_READ, 0) for of_one in shown)
        share = rejected / read if read else 0.0
        return Finding(
            share <= most,
            f"{rejected:,} of {read:,} rows were left out",
            {metadata.REJECTED: rejected, "mapper/reject_share": share},
        )

    return Check(
        name="few_rows_rejected",
        description=f"At most {most:.2%} of the latest load's rows were left out.",
        find=find,
    )
