r"""PostgreSQL's text format for COPY: how a value is written in a line.

Source: PostgreSQL documentation, COPY, "Text Format".
"""

import re

NULL = r"\N"

_ESCAPED = re.compile(r"\\(.)")
_MEANT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

SPECIAL = re.compile(r"[\\\t\n\r]")
_WRITTEN = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def escaped(value: str) -> str:
    r"""Return a text as a line holds it.

    >>> escaped("a\tb\\")
    'a\\tb\\\\'
    """
    return value.translate(_WRITTEN)


def unescaped(text: str) -> str:
    """Return the text that a line holds; the reverse of `escaped`."""
    return _ESCAPED.sub(lambda found: _MEANT.get(found[1], found[1]), text)


def fields(line: bytes) -> list[str | None]:
    r"""Return the values of one line, as texts.

    >>> fields(b"1\t\\N\ta\\tb\\\\\n")
    ['1', None, 'a\tb\\']
    """
    texts = line.decode().removesuffix("\n").split("\t")
    return [None if text == NULL else unescaped(text) for text in texts]
