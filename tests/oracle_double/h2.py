"""What runs the SQL: H2 in its Oracle mode, in this process's own Java machine."""

import datetime as dt
import itertools
import re
import threading
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

from . import catalog, dialect
from .wire import (
    BDOUBLE,
    BFLOAT,
    BLOB,
    CHAR,
    CLOB,
    DATE,
    IDS,
    IYM,
    NUMBER,
    RAW,
    ROWID,
    TS,
    TSTZ,
    VARCHAR,
    Column,
    Months,
    OraError,
)

# H2's error code -> Oracle's.
_CODES = {
    **{42102: 942, 42103: 942, 42104: 942, 42122: 904, 42121: 957, 42101: 955, 23505: 1},
    **{23502: 1400, 23506: 2291, 23503: 2292, 23513: 2290, 22001: 12899, 22003: 1438},
    **{22018: 1722, 22007: 1861, 57014: 1013, 50200: 30006, 40001: 60, 22012: 1476},
    **{42000: 900, 42001: 900, 90022: 904, 21002: 913, 90131: 8177, 90057: 2443, 90037: 942},
    **{42111: 955, 90045: 2260, 90016: 979, 42131: 957, 90086: 904, 90079: 1918},
}
_TEXT = {
    942: "table or view does not exist",
    904: "{x}: invalid identifier",
    1: "unique constraint ({x}) violated",
    1400: "cannot insert NULL into ({x})",
    2291: "integrity constraint ({x}) violated - parent key not found",
    2292: "integrity constraint ({x}) violated - child record found",
    2290: "check constraint ({x}) violated",
    12899: "value too large for column {x}",
    1438: "value larger than specified precision allowed for this column",
    1722: "invalid number",
    1013: "user requested cancel of current operation",
    30006: "resource busy; acquire with WAIT timeout expired",
    60: "deadlock detected while waiting for resource",
    955: "name is already used by an existing object",
    1476: "divisor is equal to zero",
    1861: "literal does not match format string",
    8177: "can't serialize access for this transaction",
}

# Snapshots that are kept; older ones have gone out of undo.
_KEPT = 60

_SESSION_PARAMETERS = {"TIME_ZONE", "NLS_SORT", "NLS_COMP", "DDL_LOCK_TIMEOUT"}
_SESSION_PARAMETERS |= {f"NLS_{kind}_FORMAT" for kind in ("DATE", "TIMESTAMP", "TIMESTAMP_TZ")}

# What Oracle says to somebody who lacks a privilege, by what he named.
_DENIALS = (
    (re.compile(r"^(DBA_|ALL_|V\$)"), 942, "table or view does not exist"),
    (re.compile(r"^AS OF"), 1031, "insufficient privileges"),
    (re.compile(r"^DBMS_"), 904, '"{x}": invalid identifier'),
)


class H2Backend:
    """One database; its users are H2's schemas."""

    def __init__(self, jar: str, name: str = "ora") -> None:
        import jpype

        if not jpype.isJVMStarted():
            jpype.startJVM(
                *("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"), classpath=[jar]
            )
        self.java = jpype.JClass
        self.url = (
            f"jdbc:h2:mem:{name};MODE=Oracle;DB_CLOSE_DELAY=-1;DEFAULT_NULL_ORDERING=HIGH"
            ";LOCK_TIMEOUT=20000;NON_KEYWORDS=VALUE,KEY,DAY,HOUR,MINUTE,MONTH,SECOND,YEAR"
        )
        self._manager = self.java("java.sql.DriverManager")
        self.java("org.h2.Driver").load()
        self.snapshots: dict[int, tuple[Any, threading.Lock]] = {}
        self._scn = itertools.count(1_000_001)
        self.lock = threading.Lock()
        self.denied: dict[str, set[str]] = {}
        self.server: Any = None
        self._keep = self.raw()
        statement = self._keep.createStatement()
        for each in catalog.STATEMENTS:
            statement.execute(each)

    def raw(self) -> Any:
        """Return a connection of JDBC's."""
        return self._manager.getConnection(self.url, "sa", "")

    def connect(self, session: Any) -> "H2Session":
        """Open the database for one client."""
        return H2Session(self, session)

    def new_scn(self) -> int:
        """Return an SCN: behind it is a connection that reads as things are now."""
        held = self.raw()
        held.setAutoCommit(False)
        statement = held.createStatement()
        statement.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SNAPSHOT")
        statement.executeQuery("SELECT COUNT(*) FROM ORA$ANCHOR").close()
        with self.lock:
            number = next(self._scn)
            self.snapshots[number] = (held, threading.Lock())
            while len(self.snapshots) > _KEPT:
                self.snapshots.pop(min(self.snapshots))[0].close()
        return number

    def snapshot(self, scn: int) -> tuple[Any, threading.Lock]:
        """Return the connection behind an SCN. Raises OraError when it is gone."""
        if (found := self.snapshots.get(scn)) is None:
            raise OraError(1555, 'snapshot too old: rollback segment with name "" too small')
        return found

    def forget_snapshots(self) -> None:
        """Let undo run out."""
        with self.lock:
            for held, _ in self.snapshots.values():
                held.close()
            self.snapshots.clear()


class _Rows:
    """Rows on their way out of H2."""

    def __init__(self, result: Any, statement: Any, read: list[Any]) -> None:
        self._result, self._statement, self._read = result, statement, read
        self.done = False

    def fetch(self, count: int) -> list[list[Any]]:
        out: list[list[Any]] = []
        while len(out) < count:
            if not self._result.next():
                self.done = True
                self.close()
                break
            out.append([read(self._result, at) for at, read in enumerate(self._read, 1)])
        return out

    def close(self) -> None:
        with suppress(Exception):
            self._result.close()
            self._statement.close()


class _Fetched:
    """Rows that are out of H2 already."""

    def __init__(self, rows: list[list[Any]]) -> None:
        self._rows, self._at, self.done = rows, 0, False

    def fetch(self, count: int) -> list[list[Any]]:
        out = self._rows[self._at : self._at + count]
        self._at += len(out)
        self.done = len(out) < count
        return out

    def close(self) -> None:
        self._rows = []


def _number(result: Any, at: int) -> Any:
    value = result.getBigDecimal(at)
    return None if value is None else Decimal(str(value.toString()))


def _text(result: Any, at: int) -> Any:
    value = result.getString(at)
    if value is None:
        return None
    text = str(value)
    if text.startswith(dialect.MARK):
        return dialect.rowid_text(int(text.removeprefix(dialect.MARK)))
    return text or None


def _double(result: Any, at: int) -> Any:
    value = result.getDouble(at)
    return None if result.wasNull() else float(value)


def _bytes(result: Any, at: int) -> Any:
    value = result.getBytes(at)
    return None if value is None else bytes(value)


def _moment(result: Any, at: int) -> Any:
    """Return a datetime, and the nanoseconds that it has no room for."""
    value = result.getString(at)
    if value is None:
        return None
    text = str(value)
    if re.search(r"[+-]\d\d$", text):
        text += ":00"
    text = re.sub(r"\.(\d+)", lambda found: "." + (found[1] + "000000")[:6], text)
    return dt.datetime.fromisoformat(text)


def _boolean(result: Any, at: int) -> Any:
    value = result.getBoolean(at)
    return None if result.wasNull() else Decimal(int(value))


def _rowid(result: Any, at: int) -> Any:
    number = result.getLong(at)
    if result.wasNull():
        return None
    block, row = divmod(int(number), dialect.PER_BLOCK)
    return (dialect.OBJECT, dialect.FILE, dialect.FIRST_BLOCK + block, row)


def _days(result: Any, at: int) -> Any:
    value = result.getObject(at)
    if value is None:
        return None
    nanoseconds = int(value.getRemaining())
    span = dt.timedelta(days=int(value.getLeading()), microseconds=nanoseconds // 1000)
    return -span if value.isNegative() else span


def _months(result: Any, at: int) -> Any:
    value = result.getObject(at)
    if value is None:
        return None
    months = int(value.getLeading()) * 12 + int(value.getRemaining())
    return Months(-months if value.isNegative() else months)


class H2Session:
    """The database as one client sees it."""

    def __init__(self, backend: H2Backend, session: Any) -> None:
        self._backend, self._session = backend, session
        self._java = backend.java
        self._connection = backend.raw()
        self._connection.setAutoCommit(False)
        self._running: Any = None
        self._flashback: int | None = None
        self._parameters = {"NLS_SORT": "BINARY", "NLS_COMP": "BINARY", "TIME_ZONE": "+00:00"}
        self.schema = session.user
        with backend.lock:
            self._run(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}"')
        self.set_schema(self.schema)

    def close(self) -> None:
        with suppress(Exception):
            self._connection.rollback()
            self._connection.close()

    def commit(self) -> None:
        self._connection.commit()

    def rollback(self) -> None:
        self._connection.rollback()

    def set_schema(self, schema: str) -> None:
        self.schema = schema
        self._look_in(self._connection)

    def cancel(self) -> None:
        running = self._running
        if running is not None:
            with suppress(Exception):
                running.cancel()

    @staticmethod
    def is_query(sql: str) -> bool:
        return dialect.is_query(sql)

    def query(self, sql: str, row: list[Any], binds: Any, describe_only: bool = False) -> Any:
        """Run a query; return its columns, and its rows as they are fetched."""
        del binds, describe_only
        self._backend.server.fault("query", sql, self._session)
        self._check_rights(sql)
        self._fill_extents(sql)
        context = {
            **{"SESSION_USER": self._session.user, "CURRENT_USER": self._session.user},
            **{"CURRENT_SCHEMA": self.schema, "SID": str(self._session.sid)},
            **{"DB_NAME": "FAKEDB", "DB_UNIQUE_NAME": "FAKEDB", "INSTANCE_NAME": "FAKE"},
        }
        if "nls_session_parameters" in sql.lower():
            listed = " union all ".join(
                f"select '{name}' as PARAMETER, '{value}' as \"VALUE\" from DUAL"
                for name, value in self._parameters.items()
            )
            sql = re.sub(r"nls_session_parameters", f"({listed})", sql, flags=re.I)
        asked = dialect.query(sql, context, self._backend.new_scn)
        if forgotten := asked.asked_about - set(self._backend.snapshots):
            raise OraError(8181, f"specified number is not a valid SCN: {min(forgotten)}")
        scn = asked.scn if asked.scn is not None else self._flashback
        if scn is None:
            with self._patience(asked.locking):
                try:
                    return self._rows(self._connection, asked, row)
                except OraError as error:
                    if error.code == 30006 and asked.locking == "SKIP LOCKED":
                        return [Column("X", NUMBER, 0, -127)], _Fetched([])
                    raise
        held, lock = self._backend.snapshot(scn)
        with lock:
            self._look_in(held)
            columns, rows = self._rows(held, asked, row)
            # Others read there too, and one at a time.
            return columns, _Fetched(rows.fetch(10**9))

    def dml(self, sql: str, rows: list[list[Any]], binds: Any, batcherrors: bool) -> Any:
        """Run what gives no rows; return how many rows each row of values has changed."""
        del binds
        self._backend.server.fault("dml", sql, self._session)
        self._session.changed = sql
        words = re.sub(r"/\*.*?\*/", " ", sql, flags=re.S).strip().split(None, 3)
        word = words[0].upper()
        if word == "ALTER" and words[1].upper() == "SESSION":
            self._alter_session(sql)
            return [0], []
        if word in {"BEGIN", "DECLARE", "CALL"}:
            self._run_block(sql, rows[0] if rows else [])
            return [0], []
        if word == "SET" and words[1].upper() in {"TRANSACTION", "CONSTRAINTS"}:
            return [0], []
        if word == "SAVEPOINT" or (word == "ROLLBACK" and words[1:2] == ["to"]):
            self._run(sql)
            return [0], []
        if word in {"COMMIT", "ROLLBACK"} and len(words) == 1:
            (self.commit if word == "COMMIT" else self.rollback)()
            self._session.txn = False
            return [0], []
        if self._flashback is not None:
            raise OraError(8182, "operation not supported while in Flashback mode")
        if word in {"CREATE", "DROP", "ALTER", "TRUNCATE", "COMMENT"}:
            self._define(sql)
            return [0], []
        self._check_rights(sql)
        return self._change(dialect.query(sql, {}, self._backend.new_scn), rows, batcherrors)

    def _define(self, sql: str) -> None:
        """Run DDL, which ends the transaction before it and commits what it does."""
        self.commit()
        try:
            self._run(dialect.definition(sql))
        except self._java("java.sql.SQLException") as error:
            raise self._as_oracle(error) from None
        self.commit()
        self._session.txn = False

    def _change(
        self, asked: dialect.Statement, rows: list[list[Any]], batcherrors: bool
    ) -> tuple[list[int], list[tuple[int, OraError]]]:
        failure = self._java("java.sql.SQLException")
        counts: list[int] = []
        errors: list[tuple[int, OraError]] = []
        try:
            prepared = self._prepared(self._connection, asked.sql)
        except failure as error:
            raise self._as_oracle(error) from None
        self._running = prepared
        try:
            if len(rows) > 1:  # all at once; undone when one of them fails
                before = self._connection.setSavepoint()
                try:
                    for row in rows:
                        self._bind(prepared, row, asked.has_rowids)
                        prepared.addBatch()
                    counts = [max(int(count), 0) for count in prepared.executeBatch()]
                except failure as error:
                    if int(error.getErrorCode()) == 57014:
                        raise
                    self._connection.rollback(before)
                    prepared.clearBatch()
                else:
                    self._session.txn = True
                    return counts, []
                counts = []
            for number, row in enumerate(rows):
                try:
                    self._bind(prepared, row, asked.has_rowids)
                    counts.append(int(prepared.executeUpdate()))
                    self._session.txn = True
                except failure as error:
                    as_oracle = self._as_oracle(error)
                    if not batcherrors:
                        # The rows before it stay: the transaction is the caller's.
                        as_oracle.rows = number
                        raise as_oracle from None
                    errors.append((number, as_oracle))
                    counts.append(0)
        except failure as error:
            raise self._as_oracle(error) from None
        finally:
            self._running = None
            prepared.close()
        return counts, errors

    def _rows(self, connection: Any, asked: dialect.Statement, row: list[Any]) -> Any:
        failure = self._java("java.sql.SQLException")
        try:
            prepared = self._prepared(connection, asked.sql)
            self._running = prepared
            self._bind(prepared, row, asked.has_rowids)
            result = prepared.executeQuery()
            described = result.getMetaData()
            found = [_column(described, at) for at in range(1, described.getColumnCount() + 1)]
        except failure as error:
            raise self._as_oracle(error) from None
        finally:
            self._running = None
        if asked.locking is not None:
            self._session.txn = True
        rows = _Rows(result, prepared, [read for _, read in found])
        return [column for column, _ in found], rows

    def _prepared(self, connection: Any, sql: str) -> Any:
        return connection.prepareStatement(dialect.split_binds(sql.strip().rstrip(";"))[0])

    def _bind(self, prepared: Any, row: list[Any], has_rowids: bool) -> None:
        for at, value in enumerate(row, 1):
            if value is None or value == "":
                prepared.setString(at, None)
            elif isinstance(value, bool):
                prepared.setBoolean(at, value)
            elif isinstance(value, Decimal):
                big = self._java("java.math.BigDecimal")(format(value, "f"))
                prepared.setBigDecimal(at, big)
            elif isinstance(value, dt.datetime):
                kind = "OffsetDateTime" if value.tzinfo else "LocalDateTime"
                parsed = self._java(f"java.time.{kind}").parse(value.isoformat())
                prepared.setObject(at, parsed)
            elif isinstance(value, dt.timedelta):
                prepared.setObject(at, self._interval(value))
            elif isinstance(value, Months):
                kind = self._java("org.h2.api.IntervalQualifier").YEAR_TO_MONTH
                years, rest = divmod(abs(value), 12)
                interval = self._java("org.h2.api.Interval")
                prepared.setObject(at, interval(kind, value < 0, years, rest))
            elif isinstance(value, bytes):
                prepared.setBytes(at, value)
            elif isinstance(value, float):
                prepared.setDouble(at, value)
            elif isinstance(value, str) and has_rowids and len(value) == 18:
                prepared.setLong(at, dialect.rowid_number(value))
            elif isinstance(value, str):
                prepared.setString(at, value)
            else:
                raise OraError(932, f"inconsistent datatypes: {type(value)}")

    def _interval(self, span: dt.timedelta) -> Any:
        kind = self._java("org.h2.api.IntervalQualifier").DAY_TO_SECOND
        length = abs(span)
        rest = (length.seconds * 1_000_000 + length.microseconds) * 1000
        return self._java("org.h2.api.Interval")(kind, span < dt.timedelta(0), length.days, rest)

    def _alter_session(self, sql: str) -> None:
        for name, value in re.findall(r"(\w+)\s*=\s*('[^']*'|\S+)", sql):
            plain = value.strip("'")
            if name.upper() not in _SESSION_PARAMETERS:
                raise OraError(2248, "invalid option for ALTER SESSION")
            self._parameters[name.upper()] = plain
            if name.upper() == "TIME_ZONE":
                self._run(f"SET TIME ZONE '{plain}'")

    def _run_block(self, sql: str, values: list[Any]) -> None:
        """Run the few blocks of PL/SQL that are known."""
        body = re.sub(r"\s+", " ", sql).strip().rstrip(";")
        self._check_rights(body, in_block=True)
        if re.fullmatch(r"begin null; end", body, re.I):
            return
        if found := re.fullmatch(r"begin dbms_(?:session|lock)\.sleep\((.*?)\); end", body, re.I):
            self._sleep(float(values[0]) if ":" in found[1] else float(found[1]))
            return
        if re.fullmatch(
            r"begin dbms_flashback\.enable_at_system_change_number\(:\w+\); end", body, re.I
        ):
            self._backend.snapshot(int(values[0]))
            self._flashback = int(values[0])
            return
        if re.fullmatch(r"begin dbms_flashback\.disable(\(\))?; end", body, re.I):
            self._flashback = None
            return
        if re.fullmatch(r"begin dbms_parallel_execute\.create_task\(:\w+\); end", body, re.I):
            self.commit()
            return
        if re.fullmatch(
            r"begin dbms_parallel_execute\.create_chunks_by_rowid\("
            r":\w+, :\w+, :\w+, false, :\w+\); end",
            body,
            re.I,
        ):
            self._chunk_by_rowid(*values)
            return
        if re.fullmatch(r"begin dbms_parallel_execute\.drop_task\(:\w+\); end", body, re.I):
            self._run(f"delete from ORA$CHUNKS where TASK_NAME = '{values[0]}'")
            self.commit()
            return
        raise OraError(
            6550, "line 1, column 7:\nPLS-00201: identifier must be declared (not in this double)"
        )

    def _sleep(self, seconds: float) -> None:
        ended = threading.Event()

        class Sleeper:
            def cancel(self) -> None:
                ended.set()

        self._running = Sleeper()
        cancelled = ended.wait(seconds)
        self._running = None
        if cancelled:
            raise OraError(1013, "user requested cancel of current operation")

    def _chunk_by_rowid(self, task: str, owner: str, table: str, blocks: Any) -> None:
        self.commit()
        try:
            last = self._last_row(owner, table)
        except self._java("java.sql.SQLException") as error:
            raise self._as_oracle(error) from None
        step = int(blocks) * dialect.PER_BLOCK
        for number, start in enumerate(range(0, (last or 0) + 1, step), 1):
            first, end = dialect.rowid_text(start), dialect.rowid_text(start + step - 1)
            self._run(
                "insert into ORA$CHUNKS values"
                f" ('{self.schema}', '{task}', {number}, 'UNASSIGNED', '{first}', '{end}')"
            )
        self.commit()

    def _fill_extents(self, sql: str) -> None:
        """Have DBA_EXTENTS say where tables lie: eight blocks an extent."""
        if "dba_extents" not in sql.lower():
            return
        statement = self._connection.createStatement()
        found = statement.executeQuery(
            "select OWNER, OBJECT_NAME from ALL_OBJECTS where OBJECT_TYPE = 'TABLE'"
            f" and OWNER = '{self.schema}'"
        )
        tables = []
        while found.next():
            tables.append((str(found.getString(1)), str(found.getString(2))))
        self._run(f"delete from ORA$EXTENTS where OWNER = '{self.schema}'")
        for owner, table in tables:
            blocks = (self._last_row(owner, table) or 0) // dialect.PER_BLOCK + 1
            for number in range(0, blocks, 8):
                self._run(
                    f"insert into ORA$EXTENTS values ('{owner}', '{table}', null, 'TABLE',"
                    f" {number // 8}, {dialect.FILE}, {dialect.FIRST_BLOCK + number}, 8)"
                )
        self.commit()

    def _last_row(self, owner: str, table: str) -> int | None:
        statement = self._connection.createStatement()
        result = statement.executeQuery(f'select max(_ROWID_) from "{owner}"."{table}"')
        result.next()
        return int(result.getLong(1))

    def _check_rights(self, sql: str, *, in_block: bool = False) -> None:
        for what in self._backend.denied.get(self._session.user, ()):
            if what == "AS OF":
                named = re.search(r"\bAS\s+OF\s+SCN\b", sql, re.I)
            else:
                named = re.search(rf"(?<![\w$]){re.escape(what)}(?![\w$])", sql, re.I)
            if not named:
                continue
            if in_block:
                raise OraError(
                    6550, f"line 1, column 7:\nPLS-00201: identifier '{what}' must be declared"
                )
            for pattern, code, text in _DENIALS:
                if pattern.match(what):
                    raise OraError(code, text.format(x=what))

    @contextmanager
    def _patience(self, locking: str | None) -> Any:
        """Wait for rows that others have locked as long as FOR UPDATE says."""
        if locking is None:
            yield
            return
        seconds = locking.removeprefix("WAIT ")
        self._run(f"SET LOCK_TIMEOUT {int(seconds) * 1000 if seconds.isdigit() else 1}")
        try:
            yield
        finally:
            self._run("SET LOCK_TIMEOUT 20000")

    def _look_in(self, connection: Any) -> None:
        self._run(f'SET SCHEMA "{self.schema}"', connection)
        self._run(f'SET SCHEMA_SEARCH_PATH "{self.schema}", PUBLIC', connection)

    def _run(self, sql: str, connection: Any = None) -> None:
        statement = (connection or self._connection).createStatement()
        statement.execute(sql)
        statement.close()

    def _as_oracle(self, error: Any) -> OraError:
        number = int(error.getErrorCode())
        text = str(error.getMessage()).split("; SQL statement")[0]
        code = _CODES.get(number, 0)
        if not code:
            return OraError(20999, f"the double does not know H2's {number}: {text}")
        found = re.search(r'"([^"]*)"', text)
        name = found[1] if found else "?"
        if code == 1:
            found = re.search(r'"?([\w.$]+?)(?:_INDEX_\w+)? ON', text)
            name = found[1] if found else name
        if code == 904:
            name = f'"{name}"'
        return OraError(code, _TEXT[code].format(x=name) if code in _TEXT else text)


_WHOLE_NUMBERS = {"BIGINT": 19, "INTEGER": 38, "SMALLINT": 38, "TINYINT": 38}


def _column(described: Any, at: int) -> tuple[Column, Any]:
    """Return how a column of a result is described to the client, and what reads its values."""
    name = str(described.getColumnLabel(at))
    kind = str(described.getColumnTypeName(at)).upper()
    digits, scale = int(described.getPrecision(at)), int(described.getScale(at))
    nullable = described.isNullable(at) != 0
    if name == "_ROWID_":
        return Column("ROWID", ROWID, nullable=nullable), _rowid

    def column(number: int, digits: int = 0, scale: int = 0, *, size: int = 0) -> Column:
        return Column(name, number, digits, scale, size, nullable)

    if kind == "NUMERIC" and digits <= 38:
        return column(NUMBER, digits, scale), _number
    if kind in {"NUMERIC", "DECFLOAT", "BIGINT"}:
        return column(NUMBER, 0, -127), _number
    if kind in _WHOLE_NUMBERS:
        return column(NUMBER, _WHOLE_NUMBERS[kind], 0), _number
    if kind == "DOUBLE PRECISION":
        return column(BDOUBLE), _double
    if kind == "REAL":
        return column(BFLOAT), _double
    if kind == "TIMESTAMP WITH TIME ZONE":
        return column(TSTZ, 0, scale), _moment
    if kind == "TIMESTAMP":
        return column(TS if scale else DATE, 0, scale), _moment
    if kind == "DATE":
        return column(DATE), _moment
    if kind == "INTERVAL DAY TO SECOND":
        return column(IDS, 9, 6), _days
    if kind == "INTERVAL YEAR TO MONTH":
        return column(IYM, digits), _months
    if kind == "CHARACTER LARGE OBJECT":
        return column(CLOB), _text
    if kind == "BINARY LARGE OBJECT":
        return column(BLOB), _bytes
    if kind == "BINARY VARYING":
        return column(RAW, size=min(digits, 2000)), _bytes
    if kind == "BOOLEAN":
        return column(NUMBER, 0, -127), _boolean
    if kind == "CHARACTER":
        return column(CHAR, size=min(digits, 2000)), _text
    if kind in {"CHARACTER VARYING", "NULL"}:
        return column(VARCHAR, size=min(digits or 1, 4000)), _text
    raise OraError(20999, f"the double does not know H2's type {kind}")
