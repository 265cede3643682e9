"""Passwords kept out of texts that others wrote: a driver's error, or a user's function's.

Whoever opens connections tells the passwords that it uses; whatever of such texts becomes an error,
a log line or a row of the ledger goes through `hidden`.
"""

import json
import re
import traceback
from collections import OrderedDict
from itertools import chain
from threading import Lock
from urllib.parse import quote, quote_plus

HIDDEN = "***"

# What NIST SP 800-63B asks of a password at least. A shorter one may be a part of any word, and a
# text that lacks it could not be read; it is hidden only where a text says that it is one.
_LONG = 8

# One of digits alone is a part of many a number, and a number that holds it tells nobody so. It is
# hidden unless a digit stands beside it; that of an escaped character, as in %20, is none.
_NO_DIGIT_BEFORE = (
    r"(?:(?<![0-9])|(?<=%[0-9A-Fa-f]{2})|(?<=\\x[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4}))"
)
_NO_DIGIT_AFTER = "(?![0-9])"

# Short-lived ones, each for a connection of its own, must not add up for ever.
_MOST = 200

# What stands before a password, and after it, in URLs, libpq's parameters and Python's dicts.
_SAID = (("(?<=:)", "(?=@)"), ("(?<=password=)", r"(?!\w)"), ("(?<=password': ')", "(?=')"))


class _Known:
    """The passwords that connections of this process have been opened with, the latest last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._passwords: OrderedDict[str, bool] = OrderedDict()
        """Of each, whether it is hidden anywhere, or only where a text says what it is."""
        self._pattern: re.Pattern[str] | None = None

    def add(self, password: str, *, anywhere: bool) -> None:
        with self._lock:
            before = self._passwords.pop(password, None)
            self._passwords[password] = anywhere or bool(before)
            if len(self._passwords) > _MOST:
                self._passwords.popitem(last=False)
            if before is not self._passwords[password]:
                self._pattern = None

    def hide(self, text: str) -> str:
        with self._lock:
            if not self._passwords:
                return text
            if self._pattern is None:  # made only now: connections are many, errors few
                # The longest first: another one may begin like it.
                longest_first = sorted(self._passwords, key=len, reverse=True)
                forms = (_patterns(p, anywhere=self._passwords[p]) for p in longest_first)
                self._pattern = re.compile("|".join(chain.from_iterable(forms)))
            pattern = self._pattern
        return pattern.sub(HIDDEN, text)


_known = _Known()


def remember(password: object, *public: object) -> None:
    """Have a password hidden from now on; None and an empty one are none.

    One that is also a `public` word of its connection, as the user's or the database's name, is
    hidden only where a text says that it is the password: so is one of less than 8 characters.
    """
    if password:
        text = str(password)
        _known.add(text, anywhere=len(text) >= _LONG and text not in map(str, public))


def hidden(text: str) -> str:
    """Return a text with `***` in the place of each password, also of one that is URL-encoded.

    Of a password of digits alone not where it is a part of a longer number.
    """
    return _known.hide(text)


def cause(error: BaseException) -> BaseException | None:
    """Return an error as the cause of another one; None where it would tell a password."""
    told = str(error)
    return error if hidden(told) == told else None


def in_full(error: BaseException) -> str:
    """Return an error with its traceback and causes, as a log is to have it."""
    return hidden("".join(traceback.format_exception(error)))


def _patterns(password: str, *, anywhere: bool) -> list[str]:
    if anywhere and re.fullmatch("[0-9]+", password):
        return [f"{_NO_DIGIT_BEFORE}{password}{_NO_DIGIT_AFTER}"]
    encoded = {quote(password, safe=""), quote(password), quote_plus(password)}
    lower = {re.sub("%..", lambda code: code[0].lower(), each) for each in encoded}
    # As Python, JSON and libpq write one with quotes or backslashes in it.
    escaped = {repr(password)[1:-1], json.dumps(password)[1:-1]}
    escaped |= {password.replace("\\", "\\\\").replace("'", "\\'")}
    forms = [re.escape(each) for each in {password} | encoded | lower | escaped]
    forms.sort(key=len, reverse=True)
    if anywhere:
        return forms
    return [f"{before}{form}{after}" for form in forms for before, after in _SAID]
