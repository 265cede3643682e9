"""Names in SQL that goes to a source or target."""


def quoted(*names: str) -> str:
    """Return `"schema"."table"`, quoted so that any name is safe.

    >>> quoted("dw", 'a "fact" of it')
    '"dw"."a ""fact"" of it"'
    """
    return ".".join('"{}"'.format(name.replace('"', '""')) for name in names)
