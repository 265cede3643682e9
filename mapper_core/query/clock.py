"""Where a SQL asks for the present moment, told from its tokens.

Sessions of one load begin at different moments; what the SQL calls "now" is written as one of them.
Wherever that cannot be done without changing what the query says, there is a reason to read it in
one go.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

# What asks for the moment at which the transaction began.
_WORDS = frozenset(
    {"CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP"}
)
# Of Oracle's SQL alone: elsewhere they are names as good as others.
_ORACLE_WORDS = frozenset({"SYSDATE", "SYSTIMESTAMP"})
_FUNCTIONS = frozenset({"now", "transaction_timestamp", "statement_timestamp"})

# In a text that is read as a time, alone or with other parts of one: `today 12:00`, `now EST`.
# Source: PostgreSQL documentation, "Special Date/Time Inputs".
_MOMENTS = frozenset({"now", "today", "tomorrow", "yesterday"})
_WORDS_OF_TIME = re.compile(r"[A-Z]{1,5}|\w+/[\w/]+|allballs|z|utc|gmt|am|pm")
_WORD = re.compile(r"[^\W\d_]+(?:[/_][^\W\d]+)*")

# A text as one of the ways to write it has it.
_TEXTS = frozenset(
    {"STRING", "HEREDOC_STRING", "NATIONAL_STRING", "RAW_STRING", "BYTE_STRING", "UNICODE_STRING"}
)

# What stands around a whole item of a select list, which gives its column its name.
_BEFORE_ITEM = frozenset({"SELECT", "DISTINCT", "ALL", "COMMA"})
_AFTER_ITEM = frozenset({"COMMA", "FROM", "UNION", "EXCEPT", "INTERSECT", "R_PAREN", ""})


def says_now(text: str) -> bool:
    """Whether a text, read as a time, is one that depends on when it is read.

    >>> says_now("Today 12:00"), says_now(" now"), says_now("buy now"), says_now("2024-01-01")
    (True, True, False, False)
    """
    if "%" in text:
        return False  # a pattern for LIKE
    words = _WORD.findall(text)
    others = [word for word in words if word.lower() not in _MOMENTS]
    return len(others) < len(words) and all(map(_WORDS_OF_TIME.fullmatch, others))


def value_blocker(values: Mapping[str, Any]) -> str | None:
    """Return why a query with these bind values must be read in one go, or None."""
    for name, value in values.items():
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str) and says_now(text):
                return (
                    f"the value of :{name} is '{text}', which may mean a different moment each time"
                )
    return None


def clock_spans(tokens: Sequence[Any], dialect: str) -> list[tuple[int, int]]:
    """Return where the SQL asks for the present moment: a word, or a call without arguments."""
    return [(tokens[a].start, tokens[b].end + 1) for a, b in _questions(tokens, dialect)]


def clock_blocker(tokens: Sequence[Any], dialect: str) -> str | None:
    """Return why a query that asks for the time must be read in one go, or None."""
    kinds = _kinds(tokens, dialect)
    for first, last in _questions(tokens, dialect):
        before = kinds[first - 1] if first else ""
        after = kinds[last + 1] if last + 1 < len(kinds) else ""
        named_by_it = before in _BEFORE_ITEM and after in _AFTER_ITEM
        if named_by_it and not _in_call(kinds, first):
            text = tokens[first].text.lower()
            return f"a column is named by {text} alone; give it a name with AS"
    for place, (token, after) in enumerate(pairwise([*tokens, None])):
        text = token.text.lower()
        if kinds[place] in _TEXTS and says_now(token.text):
            return f"it has the string '{text}', which may mean a different moment each time"
        called = after is not None and after.token_type.name == "L_PAREN"
        qualified = place > 0 and kinds[place - 1] == "DOT"
        asks = kinds[place] in _WORDS | _ORACLE_WORDS or (qualified and _asks(token))
        if called and (asks or text == "age"):
            return f"it calls {text}() in a way that may mean a different moment each time"
    return None


def _questions(tokens: Sequence[Any], dialect: str) -> list[tuple[int, int]]:
    """Return the first and last token of each question for the moment."""
    kinds, found = _kinds(tokens, dialect), []
    for place, token in enumerate(tokens):
        # Behind a dot or AS it is a name.
        if place and kinds[place - 1] in {"DOT", "ALIAS"}:
            continue
        after = kinds[place + 1 : place + 3]
        if kinds[place] in _WORDS | _ORACLE_WORDS and after[:1] != ["L_PAREN"]:
            found.append((place, place))
        elif _asks(token) and kinds[place] == "VAR" and after == ["L_PAREN", "R_PAREN"]:
            found.append((place, place + 2))
    return found


def _asks(token: Any) -> bool:
    return token.text.lower() in _FUNCTIONS


def _kinds(tokens: Sequence[Any], dialect: str) -> list[str]:
    kinds = [token.token_type.name for token in tokens]
    if dialect != "oracle":
        return ["VAR" if kind in _ORACLE_WORDS else kind for kind in kinds]
    words = [token.text.upper() for token in tokens]
    of_time = [
        word in _ORACLE_WORDS and kind in {"VAR", *_ORACLE_WORDS}
        for word, kind in zip(words, kinds, strict=True)
    ]
    return [w if is_word else k for w, k, is_word in zip(words, kinds, of_time, strict=True)]


def _in_call(kinds: Sequence[str], place: int) -> bool:
    """Whether a token is an argument of a function, and not an item of a select list."""
    depth = 0
    for before in range(place - 1, -1, -1):
        depth += (kinds[before] == "R_PAREN") - (kinds[before] == "L_PAREN")
        if depth < 0:
            return kinds[before + 1] not in {"SELECT", "WITH"}
    return False
