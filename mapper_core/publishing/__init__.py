"""Making a load visible: `publication` tries, and tells what came of it; `publisher` does it."""

from .publication import Publication

__all__ = ["Publication"]
