"""The databases we speak to: one module each, imported on first use."""

from importlib import import_module
from typing import Any, Protocol, cast

from ..connections import Opener
from ..protocols import Source, Target

_ADAPTERS = {
    "oracle": "mapper_core.adapters.oracle",
    "postgresql": "mapper_core.adapters.postgresql",
}
# Whatever else SQLAlchemy has a dialect for.
_GENERIC = "mapper_core.adapters.generic"


class Database(Source, Target, Protocol):
    """Both roles at once, which is what the modules here return."""


def database(opener: Opener, *, application: str, time_zone: str | None = None) -> Database:
    """Return the database behind `opener`; nothing is opened yet.

    Args:
        opener: how to open connections to it.
        application: what its sessions call themselves, where the database has a place for it.
        time_zone: of its sessions, where it has such a thing; None keeps the connection's own.
    """
    module: Any = import_module(_ADAPTERS.get(opener.dialect, _GENERIC))
    return cast(Database, module.connect(opener, application=application, time_zone=time_zone))
