"""Run the double until its standard input ends; its two ports are printed first."""

import argparse
import os
import sys

from .h2 import H2Backend
from .server import Server


def main():
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--h2-jar", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--user", default="scott")
    parser.add_argument("--password", default="tiger")
    parser.add_argument("--extended", action="store_true", help="texts of up to 32767 bytes")
    given = parser.parse_args()
    server = Server(H2Backend(given.h2_jar), port=given.port, extended=given.extended)
    server.do_user(given.user, given.password)
    server.start()
    print(server.port, server.control(), flush=True)
    sys.stdin.read()
    # Java's threads would keep the process for good.
    os._exit(0)


if __name__ == "__main__":
    main()
