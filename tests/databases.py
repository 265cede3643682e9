"""Databases of a test's own in the server of the test run.

To make one costs more than most tests, so one that can be made as new again is kept for others.
"""

import uuid
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import quote

import psycopg

# A database is used so often: what is dropped in it leaves its catalogs longer.
USES = 25

# Drops what is in the schemas; the schema `public` itself stays as it came.
_EMPTY = """do $$ declare each record; begin
  for each in select nspname from pg_namespace
    where oid >= 16384 and nspname !~ '^pg_(toast_)?temp_' loop
    execute format('drop schema %I cascade', each.nspname);
  end loop;
  for each in select classid, objid from pg_depend where deptype = 'n'
    and refclassid = 'pg_namespace'::regclass and refobjid = 'public'::regnamespace loop
    -- One that went with another before it has no name any more.
    execute coalesce((select format('drop %s if exists %s cascade', type, identity)
      from pg_identify_object(each.classid, each.objid, 0) where identity is not null), 'select');
  end loop;
end $$"""

# What is of one database alone, but for statistics, which may stay.
_CATALOGS = """select string_agg(format(
    'select %L, count(*), count(*) filter (where age(xmin) <= (select age(''SINCE''::xid)))'
    ' from pg_catalog.%I%s',
    relname, relname,
    case relname when 'pg_namespace' then $$ where nspname !~ '^pg_(toast_)?temp_'$$ else '' end),
  ' union all ' order by relname)
from pg_class where relnamespace = 'pg_catalog'::regnamespace and relkind = 'r'
  and not relisshared and relname !~ '^pg_statistic'"""
_END_SESSIONS = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s"
_SETTINGS = """select datconnlimit, datallowconn, datistemplate, dattablespace, datacl,
    exists (select from pg_db_role_setting where setdatabase = d.oid)
from pg_database d where datname = current_database()"""


def name_of(url):
    """Return the name of a URL's database."""
    return psycopg.conninfo.conninfo_to_dict(url)["dbname"]


class _Databases:
    """Makes empty databases in a server, whose socket folder it takes; keeps them for others."""

    def __init__(self, server):
        self._server = server
        self._spare: list[tuple[str, int]] = []
        self._as_new: list[tuple[Any, ...]] = []
        with self._admin() as admin:
            ((since, asked),) = admin.execute(
                f"select txid_current()::text, ({_CATALOGS})"
            ).fetchall()
        self._asked = asked.replace("SINCE", since)

    def url(self, name):
        return f"postgresql://postgres@/{name}?host={quote(self._server, safe='')}"

    def _session(self, name):
        return psycopg.connect(self.url(name), autocommit=True)

    def _admin(self):
        return self._session("postgres")

    def make(self, name, encoding):
        """Make an empty database of that name; return how many uses it had."""
        with self._admin() as admin:
            if encoding == "utf8" and self._spare:
                spare, uses = self._spare.pop(0)
                try:
                    admin.execute(f"alter database {spare} rename to {name}")
                    return uses
                except psycopg.errors.ObjectInUse:
                    self._drop(admin, spare)
            admin.execute(f"create database {name} template template0 encoding '{encoding}'")
        if encoding != "utf8":
            return USES
        if not self._as_new:
            with self._session(name) as live:
                self._as_new = self._state(live)
        return 0

    def give_back(self, made):
        """Keep each database that can be made as new, drop the others; end their sessions."""
        with self._admin() as admin:
            for name, uses in made:
                spare = f"spare_{uuid.uuid4().hex[:8]}"
                if uses < USES and self._emptied(admin, name, spare):
                    self._spare.append((spare, uses + 1))
                    continue
                for left in (name, spare):
                    self._drop(admin, left)

    def _emptied(self, admin, name, spare):
        """Empty a database under another name; return whether it is as new."""
        try:
            admin.execute(_END_SESSIONS, (name,))
            # No test has a URL of it from here on.
            admin.execute(f"alter database {name} rename to {spare}")
            with self._session(spare) as live:
                live.execute(_EMPTY)
                return self._state(live) == self._as_new
        except psycopg.Error:  # What stands in the way goes with the database.
            return False

    def _state(self, live):
        """Return how many rows each catalog has, how many of them new ones; and its settings."""
        return live.execute(self._asked).fetchall() + live.execute(_SETTINGS).fetchall()

    @staticmethod
    def _drop(admin, name):
        admin.execute(f"drop database if exists {name} with (force)")


_databases = cache(_Databases)


@contextmanager
def making_databases(server):
    """Yield what creates an empty database and returns its URL; its sessions are ended after.

    Takes the server's socket folder.
    """
    databases = _databases(server)
    made = []

    def make(label="db", encoding="utf8"):
        name = f"{label}_{uuid.uuid4().hex[:8]}"
        made.append((name, databases.make(name, encoding)))
        return databases.url(name)

    yield make
    databases.give_back(made)
