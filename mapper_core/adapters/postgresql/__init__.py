"""PostgreSQL, as a source and as a target, through psycopg 3."""

from .database import connect

__all__ = ["connect"]
