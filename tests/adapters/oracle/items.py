"""What the tests on Oracle share: a table to load, and loads of it."""

from mapper_core import execute_query_parallel
from mapper_core.retry import RetryConfig, RetryHandler

ROWS = 2_000

# Tries again often enough for what a test breaks, and soon.
QUICK = RetryHandler(RetryConfig(max_retries=6, initial_delay=0.01, max_delay=0.05))

ITEMS = "select * from item order by id"


def fill(user, rows=ROWS):
    """Make a table of rows `(id, name, amount)` in a schema; amounts of 7 have no name."""
    user.run("create table item (id number(10) primary key, name varchar2(40), amount number)")
    with user.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "insert into item values (:1, :2, :3)",
            [(n, None if n % 10 == 7 else f"n{n}", n % 10) for n in range(rows)],
        )
        connection.commit()


def empty(user):
    """Make an empty table for them."""
    user.run("create table item (id number(10), name varchar2(40), amount number)")


def load(source, target, sql=ITEMS, **options):
    """Load between Oracle's users, or any URLs, with small chunks and two workers."""
    small = {"chunk_size": 500, "max_workers": 2, "min_rows_for_parallel": 0}
    options = {**small, "enable_progress": False, **options}
    place = {"target_conn": getattr(target, "url", target), "target_table": "item"}
    if str(target).startswith("postgresql"):
        place["target_schema"] = "public"
    return execute_query_parallel(getattr(source, "url", source), sql, **{**place, **options})


def counted(user):
    """Return how many rows the table holds, and how many different ones."""
    return user.run("select count(*), count(distinct id) from item")[0]
