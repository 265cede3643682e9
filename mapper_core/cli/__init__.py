"""The command line: `mapper load`, `plan`, `loads`, `chunks`, `rejects`.

It translates, and decides nothing.

Exit codes: 0, everything is in, but for rows that the reject limit allows; 1, the load is partial
or failed; 2, a mistake known before rows moved, or bad usage; 130 and 143, stopped by Ctrl-C and
SIGTERM.
"""

from .commands import main

__all__ = ["main"]
