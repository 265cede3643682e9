"""The wire: how messages, numbers, dates and texts are written in Oracle's TNS and TTC protocols.

Written from the shape of the messages that python-oracledb reads and writes; none of its code is
copied.
"""

import datetime as dt
import decimal
import struct

D = decimal.Decimal
# The numbers of data types.
VARCHAR, NUMBER, BININT, LONG, ROWID, DATE, RAW, LONGRAW = 1, 2, 3, 8, 11, 12, 23, 24
CHAR, BFLOAT, BDOUBLE, CURSOR, OBJECT, CLOB, BLOB = 96, 100, 101, 102, 109, 112, 113
TS, TSTZ, IYM, IDS, UROWID, TSLTZ, BOOL = 180, 181, 182, 183, 208, 231, 252
CHARTYPES = (VARCHAR, CHAR, LONG)

FIELD_VERSION = 12  # 19.1
# Below 318: no out-of-band check; below 319: no fast authentication, no end-of-response.
PROTO_VERSION = 317
SDU = 8192


class OraError(Exception):
    """An error as Oracle numbers it."""

    def __init__(self, code, text, pos=0, rows=0):
        self.code, self.text, self.pos, self.rows = code, f"ORA-{code:05d}: {text}", pos, rows
        super().__init__(self.text)


class ClosedError(Exception):
    """The client has gone, or is to be thrown out."""


class BreakError(Exception):
    """The client sent a break marker while a call was running."""


class Months(int):
    """An INTERVAL YEAR TO MONTH."""


class Outgoing:
    """A message being written."""

    __slots__ = ("b",)

    def __init__(self):
        self.b = bytearray()

    def u8(self, v):
        self.b.append(v & 255)
        return self

    def u16(self, v):
        self.b += struct.pack(">H", v)
        return self

    def raw(self, v):
        self.b += v
        return self

    def ub(self, v):  # length-prefixed big-endian unsigned
        if v == 0:
            self.b.append(0)
        else:
            n = (v.bit_length() + 7) // 8
            self.b.append(n)
            self.b += v.to_bytes(n, "big")
        return self

    def sb(self, v):
        if v < 0:
            n = ((-v).bit_length() + 7) // 8
            self.b.append(n | 0x80)
            self.b += (-v).to_bytes(n, "big")
            return self
        return self.ub(v)

    def bl(self, v):  # bytes with a length byte (or chunked)
        if v is None:
            self.b.append(0)
        elif len(v) <= 252:
            self.b.append(len(v))
            self.b += v
        else:
            self.b.append(254)
            for i in range(0, len(v), 32767):
                c = v[i : i + 32767]
                self.ub(len(c))
                self.b += c
            self.b.append(0)
        return self

    def bl2(self, v):  # ub4 length, then the bytes with their own length
        if isinstance(v, str):
            v = v.encode()
        if not v:
            self.b.append(0)
        else:
            self.ub(len(v))
            self.bl(v)
        return self


class Incoming:
    """A message being read, with as many more packets as it takes."""

    def __init__(self, sess, data):
        self.s, self.d, self.p = sess, data, 0

    def take(self, n):
        while len(self.d) - self.p < n:
            self.d = self.d[self.p :] + self.s.next_data()
            self.p = 0
        v = self.d[self.p : self.p + n]
        self.p += n
        return v

    def left(self):
        return len(self.d) - self.p

    def u8(self):
        return self.take(1)[0]

    def u16(self):
        return struct.unpack(">H", self.take(2))[0]

    def ub(self):
        n = self.u8()
        return int.from_bytes(self.take(n), "big") if n else 0

    def bl(self):
        n = self.u8()
        if n in (0, 255):
            return None
        if n != 254:
            return bytes(self.take(n))
        out = bytearray()
        while m := self.ub():
            out += self.take(m)
        return bytes(out)

    def bl2(self):
        return self.bl() if self.ub() else None


def enc_number(v):
    v = v if isinstance(v, D) else D(str(v))
    sign, digits, exp = v.as_tuple()
    digits = list(digits)
    while digits and digits[-1] == 0:
        digits.pop()
        exp += 1
    if not digits:
        return b"\x80"
    if exp % 2:
        digits.append(0)
        exp -= 1  # make the exponent even
    if len(digits) % 2:
        digits.insert(0, 0)
    pairs = [digits[i] * 10 + digits[i + 1] for i in range(0, len(digits), 2)]
    while pairs and pairs[-1] == 0:
        pairs.pop()
        exp += 2
    while pairs[0] == 0:
        pairs.pop(0)
    e = len(pairs) + exp // 2 - 1  # base-100 exponent of the first pair
    if len(pairs) > 20:  # 40 digits at most
        pairs = pairs[:20]
    if not sign:
        return bytes([193 + e]) + bytes(p + 1 for p in pairs)
    return (
        bytes([255 - (193 + e)])
        + bytes(101 - p for p in pairs)
        + (b"\x66" if len(pairs) < 20 else b"")
    )


def dec_number(b):
    if b == b"\x80":
        return D(0)
    if b[0] & 0x80:
        e, pairs, s = b[0] - 193, [x - 1 for x in b[1:]], 0
    else:
        body = b[1:-1] if b[-1] == 102 else b[1:]
        e, pairs, s = 62 - b[0], [101 - x for x in body], 1
    digits = tuple(d for p in pairs for d in divmod(p, 10))
    return D((s, digits, (e - len(pairs) + 1) * 2))


def enc_date(v, kind):
    if not isinstance(v, dt.datetime):
        v = dt.datetime(v.year, v.month, v.day)
    off = dt.timedelta(0)
    if kind == TSTZ:
        off = v.utcoffset() or dt.timedelta(0)
        v = (v - off).replace(tzinfo=None)
    b = bytes(
        [
            v.year // 100 + 100,
            v.year % 100 + 100,
            v.month,
            v.day,
            v.hour + 1,
            v.minute + 1,
            v.second + 1,
        ]
    )
    if kind == DATE:
        return b
    b += struct.pack(">I", v.microsecond * 1000)
    if kind == TSTZ:
        m = int(off.total_seconds() // 60)
        h, mm = (abs(m) // 60, abs(m) % 60)
        sg = -1 if m < 0 else 1
        b += bytes([20 + sg * h, 60 + sg * mm])
    return b


def dec_date(b):
    us = struct.unpack(">I", b[7:11])[0] // 1000 if len(b) >= 11 else 0
    v = dt.datetime((b[0] - 100) * 100 + b[1] - 100, b[2], b[3], b[4] - 1, b[5] - 1, b[6] - 1, us)
    if len(b) >= 13 and b[11]:
        off = dt.timedelta(hours=b[11] - 20, minutes=b[12] - 60)
        v = (v + off).replace(tzinfo=dt.timezone(off))
    return v


def flip_double(b, enc):
    neg = bool(b[0] & 0x80) if enc else not b[0] & 0x80
    return bytes(255 - x for x in b) if neg else bytes([b[0] ^ 0x80]) + b[1:]


def enc_value(v, col, w):
    """Write one value of a row."""
    t = col.wire
    if t in (CLOB, BLOB):
        if v is None:
            w.u8(0)
        else:
            loc = col.sess.new_lob(v, t)
            w.ub(len(loc))
            w.ub(len(v))
            w.ub(8060)
            w.bl(loc)
        return
    if t == ROWID:
        if v is None:
            w.u8(0)
        else:
            obj, fil, blk, row = v
            w.u8(13)
            w.ub(obj)
            w.ub(fil)
            w.u8(0)
            w.ub(blk)
            w.ub(row)
        return
    if v is None:
        w.u8(0)
    elif t in CHARTYPES:
        w.bl(v.encode() if isinstance(v, str) else str(v).encode())
    elif t in (NUMBER, BININT):
        w.bl(enc_number(v))
    elif t in (DATE, TS, TSTZ, TSLTZ):
        w.bl(enc_date(v, t))
    elif t == BDOUBLE:
        w.bl(flip_double(struct.pack(">d", float(v)), True))
    elif t == BFLOAT:
        w.bl(flip_double(struct.pack(">f", float(v)), True))
    elif t in (RAW, LONGRAW):
        w.bl(bytes(v))
    elif t == BOOL:
        w.bl(b"\x01\x01" if v else b"\x00")
    elif t == IDS:
        s = v.seconds
        w.bl(
            struct.pack(">I", v.days + 0x80000000)
            + bytes([s // 3600 + 60, s // 60 % 60 + 60, s % 60 + 60])
            + struct.pack(">I", v.microseconds * 1000 + 0x80000000)
        )
    elif t == IYM:
        years, months = divmod(abs(v), 12)
        sign = -1 if v < 0 else 1
        w.bl(struct.pack(">I", sign * years + 0x80000000) + bytes([sign * months + 60]))
    else:
        raise OraError(932, f"inconsistent datatypes: type {t} not known to the double")
    if t in (LONG, LONGRAW):
        w.u8(0).u8(0)  # null indicator, return code


class Bind:
    """How a value that is bound is sent."""

    csfrm: int
    flag: int
    nelem: int
    size: int
    type: int


class Column:
    """How a column is described, and sent."""

    __slots__ = ("name", "nullable", "prec", "scale", "sess", "size", "type", "wire")

    def __init__(self, name, type, prec=0, scale=0, size=0, nullable=True):
        self.name, self.prec, self.scale, self.size, self.nullable = (
            name,
            prec,
            scale,
            size,
            nullable,
        )
        self.type = self.wire = type
        self.sess = None
