"""The command line: `mapper load`, `plan`, `loads`, `chunks`, `rejects`.

It translates, and decides nothing.

Exit codes: 0, every row is loaded, except those that the reject limit allows to be left out; 1,
the load is partial or failed; 2, a mistake known before rows moved, or bad usage; 130 and 143,
stopped by Ctrl-C and SIGTERM.
"""

from .commands import main

__all__ = ["main"]
