"""What a client may ask for by one call: statements, rows, transactions, direct path, LOBs."""

import datetime as dt
import queue
import re
import select
import struct
import sys
import traceback
from contextlib import suppress
from typing import Any

from .conversation import Conversation
from .wire import (
    BDOUBLE,
    BFLOAT,
    BININT,
    BLOB,
    BOOL,
    CHARTYPES,
    CLOB,
    DATE,
    IDS,
    IYM,
    LONGRAW,
    NUMBER,
    RAW,
    ROWID,
    TS,
    TSLTZ,
    TSTZ,
    Bind,
    BreakError,
    ClosedError,
    Incoming,
    Months,
    OraError,
    Outgoing,
    dec_date,
    dec_number,
    enc_value,
    flip_double,
)


class ServerCursor:
    """A statement that a client has open."""

    def __init__(self, cid, sql):
        self.id, self.sql = cid, sql
        self.binds: list[Any] = []
        self.cols: Any = None
        self.rows: Any = None
        self.pieces: list[Any] = []
        self.lob_pending = self.done = False
        self.fetched = 0


class Session(Conversation):
    """One client, whose calls are answered one by one."""

    def loop(self):
        while True:
            r = Incoming(self, self.next_data())
            self.srv.calls += 1
            out = Outgoing()
            try:
                fn = self.piggybacks(r)
                if fn is None:
                    continue
                if fn == 9:  # log off
                    out.u8(9).ub(0).ub(0)
                    self.send_data(out.b)
                    return
                h = {
                    94: self.f_execute,
                    4: self.f_reexec,
                    78: self.f_reexec,
                    5: self.f_fetch,
                    14: self.f_commit,
                    15: self.f_rollback,
                    147: self.f_ping,
                    96: self.f_lob,
                    128: self.f_dp_prepare,
                    129: self.f_dp_load,
                    130: self.f_dp_op,
                }.get(fn)
                if h is None:
                    raise OraError(
                        3115, f"unsupported network datatype or representation (function {fn})"
                    )
                h(r, out, fn)
                if r.left():
                    rest = r.d[r.p : r.p + 40].hex()
                    print(f"oracle double: function {fn} left unread: {rest}", file=sys.stderr)
            except OraError as e:
                if e.code in (3113, 3114):
                    return  # drop the connection, as a killed server would
                out = Outgoing()
                self.w_error(out, e)
            except BreakError:
                continue
            except (ClosedError, ConnectionError):
                raise
            except Exception as e:
                traceback.print_exc()
                out = Outgoing()
                self.w_error(out, OraError(20998, f"double: {type(e).__name__}: {e}"))
            self.send_data(out.b)

    def piggybacks(self, r):
        while True:
            t = r.u8()
            fn = r.u8()
            r.u8()
            if t == 3:
                return fn
            if t == 26:
                return None
            assert t == 17, f"message type {t}"
            if fn == 105:
                r.u8()
                for _ in range(r.ub()):
                    self.close_cursor(r.ub())
            elif fn == 152:
                r.u8()
                self.db.set_schema(r.bl2().decode())
            elif fn == 135:
                self.p_end_to_end(r)
            elif fn == 176:
                r.ub()
            elif fn == 96:
                self.p_free_lobs(r)
            else:
                raise OraError(3115, f"piggyback {fn} not supported by the double")

    def p_end_to_end(self, r):
        """Take what the client calls itself: its identifier, module, action, info, operation."""
        r.u8()
        r.u8()
        r.ub()
        lengths = []
        for _ in range(3):
            r.u8()
            lengths.append(r.ub())
        r.u8()
        r.ub()
        r.u8()
        r.ub()
        r.u8()
        lengths.append(r.ub())
        r.u8()
        r.ub()
        r.u8()
        r.ub()
        r.u8()
        lengths.append(r.ub())
        said = [r.bl() if length else None for length in lengths]
        self.module, self.action = (
            old if new is None else new.decode()
            for old, new in zip((self.module, self.action), said[1:3], strict=True)
        )

    def p_free_lobs(self, r):
        r.u8()
        total = r.ub()
        r.u8()
        r.ub()
        r.ub()
        r.ub()
        r.u8()
        r.u8()
        r.u8()
        r.ub()
        r.u8()
        r.ub()
        r.ub()
        r.ub()
        r.u8()
        for _ in range(3):
            r.u8()
            r.ub()
        r.take(total)

    def close_cursor(self, cid):
        c = self.cursors.pop(cid, None)
        if c is not None and c.rows is not None:
            c.rows.close()

    def w_param(self, w, rowcounts=None):
        w.u8(8).ub(0).ub(0).ub(0).ub(0)
        if rowcounts is not None:
            w.ub(len(rowcounts))
            for n in rowcounts:
                w.ub(n)

    def w_column(self, w, c, pos=0):
        size = {
            NUMBER: 22,
            DATE: 7,
            TS: 11,
            TSTZ: 13,
            BDOUBLE: 8,
            BFLOAT: 4,
            IDS: 11,
            ROWID: 18,
            CLOB: 4000,
            BLOB: 4000,
        }.get(c.type) or max(c.size, 1) * (4 if c.type in CHARTYPES else 1)
        isch = c.type in CHARTYPES or c.type == CLOB
        w.u8(c.type).u8(0).u8(c.prec & 255).u8(c.scale & 255).ub(size).ub(0).ub(0).ub(0).ub(0).ub(
            873 if isch else 0
        ).u8(1 if isch else 0)
        w.ub(c.size if c.type in CHARTYPES else 0).ub(0).u8(1 if c.nullable else 0).u8(
            len(c.name)
        ).bl2(c.name).ub(0).ub(0).ub(pos).ub(0)

    def w_describe(self, w, cols):
        w.u8(16).u8(0).ub(0).ub(len(cols))
        if cols:
            w.u8(1)
        for i, c in enumerate(cols):
            self.w_column(w, c, i + 1)
        w.ub(0).ub(0).ub(0).ub(0).ub(0).ub(0)

    def w_rows(self, w, cur, n):
        """Write up to n rows; return whether the result has ended."""
        w.u8(6).u8(0).ub(0).ub(0).ub(n).ub(0).ub(0).ub(0)
        for row in self.call(lambda: cur.rows.fetch(n)) if n else []:
            w.u8(7)
            for v, c in zip(row, cur.cols, strict=True):
                enc_value(v, c, w)
            cur.fetched += 1
        return cur.rows.done

    # running a backend call while watching the socket for a break marker
    def call(self, fn):
        box: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def work():
            try:
                box.put((True, fn()))
            except BaseException as e:
                box.put((False, e))

        if not self.srv.watch:
            return fn()
        self.srv.pool_submit(work)
        while True:
            try:
                ok, v = box.get(timeout=0.005 if box.empty() else 0)
                break
            except queue.Empty:
                pass
            rd, _, _ = select.select([self.sock], [], [], 0.02)
            if rd and box.empty():
                t, _, b = self.read_packet()
                if t == 12 and b[2] != 2:
                    self.db.cancel()
                    with suppress(queue.Empty):
                        box.get(timeout=10)
                    self.handle_marker(b[2])
                    raise BreakError
        if ok:
            return v
        raise v

    def read_binds(self, r, n):
        out = []
        for _ in range(n):
            b = Bind()
            b.type = r.u8()
            b.flag = r.u8()
            r.u8()
            r.u8()
            b.size = r.ub()
            b.nelem = r.ub()
            r.ub()
            r.bl2()
            r.ub()
            r.ub()
            b.csfrm = r.u8()
            r.ub()
            r.ub()
            out.append(b)
        return out

    def read_value(self, r, b):
        t = b.type
        if t in (CLOB, BLOB):
            loc = r.bl2()
            return None if loc is None else self.lobs[loc][0]
        if t == BOOL:
            n = r.u8()
            if n == 253:
                r.u8()
                return None
            v = r.take(n)
            return v[0] == 1
        v = r.bl()
        if v is None:
            return None
        if t in CHARTYPES:
            return v.decode("utf-16-be" if b.csfrm == 2 else "utf-8")
        if t in (NUMBER, BININT):
            return dec_number(v)
        if t in (DATE, TS, TSTZ, TSLTZ):
            return dec_date(v)
        if t in (RAW, LONGRAW):
            return v
        if t == BDOUBLE:
            return struct.unpack(">d", flip_double(v, False))[0]
        if t == BFLOAT:
            return struct.unpack(">f", flip_double(v, False))[0]
        if t == IYM:
            (years,) = struct.unpack(">I", v[:4])
            return Months((years - 0x80000000) * 12 + v[4] - 60)
        if t == IDS:
            (d,) = struct.unpack(">I", v[:4])
            (f,) = struct.unpack(">I", v[7:11])
            return dt.timedelta(
                days=d - 0x80000000,
                hours=v[4] - 60,
                minutes=v[5] - 60,
                seconds=v[6] - 60,
                microseconds=(f - 0x80000000) // 1000,
            )
        raise OraError(932, f"inconsistent datatypes: bind type {t} not supported by the double")

    def read_rows(self, r, binds, n):
        rows = []
        for _ in range(n):
            assert r.u8() == 7, "expected row data"
            row = [None] * len(binds)
            late = []
            for i, b in enumerate(binds):
                if b.size > self.max_str and b.type not in (CLOB, BLOB):
                    late.append(i)
                    continue
                row[i] = self.read_value(r, b)
            for i in late:
                row[i] = self.read_value(r, binds[i])
            rows.append(row)
        return rows

    def f_execute(self, r, w, fn):
        opts = r.ub()
        cid = r.ub()
        has_sql = r.u8()
        r.ub()
        r.u8()
        r.ub()
        r.u8()
        r.u8()
        r.ub()
        niters = r.ub()
        r.ub()
        r.u8()
        nbinds = r.ub()
        for _ in range(5):
            r.u8()
        r.u8()
        ndef = r.ub()
        r.ub()
        r.u8()
        r.u8()
        r.u8()
        r.ub()
        r.u8()
        r.ub()
        r.ub()
        r.u8()
        r.ub()
        r.u8()
        r.u8()
        r.ub()
        r.u8()
        r.ub()
        r.u8()
        r.u8()
        r.ub()
        sql = r.bl().decode() if has_sql else None
        al = [r.ub() for _ in range(13)]
        if cid and cid in self.cursors:
            cur = self.cursors[cid]
            if sql:
                cur.sql = sql
        elif cid:
            raise OraError(1001, "invalid cursor")
        else:
            cur = ServerCursor(next(self.next_cid), sql)
            self.cursors[cur.id] = cur
        isq = bool(al[7])
        rows: list[list[Any]] = [[]]
        if ndef:
            for c, b in zip(cur.cols, self.read_binds(r, ndef), strict=True):
                c.wire = b.type
            cur.lob_pending = False
        elif nbinds:
            cur.binds = self.read_binds(r, nbinds)
            if re.search(r"\breturning\b.*\binto\b", cur.sql, re.I | re.S):
                raise OraError(20997, "double: RETURNING INTO is not supported")
            nrow = 1 if isq else al[1]
            rows = self.read_rows(r, cur.binds, nrow) if opts & 0x08 and (opts & 0x20) else [[]]
        elif not isq and al[1] > 1:
            rows = [[]] * al[1]
        try:
            if isq:
                if ndef and not opts & 0x20:
                    self.w_param(w)
                else:
                    self.run_query(
                        w,
                        cur,
                        rows[0],
                        describe=True,
                        nrows=niters if opts & 0x40 else 0,
                        describe_only=bool(opts & 0x20000) and not opts & 0x20,
                    )
                self.finish_query(w, cur)
            elif opts & 0x20:
                self.run_dml(
                    w, cur, rows, bool(opts & 0x80000), bool(al[9] & 0x4000), bool(opts & 0x100)
                )
            else:
                self.w_param(w)
                self.w_error(w, cursor=cur.id)
        except OraError:
            if not cid:
                self.close_cursor(cur.id)
            raise

    def run_query(self, w, cur, binds, describe, nrows, describe_only=False):
        if cur.rows is not None:
            cur.rows.close()
            cur.rows = None
        cur.fetched = 0
        old = cur.cols
        cur.cols, cur.rows = self.call(
            lambda: self.db.query(cur.sql, binds, cur.binds, describe_only)
        )
        for c in cur.cols:
            c.sess = self
        if old and [(c.name, c.type) for c in old] == [(c.name, c.type) for c in cur.cols]:
            for a, b in zip(old, cur.cols, strict=True):
                b.wire = a.wire
        elif not describe:
            describe = True
        if describe:
            self.w_describe(w, cur.cols)
        haslob = any(c.type in (CLOB, BLOB) for c in cur.cols)
        cur.done = False
        if nrows and not (haslob and describe and not old) and not describe_only:
            cur.done = self.w_rows(w, cur, nrows)
        self.w_param(w)

    def finish_query(self, w, cur):
        done = getattr(cur, "done", False)
        self.w_error(
            w, OraError(1403, "no data found") if done else None, cursor=cur.id, rows=cur.fetched
        )

    def run_dml(self, w, cur, rows, batcherrors, rowcounts, commit):
        counts, errs = self.call(lambda: self.db.dml(cur.sql, rows, cur.binds, batcherrors))
        if commit and not errs:
            self.db.commit()
            self.txn = False
        self.w_param(w, counts if rowcounts else None)
        if errs and batcherrors:
            self.w_error(
                w,
                OraError(24381, "error(s) in array DML"),
                cursor=cur.id,
                rows=sum(counts),
                batch=errs,
            )
        else:
            self.w_error(w, cursor=cur.id, rows=sum(counts))

    def f_reexec(self, r, w, fn):
        cid = r.ub()
        n = r.ub()
        r.ub()
        o2 = r.ub()
        cur = self.cursors.get(cid)
        if cur is None:
            raise OraError(1001, "invalid cursor")
        isq = fn == 78 or self.db.is_query(cur.sql)
        rows: list[list[Any]] = [[]] * (1 if isq else n)
        if cur.binds:
            rows = self.read_rows(r, cur.binds, 1 if isq else n)
        if isq:
            self.run_query(w, cur, rows[0], False, n)
            self.finish_query(w, cur)
        else:
            self.run_dml(w, cur, rows, False, False, bool(o2 & 1))

    def f_fetch(self, r, w, fn):
        cur = self.cursors.get(r.ub())
        n = r.ub()
        if cur is None or cur.rows is None:
            raise OraError(1001, "invalid cursor")
        self.srv.fault("fetch", cur.sql, self)
        cur.done = self.w_rows(w, cur, n)
        self.finish_query(w, cur)

    def f_commit(self, r, w, fn):
        self.srv.fault("commit", self.changed, self)
        self.db.commit()
        self.txn = False
        w.u8(9).ub(0).ub(0)

    def f_rollback(self, r, w, fn):
        self.db.rollback()
        self.txn = False
        w.u8(9).ub(0).ub(0)

    def f_ping(self, r, w, fn):
        w.u8(9).ub(2 if self.txn else 0).ub(0)

    # direct path load
    def f_dp_prepare(self, r, w, fn):
        r.ub()
        r.u8()
        nkw = r.ub()
        r.u8()
        nin = r.ub()
        for _ in range(6):
            r.u8()
        kw = []
        for _ in range(nkw):
            r.ub()
            r.ub()
            v = r.bl()
            kw.append((r.ub(), (v or b"").decode()))
        for _ in range(nin):
            r.ub()
        schema = next(v for k, v in kw if k == 3)
        table = next(v for k, v in kw if k == 1)
        names = [v for k, v in kw if k == 4]

        def fold(x):
            return x.strip('"') if x.startswith('"') else x.upper()

        schema, table, names = fold(schema), fold(table), [fold(x) for x in names]

        def q(x):
            return '"' + x + '"'

        cols, rows = self.db.query(
            f"SELECT {', '.join(map(q, names))} FROM {q(schema)}.{q(table)} WHERE 1=0", [], []
        )
        rows.close()
        self.db.commit()
        self.txn = False
        listed, marks = ", ".join(map(q, names)), ", ".join(f":{at}" for at in range(len(names)))
        insert = f"INSERT INTO {q(schema)}.{q(table)} ({listed}) VALUES ({marks})"
        cur = ServerCursor(next(self.next_cid), insert)
        cur.cols = cols
        cur.pieces = []
        self.cursors[cur.id] = cur
        w.u8(8).ub(len(cols))
        for i, c in enumerate(cols):
            self.w_column(w, c, i + 1)
        w.ub(0).ub(4).ub(0).ub(0).ub(0).ub(cur.id)
        self.w_error(w)

    def f_dp_load(self, r, w, fn):
        cur = self.cursors[r.ub()]
        r.u8()
        total = r.ub()
        r.ub()
        r.u8()
        r.ub()
        r.u8()
        r.u8()
        b = bytes(r.take(total))
        p = 0
        rows = []
        segs: list[Any] = []
        parts: list[bytes] = []
        self.srv.fault("direct", cur.sql, self)
        while p < total:
            fl = b[p]
            p += 1
            if fl & 0x20:
                p += 2
            nseg = b[p]
            p += 1
            for k in range(nseg):
                n = b[p]
                p += 1
                if n == 255:
                    segs.append(None)
                elif n == 254:
                    n = b[p] << 8 | b[p + 1]
                    p += 2
                    parts.append(b[p : p + n])
                    p += n
                    if k == nseg - 1 and fl & 1:
                        continue  # goes on in the next piece
                    segs.append(b"".join(parts))
                    parts = []
                else:
                    segs.append(b[p : p + n])
                    p += n
            if fl & 4:
                rows.append([self.dp_value(v, c) for v, c in zip(segs, cur.cols, strict=True)])
                segs = []
        try:
            self.call(lambda: self.db.dml(cur.sql, rows, [], False))
        except OraError:
            self.db.rollback()
            self.txn = False
            raise
        w.u8(8).ub(0)
        self.w_error(w, rows=len(rows))

    def dp_value(self, v, c):
        if v is None or v == b"":
            return None
        t = c.type
        if t in CHARTYPES:
            return v.decode()
        if t == CLOB:
            return v.decode("utf-16-be")
        if t == NUMBER:
            return dec_number(v)
        if t in (DATE, TS, TSTZ):
            return dec_date(v)
        if t == BDOUBLE:
            return struct.unpack(">d", flip_double(v, False))[0]
        if t == BFLOAT:
            return struct.unpack(">f", flip_double(v, False))[0]
        return v

    def f_dp_op(self, r, w, fn):
        op = r.ub()
        cid = r.ub()
        r.u8()
        r.ub()
        r.u8()
        r.u8()
        if op == 2:
            self.db.commit()
        else:
            self.db.rollback()
        self.txn = False
        self.close_cursor(cid)
        w.u8(8).ub(0)
        self.w_error(w)

    # LOBs: the locator is an opaque 40 bytes key
    def new_lob(self, v, t):
        loc = struct.pack(">H", 38) + struct.pack(">Q", next(self.next_lob)) + bytes(30)
        self.lobs[loc] = [v, t]
        return loc

    def f_lob(self, r, w, fn):
        r.u8()
        sl = r.ub()
        r.u8()
        r.ub()
        r.ub()
        r.ub()
        r.u8()
        r.u8()
        r.u8()
        op = r.ub()
        r.u8()
        r.u8()
        so = r.ub()
        do = r.ub()
        p_amt = r.u8()
        r.take(6)
        loc = bytes(r.take(sl)) if sl else None
        if op == 0x110:
            r.ub()
        data: Any = None
        amt = 0
        if r.left() and r.d[r.p] == 14 and op == 0x40:
            r.u8()
            data = r.bl()
        if p_amt:
            amt = r.ub()
        ent: Any = self.lobs.setdefault(loc, ["", CLOB]) if loc and op != 0x110 else None
        if op == 2:
            part = ent[0][so - 1 : so - 1 + amt]
            w.u8(14).bl(
                part.encode("utf-16-be" if loc and loc[6] & 0x80 else "utf-8")
                if isinstance(part, str)
                else part
            )
            amt = len(part)
        elif op == 1:
            amt = len(ent[0])
        elif op == 0x4000:
            amt = 8060
        elif op == 0x110:
            t = BLOB if do == BLOB else CLOB
            loc = self.new_lob(b"" if t == BLOB else "", t)
            w.u8(8).raw(loc).ub(873).u8(0)
            self.w_error(w)
            return
        elif op == 0x40:
            if ent[1] == CLOB:
                s = data.decode("utf-16-be" if loc and loc[6] & 0x80 else "utf-8")
                ent[0] = ent[0][: so - 1] + s + ent[0][so - 1 + len(s) :]
            else:
                ent[0] = ent[0][: so - 1] + data + ent[0][so - 1 + len(data) :]
        elif op == 0x111:
            self.lobs.pop(loc, None)
        w.u8(8).raw(loc)
        if p_amt:
            w.ub(amt)
        self.w_error(w)
