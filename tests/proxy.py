"""A network between client and server that fails where a test says so. Speaks just enough of
PostgreSQL's protocol to know a COMMIT and a row of COPY when it passes.
"""

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class Proxy:
    """Listens on a local TCP port and forwards to the server's Unix socket.

    Args:
        url: the database behind it.
        lose_commit: called with the number (from 1) of each COMMIT that follows a claim, or of
            every COMMIT with `every_commit`. Says "reply" (the server commits, nobody hears of it),
            "request" (the server never hears of it) or None.
        cut_copy: called with the number of each COPY that the server sends; says after how many of
            its rows the connection is cut (at the latest before the word that it is complete), or
            None.
        stall: seconds that the server's word of a COPY's end is held back, its rows all sent.
        before_cancel: called before a request to cancel a statement is passed on.

    While `away` is set, nobody gets a new connection. `committing` is what the transaction has said
    whose COMMIT `lose_commit` is called with. `answers` counts how often the server said
    that it is ready for more.
    """

    def __init__(
        self,
        url,
        *,
        lose_commit=None,
        every_commit=False,
        cut_copy=None,
        stall=0.0,
        before_cancel=None,
    ):
        split = urlsplit(url)
        folder = Path(parse_qs(split.query)["host"][0])
        self._socket = str(folder / ".s.PGSQL.5432")
        self._lose_commit = lose_commit or (lambda _: None)
        self._every_commit = every_commit
        self._cut_copy = cut_copy or (lambda _: None)
        self.stall = stall
        self.before_cancel = before_cancel or (lambda: None)
        self.away = threading.Event()
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self.commits = self.copies = self.cuts = self.answers = 0
        self.committing = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = (
            f"postgresql://postgres@127.0.0.1:{port}{split.path}?sslmode=disable&gssencmode=disable"
        )
        self._open, self._threads = [], []
        self._accepting = threading.Thread(target=self._accept)

    def __enter__(self):
        self._accepting.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        for each in self._open:
            _close(each)
        for thread in self._threads:
            thread.join()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.away.is_set():
                client.close()
                continue
            # Each message goes at once, or every answer waits for the network's patience.
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._socket)
            link = _Link(self, client, server)
            self._open += [client, server]
            for work in (link.requests, link.replies):
                thread = threading.Thread(target=work)
                self._threads.append(thread)
                thread.start()

    def next_commit(self, said):
        with self._lock:
            self.commits += 1
            self.committing = said
            return self._note(self._lose_commit(self.commits))

    def next_answer(self):
        # A lock of its own: what a test says of a COMMIT may take its time.
        with self._counting:
            self.answers += 1

    def next_copy(self):
        with self._lock:
            self.copies += 1
            return self._note(self._cut_copy(self.copies))

    def _note(self, answer):
        self.cuts += answer is not None
        return answer


# By PostgreSQL's documentation, "Message Formats": CancelRequest.
_CANCEL = (80877102).to_bytes(4, "big")


class _Link:
    def __init__(self, proxy, client, server):
        self._proxy, self._client, self._server = proxy, client, server
        self._swallow = False
        self._claimed = False
        self._said = b""

    def requests(self):
        """Forward what the client says."""
        with suppress(OSError, EOFError):
            # The first message has no type.
            size = _take(self._client, 4)
            first = _take(self._client, int.from_bytes(size, "big") - 4)
            if first.startswith(_CANCEL):
                self._proxy.before_cancel()
            self._server.sendall(size + first)
            while True:
                kind, message = _message(self._client)
                if kind in b"QP" and b'"claim" (load_id' in message:
                    self._claimed = True
                said = _statement(kind, message)
                if said is not None and said.startswith(b"begin"):
                    self._said = b""
                self._said += said or b""
                if said == b"rollback":
                    self._claimed = False
                if said == b"commit" and self._counts():
                    self._claimed = False
                    lost = self._proxy.next_commit(self._said)
                    if lost == "request":
                        break
                    self._swallow = lost == "reply"
                self._server.sendall(message)
        self._cut()

    def _counts(self):
        return self._claimed or self._proxy._every_commit

    def replies(self):
        """Forward what the server says."""
        left = None
        with suppress(OSError, EOFError):
            while True:
                kind, message = _message(self._server)
                if self._swallow:
                    if kind == b"Z":  # ready for the next query: it has committed
                        break
                    continue
                if kind == b"Z":
                    self._proxy.next_answer()
                if kind == b"H":
                    left = self._proxy.next_copy()
                if left is not None:
                    if kind == b"c" or left == 0:
                        break
                    left -= kind == b"d"
                self._client.sendall(message)
                if kind == b"c" and self._proxy.stall:
                    time.sleep(self._proxy.stall)
        self._cut()

    def _cut(self):
        _close(self._client)
        _close(self._server)


def _close(end):
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def _take(end, size):
    parts = bytearray()
    while len(parts) < size:
        part = end.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _statement(kind, message):
    """Return what a message asks to run: a Query, or a Parse, which begins with a name."""
    said = message[5:].split(b"\0")
    return {b"Q": said[0], b"P": said[1] if len(said) > 1 else b""}.get(kind)


def _message(end):
    head = _take(end, 5)
    return head[:1], head + _take(end, int.from_bytes(head[1:], "big") - 4)
