"""What the demo's Dagster needs: its home, the databases' URLs, the flights."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from demo import flights, server
from demo.paths import CHECKOUT, DAGSTER_HOME
from demo.process import say
from demo.server import Urls

# Behind what is deployed: nothing of ours prints, and capturing stdout costs four processes a step.
NO_COMPUTE_LOGS = """
compute_logs:
  module: dagster.core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""


@contextmanager
def stage(title: str) -> Iterator[None]:
    """Print what is being done, then how long it took."""
    say(f"{title} ... ", end="")
    began = time.monotonic()
    yield
    say(f"{time.monotonic() - began:.1f} s")


@contextmanager
def prepared() -> Iterator[Urls]:
    """Yield the URLs of the running databases, filled, with the environment set."""
    began = time.monotonic()
    say("PostgreSQL: start ", end="... ")
    with server.running() as urls:
        say(f"{time.monotonic() - began:.1f} s")
        os.environ["MAPPER_SOURCE_URL"] = urls.source
        os.environ["MAPPER_TARGET_URL"] = urls.target
        DAGSTER_HOME.mkdir(parents=True, exist_ok=True)
        deployed = (CHECKOUT / "deploy" / "dagster.yaml").read_text()
        (DAGSTER_HOME / "dagster.yaml").write_text(deployed + NO_COMPUTE_LOGS)
        os.environ["DAGSTER_PG_URL"] = urls.storage
        os.environ["DAGSTER_HOME"] = str(DAGSTER_HOME)
        with stage(f"Source: {flights.FLIGHTS:,} flights of 2013"):
            filled = flights.fill_source(urls.source)
            say("" if filled else "already there, ", end="")
        with stage("Target: table fact_flights"):
            created = flights.create_target(urls.target)
            say("" if created else "already there, ", end="")
        yield urls
