"""`make ui`: open Dagit on the demo."""

from demo import process


def main() -> int:
    """Serve Dagit until a signal comes."""
    # Here, where a Ctrl-C is already answered: the imports take a moment.
    from demo import dagit

    return dagit.main()


if __name__ == "__main__":
    process.run(main)
