"""Any database that SQLAlchemy has a dialect for: plain SQL, Python rows, no shared snapshot.

The fallback behind the same seam, proven on SQLite. It knows no bulk path, and no snapshot that
sessions could share, so a query is read by one statement unless the caller gives up the single
read point.
"""

from .database import connect

__all__ = ["connect"]
