"""What SQL means in a session: the settings that decide it, which sessions of one load share."""

from collections.abc import Mapping

# Whose rows are seen, which tables names mean, how texts are read and written. The role comes
# first: it may have to be allowed what the others name. What each session of ours sets for itself
# is not among them, see `session.setting`.
_SETTINGS = (
    *("role", "search_path", "row_security", "TimeZone", "timezone_abbreviations", "datestyle"),
    *("lc_monetary", "lc_numeric", "lc_time", "default_text_search_config", "xmlbinary"),
    *("xmloption", "transform_null_equals", "standard_conforming_strings", "backslash_quote"),
)

# A row of name and value for each that the server has. Of dates only the order of day and month in
# what is read counts: what is written is ISO. A server's configuration may name for texts what this
# database has not, which nobody can set.
ASKED = f"""
select name, case when name = 'datestyle' then regexp_replace(value, '^[^,]*', 'ISO') else value end
from unnest('{{{",".join(_SETTINGS)}}}'::text[]) with ordinality named(name, place),
     current_setting(name, true) found(value)
where value is not null
and (name <> 'default_text_search_config' or exists (
    select from pg_ts_config c join pg_namespace n on n.oid = c.cfgnamespace
    where value = quote_ident(n.nspname) || '.' || quote_ident(c.cfgname)
    or value in (c.cfgname, quote_ident(c.cfgname)) and pg_ts_config_is_visible(c.oid)
))
order by place
"""


def shared(given: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    """Return the settings given, and those of another session that are not among them.

    In the order given: who the session acts as comes before its role, which that sets back.

    >>> shared({"b": "given", "a": "given"}, {"a": "other", "c": "other"})
    {'b': 'given', 'a': 'given', 'c': 'other'}
    """
    return {**given, **{name: value for name, value in others.items() if name not in given}}


# Of which a `Place` says by itself what comes of them.
_TOLD_BY_PLACE = frozenset({"role", "search_path", "TimeZone"})


def differs(one: Mapping[str, str], other: Mapping[str, str]) -> str | None:
    """Return a setting of `one` session that another one at its place has otherwise, or None."""
    names = [name for name in one if name not in _TOLD_BY_PLACE]
    return next((name for name in names if one[name] != other.get(name)), None)
