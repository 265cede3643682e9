"""`python -m benchmarks [--what a,b] [--rows N] [--rounds N]`: one benchmark after another."""

import argparse
import importlib
import os

NAMES = ("planning", "pipes", "peers", "transforms", "costs", "steps")


def main() -> None:
    """Run what is asked for, everything by default; other options are handed on."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--what", default=",".join(NAMES), help="of these, by comma")
    given, others = parser.parse_known_args()
    asked = given.what.split(",")
    if unknown := set(asked) - set(NAMES):
        parser.error(f"no benchmark is named {', '.join(sorted(unknown))}: {', '.join(NAMES)} are")
    # As an installed package, ours has its bytecode from the second start on.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in asked:
        importlib.import_module(f"benchmarks.{name}").main(others)


if __name__ == "__main__":
    main()
