"""`python -m mapper_core`: the command line, where no `mapper` is on the path."""

import sys

from .cli import main

sys.exit(main(prog="python -m mapper_core"))
