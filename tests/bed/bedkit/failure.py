"""Failures of the programs that tests and benchmarks run."""

import sys


class Failure(Exception):
    """Something did not work. The message is for people."""


def run(main) -> None:
    """Run the main function of a script. A failure ends the script with its message instead of a traceback."""
    try:
        main()
    except Failure as failure:
        sys.exit(str(failure))
