"""Openers over what Oracle's users write: URLs, and easy connect strings."""

import re
from collections.abc import Mapping
from inspect import signature
from typing import Any

from ..errors import SettingsError
from ..passwords import remember
from .opener import Opener, close

# user/password@host:port/service, or a name of tnsnames.ora behind the @.
_EASY = re.compile(r"[^/@\s:]+/.+@[^@\s]+", re.DOTALL)

# A server that does not answer is given up after these seconds, and one that died is noticed
# within minutes, by probes of the operating system's.
_PATIENCE = {"tcp_connect_timeout": 15, "expire_time": 1}

_CALL_TIMEOUT = "call_timeout"


def is_easy_connect(text: str) -> bool:
    """Whether a text reads user/password@host:port/service.

    >>> is_easy_connect("scott/tiger@db:1521/FREEPDB1"), is_easy_connect("postgresql://a:b@c/d")
    (True, False)
    """
    return "://" not in text and _EASY.fullmatch(text) is not None


def from_easy_connect(text: str, role: str) -> Opener:
    """Return an opener over user/password@host:port/service, or @name of tnsnames.ora."""
    oracledb = _driver(role)
    user, password, dsn = oracledb.ConnectParams().parse_dsn_with_credentials(text)
    return _from_parameters({"user": user, "password": password, "dsn": dsn}, role)


def from_oracle_url(url: Any, role: str) -> Opener:
    """Return an opener over a URL of SQLAlchemy's; what its query holds is oracledb's to read.

    Wallets, TCPS and the like are parameters of `oracledb.connect`. One is ours: `call_timeout`,
    milliseconds for each round trip.
    """
    _driver(role)
    kind = url.get_dialect()
    _, parameters = kind(dbapi=kind.import_dbapi()).create_connect_args(url)
    return _from_parameters(parameters, role)


def _from_parameters(given: Mapping[str, Any], role: str) -> Opener:
    oracledb = _driver(role)
    parameters = {**_PATIENCE, **{name: _number(value) for name, value in given.items()}}
    for name in ("user", "password", "dsn", "wallet_password"):
        if name in given:
            parameters[name] = given[name]  # a text, whatever it looks like
    for name in ("password", "wallet_password"):
        remember(given.get(name), given.get("user"))
    call_timeout = parameters.pop(_CALL_TIMEOUT, None)
    if unknown := sorted(set(parameters) - set(signature(oracledb.connect).parameters)):
        msg = f"{role}: oracledb.connect has no parameter {', '.join(unknown)}: correct the URL"
        raise SettingsError(msg)

    def connect() -> Any:
        try:
            connection = oracledb.connect(**parameters)
        except OSError as error:
            # A name that nobody resolves is no error of the driver's.
            msg = f"no connection to {parameters.get('dsn')}: {error}"
            raise ConnectionError(msg) from error
        if call_timeout is not None:
            connection.call_timeout = call_timeout
        return connection

    return Opener("oracle+oracledb", connect, close)


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _driver(role: str) -> Any:
    try:
        import oracledb  # a driver is loaded when it is used
    except ImportError as error:
        msg = f"{role}: Oracle needs oracledb: pip install 'mapper[oracle]'"
        raise SettingsError(msg) from error
    return oracledb
