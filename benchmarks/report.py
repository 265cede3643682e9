"""How results are told: tables that read as text and as Markdown, the machine, a plot."""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import psycopg


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up; the first is text, the others are numbers.

    >>> print(table(["what", "s"], [["a walk", "0.5"]]))
    | what   |   s |
    | :----- | --: |
    | a walk | 0.5 |
    """
    widths = [max(3, *(len(row[i]) for row in [heads, *rows])) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(heads), line(rule), *map(line, rows)])


def machine(connection: psycopg.Connection, settings: Mapping[str, str]) -> str:
    """Return what the numbers were measured on, without the names of hosts and folders."""
    (version,) = connection.execute("show server_version").fetchone() or ("?",)
    (durable,) = connection.execute("show synchronous_commit").fetchone() or ("?",)
    told = ", ".join(f"{name} = {value}" for name, value in settings.items())
    return (
        f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores,"
        f" Python {platform.python_version()}, PostgreSQL {version} on the same machine"
        f" ({told}, synchronous_commit = {durable}; everything else at its default)."
    )


def machine_of(url: str, settings: Mapping[str, str]) -> str:
    """Return what the numbers were measured on, asking the server at a URL."""
    with psycopg.connect(url) as connection:
        return machine(connection, settings)


def seconds(values: Sequence[float]) -> str:
    """Return the median, with as many digits as it deserves.

    >>> seconds([0.01234, 9, 0.001]), seconds([12.34])
    ('0.012', '12.3')
    """
    middle = median(values)
    return f"{middle:.1f}" if middle >= 10 else f"{middle:.2f}" if middle >= 1 else f"{middle:.3f}"


def percent(share: float) -> str:
    """Return a share in percent.

    >>> percent(0.0512), percent(0.0008)
    ('5.1 %', '0.08 %')
    """
    return f"{100 * share:.1f} %" if share >= 0.001 else f"{100 * share:.2f} %"


def bars(
    path: Path, title: str, labels: Sequence[str], panels: Mapping[str, Sequence[float]]
) -> None:
    """Draw one panel of horizontal bars for each measure, over the same labels."""
    import matplotlib as mpl

    mpl.use("svg")
    # Text stays text, and the same numbers give the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(panels), sharey=True, squeeze=False, figsize=(10, 0.35 * len(labels) + 1.2)
    )
    for axis, (measure, values) in zip(axes[0], panels.items(), strict=True):
        drawn = axis.barh(range(len(labels)), values, color="#4878a8")
        axis.bar_label(drawn, labels=[f"{value:.3g}" for value in values], padding=3)
        axis.set_title(measure, fontsize=9)
        axis.set_yticks(range(len(labels)), labels)
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
