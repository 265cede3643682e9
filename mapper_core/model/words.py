"""The closed sets of words that a load is described in."""

from enum import Enum


class Word(str, Enum):
    """A closed set of words; prints as the word itself."""

    def __str__(self) -> str:
        return str(self.value)


class LoadMode(Word):
    """What happens to rows that are already in the target, and how new rows are added."""

    APPEND = "append"  #: rows are added; each chunk appears as it commits
    REPLACE = "replace"  #: all rows are replaced, at once, at the end
    REPLACE_WINDOW = "replace_window"  #: the window's rows are replaced, all at once, at the end
    UPSERT = "upsert"  #: rows with a known key are updated, others added, all at once, at the end


class Publishing(Word):
    """When readers of the target see a load's rows."""

    CHUNKS = "chunks"  #: each chunk's as it commits, where the load mode allows it
    ATOMIC = "atomic"  #: all at once, at the end


class TransformScope(Word):
    """How many rows a transform sees in one call."""

    CHUNK = "chunk"  #: all rows of the chunk
    BATCH = "batch"  #: as many as are in memory together


class TransformWorkers(Word):
    """Where a row transform runs."""

    THREADS = "threads"  #: in the threads that move the rows
    PROCESSES = "processes"  #: in processes of their own


class StrategyName(Word):
    """How a query is divided. Each strategy can be asked for by its name."""

    SAME_DATABASE = "same_database"  #: INSERT ... SELECT inside the one database, chunk by chunk
    PHYSICAL = "physical"  #: ranges of a table's blocks
    KEY = "key"  #: ranges of one or several columns
    STREAM_ONCE = "stream_once"  #: read once by one reader, written by many, published at the end
    OFFSET = "offset"  #: pages of a totally ordered query; by name only, because it is quadratic
    #: one reader, one writer, one transaction
    ONE_PASS = "one_pass"  # noqa: S105 - no password


class DataPath(Word):
    """How rows travel from source to target."""

    IN_SERVER = "insert select"  #: inside the database that is both; nothing reaches Python
    COPY_BINARY = "binary copy"  #: PostgreSQL's binary COPY blocks, passed through unread
    COPY_TEXT = "text copy"  #: PostgreSQL's text COPY blocks; the target parses every value
    ROWS = "rows"  #: Python rows
    ARROW = "arrow"  #: Arrow record batches; PostgreSQL sends and takes them as CSV
    DIRECT = "direct path"  #: blocks that Oracle appends to a stage, past its buffers and undo

    @property
    def passes_blocks_on(self) -> bool:
        """Whether rows go from one server to the other as they came, in blocks."""
        return self in {DataPath.COPY_BINARY, DataPath.COPY_TEXT}


class Verification(Word):
    """How a load, or two tables, are compared."""

    NONE = "none"  #: not at all
    COUNT = "count"  #: by the number of rows
    CHECKSUM = "checksum"  #: by the number of rows, and by sums over the rows' values


class ChunkKind(Word):
    """Which rows of the query a chunk holds."""

    ALL = "all"  #: every row
    RANGE = "range"  #: rows whose key lies in `[low, high)`
    NULLS = "nulls"  #: rows with a NULL in the key
    BLOCKS = "blocks"  #: rows that lie in blocks `[low, high)` of the table's files
    ROWIDS = "rowids"  #: rows whose place in the table's files, their rowid, is in `[low, high)`
    PAGE = "page"  #: rows `[low, high)` of the ordered query, counted from 0
    STREAM = "stream"  #: every row, by one reader; its pieces are numbered as they come
    SPLIT = "split"  #: no longer any: it was split, and later chunks have its rows
