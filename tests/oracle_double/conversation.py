"""One client's connection: packets, breaks, the handshake, the log-on of a 19c server."""

import hashlib
import itertools
import re
import secrets
import socket
import struct
import threading
import traceback
from contextlib import suppress
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from .wire import (
    FIELD_VERSION,
    PROTO_VERSION,
    SDU,
    ClosedError,
    Incoming,
    OraError,
    Outgoing,
)


def aes(key, data, enc=True):
    c = Cipher(algorithms.AES(key), modes.CBC(bytes(16)))
    x = c.encryptor() if enc else c.decryptor()
    return x.update(data) + x.finalize()


def pbk(pw, salt, n, it):
    return hashlib.pbkdf2_hmac("sha512", pw, salt, it, n)


class Conversation(threading.Thread):
    """A connection with a client, and the thread that it has."""

    ids = itertools.count(11)

    def __init__(self, srv, sock):
        super().__init__(daemon=True)
        self.srv, self.sock, self.sid = srv, sock, next(self.ids)
        self.big = False
        self.out_seq = 0
        self.cursors: dict[int, Any] = {}
        self.next_cid = itertools.count(1)
        self.lobs: dict[Any, list[Any]] = {}
        self.next_lob = itertools.count(1)
        self.db: Any = None
        self.user: Any = None
        self.module: str | None = None
        self.action: str | None = None
        self.changed = ""  # what was run last that gives no rows
        self.rbuf = b""
        self.txn = False
        self.max_str = 4000
        self.closed = False

    def read_exact(self, n):
        while len(self.rbuf) < n:
            d = self.sock.recv(65536)
            if not d:
                raise ClosedError
            self.rbuf += d
        v, self.rbuf = self.rbuf[:n], self.rbuf[n:]
        return v

    def read_packet(self):
        h = self.read_exact(8)
        n = struct.unpack(">I", h[:4])[0] if self.big else struct.unpack(">H", h[:2])[0]
        return h[4], h[5], self.read_exact(n - 8)

    def send_packet(self, ptype, body, flags=0):
        n = len(body) + 8
        head = struct.pack(">I", n) if self.big else struct.pack(">HH", n, 0)
        self.sock.sendall(head + bytes([ptype, flags, 0, 0]) + body)

    def send_data(self, b):
        step = SDU - 10
        for i in range(0, max(len(b), 1), step):
            self.send_packet(6, b"\0\0" + b[i : i + step])

    def next_data(self):
        while True:
            t, _, b = self.read_packet()
            if t == 6:
                return b[2:]
            if t == 12:
                self.handle_marker(b[2])
                continue
            raise ClosedError

    def handle_marker(self, kind):
        # break/interrupt outside a call: acknowledge with a reset exchange and ORA-01013
        if kind == 2:
            return
        self.send_packet(12, b"\1\0\1")
        while True:
            t, _, b = self.read_packet()
            if t == 12 and b[2] == 2:
                break
        self.send_packet(12, b"\1\0\2")
        w = Outgoing()
        self.w_error(w, OraError(1013, "user requested cancel of current operation"))
        self.send_data(w.b)

    def run(self):
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.handshake():
                self.loop()
        except (ClosedError, ConnectionError, OSError):
            pass
        except Exception:
            traceback.print_exc()
        finally:
            self.closed = True
            with suppress(OSError):
                self.sock.close()
            if self.db:
                self.db.close()
            self.srv.sessions.discard(self)

    def handshake(self):
        t, _, b = self.read_packet()
        if t != 1:
            return False
        clen, coff = struct.unpack(">HH", b[16:20])
        cs = b[coff - 8 :] if len(b) > coff - 8 else self.read_packet()[2][2:]
        cs = cs[:clen].decode()
        m = re.search(r"\((?:SERVICE_NAME|SID)=([^)]*)\)", cs, re.I)
        self.service = m.group(1) if m else ""
        err = self.srv.refuse(self.service)
        if err:
            stack = f"(ERROR_STACK=(ERROR=(CODE={err})(EMFI=4)))"
            msg = f"(DESCRIPTION=(TMP=)(VSNNUM=318767104)(ERR={err}){stack})".encode()
            self.send_packet(4, b"\x22\0" + struct.pack(">H", len(msg)) + msg)
            return False
        acc = struct.pack(">HHHHHHHH", PROTO_VERSION, 0, SDU, 32767, 1, 0, 0, 0)[:4]
        # version, options, 10 unread bytes, flags1, 9 unread, sdu, (5 unread, flags2)
        acc += (
            struct.pack(">HHHHH", SDU, 65535, 1, 0, 45)
            + bytes([0x41])
            + bytes(9)
            + struct.pack(">I", SDU)
            + bytes(5)
            + struct.pack(">I", 0)
        )
        self.send_packet(2, acc)
        self.big = True
        r = Incoming(self, self.next_data())
        assert r.u8() == 1, "expected protocol message"
        ccaps = bytearray(55)
        ccaps[7] = FIELD_VERSION
        ccaps[15] = 0x29
        ccaps[23] = 0xCF
        ccaps[27] = 1
        ccaps[37] = 0x38
        ccaps[40] = 0x04
        ccaps[42] = 5
        rcaps = bytearray(13)
        rcaps[0] = 2
        rcaps[6] = 0x01 | (0x04 if self.srv.extended else 0)
        self.max_str = 32767 if self.srv.extended else 4000
        fdo = bytearray(11)
        fdo[9:11] = struct.pack(">H", 2000)
        w = (
            Outgoing()
            .u8(1)
            .u8(6)
            .u8(0)
            .raw(b"x86_64/Linux 2.4.xx\0")
            .raw(struct.pack("<H", 873))
            .u8(1)
            .raw(struct.pack("<H", 0))
        )
        w.raw(struct.pack(">H", len(fdo))).raw(fdo).bl(bytes(ccaps)).bl(bytes(rcaps))
        self.send_data(w.b)
        r = Incoming(self, self.next_data())
        assert r.u8() == 2, "expected data types message"
        r.take(5)
        r.bl()
        r.bl()
        while r.u16():
            if r.u16():
                r.take(4)
        self.send_data(b"\x02\0\0")
        return self.logon()

    def read_kv(self, r):
        has_user = r.u8()
        r.ub()
        r.ub()
        r.u8()
        n = r.ub()
        r.u8()
        r.u8()
        user = r.bl() if has_user else b""
        kv = {}
        for _ in range(n):
            k = (r.bl2() or b"").decode()
            v = (r.bl2() or b"").decode()
            r.ub()
            kv[k] = v
        return user.decode(), kv

    def w_params(self, kv):
        w = Outgoing().u8(8).ub(len(kv))
        for k, v in kv.items():
            if isinstance(v, tuple):
                w.bl2(k).bl2(v[0]).ub(v[1])
            else:
                w.bl2(k).bl2(v).ub(0)
        return w

    def logon(self):
        r = Incoming(self, self.next_data())
        r.u8()
        fn = r.u8()
        r.u8()
        assert fn == 118, fn
        user, _ = self.read_kv(r)
        self.user = user.strip('"').upper() if not user.startswith('"') else user.strip('"')
        self.srv.logons.append(self.user)
        pw = self.srv.users.get(self.user)
        secret = (pw if pw is not None else secrets.token_hex(8)).encode()
        salt, csk = secrets.token_bytes(16), secrets.token_bytes(16)
        pkey = pbk(secret, salt + b"AUTH_PBKDF2_SPEEDY_KEY", 64, 4096)
        phash = hashlib.sha512(pkey + salt).digest()[:32]
        part_a = secrets.token_bytes(32)
        w = self.w_params(
            {
                "AUTH_SESSKEY": aes(phash, part_a).hex().upper(),
                "AUTH_VFR_DATA": (salt.hex().upper(), 0x4815),
                "AUTH_PBKDF2_CSK_SALT": csk.hex().upper(),
                "AUTH_PBKDF2_VGEN_COUNT": "4096",
                "AUTH_PBKDF2_SDER_COUNT": "3",
                "AUTH_GLOBALLY_UNIQUE_DBID\0": secrets.token_hex(16).upper(),
            }
        )
        w.u8(9).ub(0).ub(0)
        self.send_data(w.b)
        r = Incoming(self, self.next_data())
        r.u8()
        fn = r.u8()
        r.u8()
        assert fn == 115, fn
        _, kv = self.read_kv(r)
        ok = False
        try:
            part_b = aes(phash, bytes.fromhex(kv["AUTH_SESSKEY"]), False)
            key = pbk((part_b[:32] + part_a).hex().upper().encode(), csk, 32, 3)
            plain = aes(key, bytes.fromhex(kv["AUTH_PASSWORD"]), False)
            ok = pw is not None and plain[16 : -plain[-1]] == secret
        except (KeyError, ValueError, IndexError):
            pass
        if not ok:
            w = Outgoing()
            self.w_error(w, OraError(1017, "invalid username/password; logon denied"))
            self.send_data(w.b)
            return False
        self.db = self.srv.backend.connect(self)
        resp = aes(key, secrets.token_bytes(16) + b"SERVER_TO_CLIENT" + bytes([16]) * 16)
        w = self.w_params(
            {
                "AUTH_VERSION_NO": str(19 << 24 | 3 << 16),
                "AUTH_SESSION_ID": str(self.sid),
                "AUTH_SERIAL_NUM": str(self.sid * 7 % 60000),
                "AUTH_SC_DB_DOMAIN": "",
                "AUTH_SC_DBUNIQUE_NAME": "FAKEDB",
                "AUTH_SC_SERVICE_NAME": self.service,
                "AUTH_INSTANCENAME": "FAKE",
                "AUTH_MAX_OPEN_CURSORS": "300",
                "AUTH_MAX_IDEN_LENGTH": "128",
                "AUTH_SVR_RESPONSE": resp.hex().upper(),
            }
        )
        w.u8(9).ub(0).ub(0)
        self.send_data(w.b)
        return True

    def w_error(self, w, err=None, cursor=0, rows=0, batch=None, rowid=None):
        code = err.code if err else 0
        w.u8(4).ub(2 if self.txn else 0).ub(0).ub(0).ub(code & 0xFFFF).ub(0).ub(0).ub(cursor).sb(
            err.pos if err else 0
        )
        for _ in range(5):
            w.u8(0)
        w.u8(0)
        o = rowid or (0, 0, 0, 0)
        w.ub(o[0]).ub(o[1]).u8(0).ub(o[2]).ub(o[3])
        w.ub(0).u8(0).u8(0).ub(0).ub(0).ub(0)
        b = batch or []
        w.ub(len(b))
        if b:
            w.u8(1)
            for _, e in b:
                w.ub(e.code)
        w.ub(len(b))
        if b:
            w.u8(1)
            for off, _ in b:
                w.ub(off)
        w.ub(len(b))
        if b:
            w.u8(1)
            for _, e in b:
                m = e.text.encode()[:240] + b"\n"
                w.ub(len(m)).bl(m).raw(b"\0\0")
        w.ub(code).ub(err.rows if err and err.rows else rows)
        if code:
            w.bl((err.text + "\n").encode())

    def loop(self):
        """Answer calls until the client leaves."""
        raise NotImplementedError
