"""The listener, the faults that it was told to make, and the port on which it is told."""

import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from .session import Session
from .wire import ClosedError, OraError


class Server:
    """One database's listener."""

    def __init__(self, backend, *, host="127.0.0.1", port=0, extended=False):
        self.backend, self.extended = backend, extended
        self.users: dict[str, str] = {}
        self.sessions: set[Session] = set()
        self.calls = 0
        self.watch = True
        self.faults: list[dict[str, Any]] = []
        self.refusals: list[dict[str, Any]] = []
        self.logons: list[str] = []
        self.statements: list[tuple[str, str]] = []
        self.listening = socket.create_server((host, port))
        self.port = self.listening.getsockname()[1]
        self._threads = ThreadPoolExecutor(64)
        backend.server = self

    def pool_submit(self, work):
        """Run a call while its session watches for a break."""
        self._threads.submit(work)

    def refuse(self, service):
        """Return the code with which the listener refuses a client, or 0."""
        for refusal in self.refusals:
            if refusal["times"] > 0 and refusal.get("service", service) == service:
                refusal["times"] -= 1
                return refusal["code"]
        return 0

    def fault(self, where, sql, session):
        """Make the fault that somebody asked for at this point, if any."""
        if where in {"query", "dml"}:
            self.statements.append((session.user, sql))
        for fault in self.faults:
            if fault["where"] != where or fault["times"] <= 0:
                continue
            if fault.get("user") not in {None, session.user}:
                continue
            if not re.search(fault.get("match", ""), sql, re.I | re.S):
                continue
            if fault.get("after", 0) > 0:
                fault["after"] -= 1
                continue
            fault["times"] -= 1
            time.sleep(fault.get("delay", 0))
            if fault.get("done") and where == "commit":
                session.db.commit()  # and only then is the reply lost
            if fault.get("code") == "drop":
                session.sock.shutdown(socket.SHUT_RDWR)
                raise ClosedError
            if fault.get("code"):
                raise OraError(fault["code"], fault.get("text", "injected fault"))

    def serve(self):
        """Take clients until the listener is closed."""
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            session = Session(self, client)
            self.sessions.add(session)
            session.start()

    def start(self):
        """Take clients in a thread."""
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def control(self, port=0):
        """Take orders in a thread, one line of JSON each; return the port."""
        listening = socket.create_server(("127.0.0.1", port))

        def serve():
            while True:
                client, _ = listening.accept()
                threading.Thread(target=self._take_orders, args=(client,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        return listening.getsockname()[1]

    def _take_orders(self, client):
        with client, client.makefile("rw") as lines:
            for line in lines:
                order = json.loads(line)
                try:
                    answer = getattr(self, f"do_{order.pop('do')}")(**order)
                    lines.write(json.dumps({"answer": answer}) + "\n")
                except Exception as error:
                    lines.write(json.dumps({"error": repr(error)}) + "\n")
                lines.flush()

    # The orders. Each is a line such as {"do": "fault", "where": "commit", "code": "drop"}.

    def do_user(self, name, password):
        """Make a user, whose schema is empty."""
        self.users[name.upper()] = password

    def do_fault(self, where, **fault):
        """Make a fault: `where` is query, dml, fetch, commit or direct.

        `code` is an ORA number, or "drop" for the socket; `match` a pattern in the SQL; `after` so
        many times nothing happens; `times` it happens; `delay` seconds; `user` whose session;
        `done` says that a COMMIT is done before its reply is lost.
        """
        self.faults.append({"where": where, "times": 1, **fault})

    def do_refuse(self, code, times=1):
        """Have the listener refuse the next clients."""
        self.refusals.append({"code": code, "times": times})

    def do_deny(self, user, what):
        """Take rights away: names such as DBA_EXTENTS or DBMS_FLASHBACK, or "AS OF"."""
        self.backend.denied[user.upper()] = set(what)

    def do_forget_snapshots(self):
        """Let undo run out: every SCN so far is too old."""
        self.backend.forget_snapshots()

    def do_clear(self):
        """Forget faults, refusals and what was logged."""
        self.faults, self.refusals = [], []
        self.logons.clear()
        self.statements.clear()
        self.backend.denied.clear()

    def do_sessions(self, user):
        """Return what the sessions of a user call themselves."""
        return [
            {"module": s.module, "action": s.action}
            for s in list(self.sessions)
            if s.user == user.upper()
        ]

    def do_kill(self, user):
        """End the sessions of a user; return how many."""
        killed = 0
        for session in [s for s in list(self.sessions) if s.user == user.upper()]:
            with suppress(OSError):  # one that has just ended by itself
                session.sock.shutdown(socket.SHUT_RDWR)
                killed += 1
        return killed

    def do_logons(self, user):
        """Return how often a user has tried to log on."""
        return self.logons.count(user.upper())

    def do_statements(self, user):
        """Return what a user's sessions have run."""
        return [sql for who, sql in self.statements if who == user.upper()]
