"""What asks for the end of a whole load, told from what a user's function raises by itself."""

import signal
from functools import partial
from traceback import walk_tb
from typing import Any


def ends_the_load(error: BaseException) -> bool:
    """Whether an error met in a function of the user's is Ctrl-C, or of a signal's handler.

    `sys.exit()` in what was once a script is neither, nor is a panic in what is written in Rust. An
    `Exception` never is: what a handler raises so, asks to be treated as any other error.
    """
    if isinstance(error, Exception):
        return False
    if isinstance(error, KeyboardInterrupt):
        return True
    handlers = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()}
    return any(frame.f_code in handlers for frame, _ in walk_tb(error.__traceback__))


def _code_of(handler: Any) -> Any:
    """Return what Python runs when a signal's handler is called; None for what is not in Python."""
    while isinstance(handler, partial):
        handler = handler.func
    # A function or a method has it; another object's is that of its class.
    call = handler if hasattr(handler, "__code__") else type(handler).__call__
    return getattr(call, "__code__", None)
