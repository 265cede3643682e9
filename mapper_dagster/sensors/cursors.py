"""Moments in the cursors of sensors, which people read in Dagit and set back there."""

import re
from datetime import datetime, timezone

from mapper_core import SettingsError


def moment_of(text: str) -> datetime:
    """Return the moment of a text in ISO format; one without a zone is meant in UTC.

    Raises SettingsError when it is none.

    >>> moment_of("2024-01-31T06:00Z") == moment_of("2024-01-31 06:00")
    True
    """
    try:
        # Python 3.10 does not know the letter.
        found = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text.strip()))
    except ValueError:
        msg = (
            f"the sensor's cursor has {text!r}, which is not a moment: set it to one such as"
            " 2024-01-31T06:00:00+00:00, or clear it"
        )
        raise SettingsError(msg) from None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
