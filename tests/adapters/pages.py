"""Tables of the documentation that tests find, and print there."""

import os
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def page(title, introduction, head, rows, notes):
    """Return a page: what it is about, a table, and the notes that it refers to by number."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        [
            f"# {title}",
            "",
            introduction,
            *(f"| {' | '.join(line)} |" for line in lines),
            "",
            *(f"{number}. {note}" for number, note in enumerate(notes, start=1)),
            "",
        ]
    )


def check(path, found, *, written_if):
    """Compare a page word for word; write it if the environment variable is set."""
    if os.environ.get(written_if):
        path.write_text(found)
    assert path.read_text() == found
