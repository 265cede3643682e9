"""`make demo`: load the flights of 2013 through Dagster, and compare."""

from demo import process


def main() -> int:
    """Run the demo; 1 when the target differs from the source."""
    # Here, where a Ctrl-C is already answered: importing Dagster takes a second.
    from demo import load

    return load.main()


if __name__ == "__main__":
    process.run(main)
