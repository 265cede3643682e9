"""What a source SQL says, through sqlglot: `sql` as a whole, `clock` of the present moment."""

from .clock import says_now
from .sql import UNPARSED, Query, names_in, read_query

__all__ = ["UNPARSED", "Query", "names_in", "read_query", "says_now"]
