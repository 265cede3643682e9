"""Databases and settings, as Dagster configures them."""

from typing import Any

import dagster as dg
from pydantic import Field

from mapper_core import ParallelProcessor


class DatabaseResource(dg.ConfigurableResource[Any]):
    """A database by its URL. Take the URL from an `EnvVar`, so that no password is in the code."""

    url: str = Field(
        repr=False, description="dialect://user:password@host:port/database, from an EnvVar"
    )


class MapperResource(dg.ConfigurableResource[Any]):
    """The settings of loads; what is not set here comes from the environment, or is a default.

    See `mapper_core.Settings` for what each means.
    """

    enable_parallel: bool | None = None
    max_workers: int | None = None
    chunk_size: int | None = None
    min_rows_for_parallel: int | None = None
    enable_retry: bool | None = None
    max_retries: int | None = None
    ledger_schema: str | None = None

    def processor(self) -> ParallelProcessor:
        """Return a processor with these settings."""
        return ParallelProcessor(
            enable_parallel=self.enable_parallel,
            max_workers=self.max_workers,
            chunk_size=self.chunk_size,
            min_rows_for_parallel=self.min_rows_for_parallel,
            enable_retry=self.enable_retry,
            max_retries=self.max_retries,
            ledger_schema=self.ledger_schema,
        )
