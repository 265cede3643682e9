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

# A row of name and value for each. Of dates only the order of day and month in what is read counts:
# what is written is ISO.
ASKED = f"""
select name, case when name = 'datestyle'
                  then regexp_replace(current_setting(name), '^[^,]*', 'ISO')
                  else current_setting(name) end
from unnest('{{{",".join(_SETTINGS)}}}'::text[]) with ordinality named(name, place) order by place
"""

# Of which a `Place` says by itself what comes of them.
_TOLD_BY_PLACE = frozenset({"role", "search_path", "TimeZone"})


def differs(one: Mapping[str, str], other: Mapping[str, str]) -> str | None:
    """Return a setting of `one` session that another one at its place has otherwise, or None."""
    names = [name for name in one if name not in _TOLD_BY_PLACE]
    return next((name for name in names if one[name] != other[name]), None)
