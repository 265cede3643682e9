"""psycopg's ways from values to texts and back, without a connection: any process can go them."""

from typing import Any

import psycopg
from psycopg.adapt import AdaptersMap


class Unconnected:
    """psycopg's own types, to which others can be added, of no connection."""

    def __init__(self) -> None:
        self.adapters = AdaptersMap(psycopg.adapters)
        self.connection: psycopg.Connection[Any] | None = None
