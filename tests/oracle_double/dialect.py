"""Oracle's SQL, made H2's: what H2's Oracle mode does not know by itself.

Nothing is guessed. A statement that neither side knows reaches H2 as it is, and its refusal becomes
an ORA error that no code under test expects.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

B64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

# Where H2's row 0 would lie: object, file, block; so many rows are in a block.
OBJECT, FILE, FIRST_BLOCK, PER_BLOCK = 70001, 4, 128, 400

MARK = "@RID@"
"""Begins a text that stands for a rowid, and is sent as one."""

_AS_OF = re.compile(r"\s+AS\s+OF\s+SCN\s+(\d+|\(\s*\d+\s*\))", re.I)
_SCN = re.compile(
    r"dbms_flashback\.get_system_change_number(\(\))?|timestamp_to_scn\s*\(\s*systimestamp\s*\)",
    re.I,
)
_CURRENT_SCN = re.compile(r"current_scn(\s+as\s+\w+)?\s+from\s+v\$database", re.I)
_SCN_TIME = re.compile(r"scn_to_timestamp\s*\(\s*(\d+)\s*\)", re.I)
_CONTEXT = re.compile(r"sys_context\s*\(\s*'userenv'\s*,\s*'(\w+)'\s*\)", re.I)
_ROWID = re.compile(r"(?<![\w$.])ROWID\b", re.I)
_QUALIFIED_ROWID = re.compile(r"\.ROWID\b", re.I)
_CHARTOROWID = re.compile(r"CHARTOROWID\s*\(([^()]*)\)", re.I)
_ROWIDTOCHAR = re.compile(r"ROWIDTOCHAR\s*\(\s*(\w+_rowid)\s*\)", re.I)
_ROWID_CREATE = re.compile(
    r"DBMS_ROWID\.ROWID_CREATE\s*\(\s*1\s*,\s*[\w.]+\s*,\s*[\w.]+\s*,\s*([\w.]+)\s*,\s*(\d+)\s*\)",
    re.I,
)
_LOCKING = re.compile(r"\bFOR\s+UPDATE(?:\s+(NOWAIT|SKIP\s+LOCKED|WAIT\s+\d+))?\s*$", re.I)
_SAMPLE = re.compile(r"\s+SAMPLE\s*(BLOCK)?\s*\([\d.]+\)(\s*SEED\s*\(\d+\))?", re.I)
_LOB_COMPARE = re.compile(r"dbms_lob\.compare\s*\(([^(),]+),([^(),]+)\)", re.I)
# Of one argument that has no parentheses itself.
_FUNCTIONS = tuple(
    (re.compile(rf"\b{name}\s*\(([^(),]*)\)", re.I), rf"cast(\1 as {kind})")
    for name, kind in (
        *(("to_number", "decfloat"), ("to_clob", "clob"), ("to_nclob", "clob")),
        *(("to_blob", "blob"), ("to_binary_double", "double precision")),
        *(("to_binary_float", "real"), ("to_dsinterval", "interval day(9) to second(9)")),
        ("to_yminterval", "interval year(9) to month"),
    )
)
_EXTRACT_UTC = re.compile(r"sys_extract_utc\s*\(\s*(\w+)\s*\)", re.I)
_QUOTING = re.compile(r"\bq'([\[({<!|])(.*?)[\])}>!|]'", re.I | re.S)
_LOCAL_ZONE = re.compile(r"WITH\s+LOCAL\s+TIME\s+ZONE", re.I)
_QUERY = re.compile(r"\s*(/\*.*?\*/|--[^\n]*\n|\s|\()*(SELECT|WITH)\b", re.I | re.S)
_BIND = re.compile(r':\s*("[^"]+"|\w+)')


def is_query(sql: str) -> bool:
    """Whether a statement gives rows."""
    return bool(_QUERY.match(sql))


def rowid_text(number: int) -> str:
    """Return the rowid of H2's row of that number, as Oracle writes rowids."""
    block, row = FIRST_BLOCK + number // PER_BLOCK, number % PER_BLOCK
    return "".join(
        "".join(B64[value >> 6 * at & 63] for at in reversed(range(digits)))
        for value, digits in ((OBJECT, 6), (FILE, 3), (block, 6), (row, 3))
    )


def rowid_number(text: str) -> int:
    """Return the number of H2's row at a rowid; of one between two blocks the next one's."""

    def value(digits: str) -> int:
        return sum(B64.index(each) << 6 * at for at, each in enumerate(reversed(digits)))

    return (value(text[9:15]) - FIRST_BLOCK) * PER_BLOCK + value(text[15:18])


def split_binds(sql: str) -> tuple[str, list[str]]:
    """Return the statement with `?` for its placeholders, and their names, one each time.

    Texts, quoted names and comments are left alone.
    """
    out, names, at, end = [], [], 0, len(sql)
    while at < end:
        letter = sql[at]
        if letter in "'\"":
            close = sql.find(letter, at + 1)
            while letter == "'" and close != -1 and sql[close + 1 : close + 2] == "'":
                close = sql.find("'", close + 2)
            after = end if close == -1 else close + 1
        elif sql.startswith("--", at):
            close = sql.find("\n", at)
            after = end if close == -1 else close
        elif sql.startswith("/*", at):
            close = sql.find("*/", at)
            after = end if close == -1 else close + 2
        elif letter == ":" and sql[at + 1 : at + 2] != "=" and (found := _BIND.match(sql, at)):
            names.append(found[1])
            out.append("?")
            at = found.end()
            continue
        else:
            after = at + 1
        out.append(sql[at:after])
        at = after
    return "".join(out), names


@dataclass
class Statement:
    """A statement as H2 is given it."""

    sql: str
    scn: int | None = None
    """Where it reads; None for now."""
    locking: str | None = None
    """What FOR UPDATE does about rows that others have locked; None without FOR UPDATE."""
    has_rowids: bool = False
    """Whether texts of eighteen letters that are bound mean rowids."""
    asked_about: set[int] = field(default_factory=set)
    """SCNs whose time it asks for."""


def query(sql: str, context: dict[str, str], new_scn: Callable[[], int]) -> Statement:
    """Return a query as H2 is given it.

    Args:
        sql: what was asked.
        context: what SYS_CONTEXT('USERENV', name) gives.
        new_scn: returns a new SCN; called where the query asks for the present one.
    """
    sql = _QUOTING.sub(lambda found: "'" + found[2].replace("'", "''") + "'", sql)
    if _SCN.search(sql) or _CURRENT_SCN.search(sql):
        number = f"cast({new_scn()} as numeric(20))"
        sql = _SCN.sub(number, sql)
        sql = _CURRENT_SCN.sub(
            lambda found: f"{number}{found[1] or ' as CURRENT_SCN'} from DUAL", sql
        )
    asked_about = {int(scn) for scn in _SCN_TIME.findall(sql)}
    sql = _SCN_TIME.sub("localtimestamp", sql)
    sql = re.sub(r"\border by start_rowid\b", "order by chunk_id", sql, flags=re.I)
    sql = re.sub(r"\bsessiontimezone\b", "cast('UTC' as varchar(40))", sql, flags=re.I)
    sql = _LOCAL_ZONE.sub("WITH TIME ZONE", sql)
    sql = re.sub(r"\bdbms_random\.value\b", "rand()", sql, flags=re.I)
    # Whatever the session's zone, in which H2 would cast it.
    sql = _EXTRACT_UTC.sub(
        r"dateadd('MICROSECOND', cast(extract(epoch from \1) * 1000000 as bigint),"
        r" timestamp '1970-01-01 00:00:00')",
        sql,
    )
    sql = _LOB_COMPARE.sub(r"case when \1 = \2 then 0 else 1 end", sql)
    sql = re.sub(r"\bdbms_lob\.getlength\b", "length", sql, flags=re.I)

    def of_session(found: re.Match[str]) -> str:
        value = context.get(found[1].upper())
        return "cast(null as varchar(255))" if value is None else f"cast('{value}' as varchar(255))"

    sql = _CONTEXT.sub(of_session, sql)
    points = {int(point.strip("() ")) for point in _AS_OF.findall(sql)}
    sql = _SAMPLE.sub("", _AS_OF.sub("", sql))
    sql = _ROWIDTOCHAR.sub(r"\1", _CHARTOROWID.sub(r"\1", sql))
    sql = _ROWID_CREATE.sub(
        rf"('{MARK}' || cast((\1 - {FIRST_BLOCK}) * {PER_BLOCK} + \2 as varchar(30)))", sql
    )
    for pattern, replacement in _FUNCTIONS:
        sql = pattern.sub(replacement, sql)
    sql, locking = sql.rstrip().rstrip(";"), None
    if found := _LOCKING.search(sql):
        locking = (found[1] or "WAIT 60").upper()
        sql = sql[: found.start()] + "FOR UPDATE"
    plain, has_rowids = sql, False
    sql = _QUALIFIED_ROWID.sub("._ROWID_", _ROWID.sub("_ROWID_", sql))
    has_rowids = sql != plain
    return Statement(sql, points.pop() if points else None, locking, has_rowids, asked_about)


def definition(sql: str) -> str:
    """Return a CREATE, DROP or ALTER as H2 is given it."""
    sql = re.sub(r"\bPURGE\s*$", "", sql.strip().rstrip(";"), flags=re.I)
    sql = re.sub(r"\bCASCADE\s+CONSTRAINTS\s*$", "CASCADE", sql.strip(), flags=re.I)
    sql = re.sub(r"\bON\s+COMMIT\s+(PRESERVE|DELETE)\s+ROWS", "", sql, flags=re.I)
    sql = re.sub(r"CREATE\s+GLOBAL\s+TEMPORARY\s+TABLE", "CREATE TABLE", sql, flags=re.I)
    sql = re.sub(r"\)\s+VIRTUAL\b", ")", sql, flags=re.I)
    return _LOCAL_ZONE.sub("WITH TIME ZONE", sql)
