"""Values of rows in the words of errors, marked so that they can be left out again.

Whoever loads rows may read them, and wants to see which one was refused. What others read too, such
as log lines and an orchestrator's pages, is told the same words without them. The marks are in the
text itself: it may be put into other texts, pickled or kept, and still be told without values.
"""

import re

# Nobody's quotation marks in the messages of PostgreSQL or Oracle, in whichever language.
_OPEN, _CLOSE = "\u2039", "\u203a"
_PLAIN = str.maketrans({_OPEN: "<", _CLOSE: ">"})

# A text that was cut short may lack the second mark.
_MARKED = re.compile(f"{_OPEN}[^{_CLOSE}]*(?:{_CLOSE}|$)")
_LEFT_OUT = f"{_OPEN}...{_CLOSE}"


def marked(text: str) -> str:
    """Return words that quote a row, between marks.

    >>> print(marked("Failing row contains (1, null)"))
    \u2039Failing row contains (1, null)\u203a
    """
    return f"{_OPEN}{text.translate(_PLAIN)}{_CLOSE}"


def left_out(text: str) -> str:
    """Return a text without what is marked in it.

    >>> print(left_out(f"invalid input syntax for type integer: {marked('x')}. Mend it"))
    invalid input syntax for type integer: \u2039...\u203a. Mend it
    """
    return _MARKED.sub(_LEFT_OUT, text)
