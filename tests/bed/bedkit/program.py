"""The command line, the port file, and the start and end of a bed."""

import json
import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from .parent import end_with_parent


def add_port(parser: ArgumentParser, content: str = "address") -> None:
    """Add --port and --port-file. `content` is what the port file contains."""
    parser.add_argument("--port", type=int, required=True, help="port to listen on; 0 selects a free port")
    parser.add_argument("--port-file", type=Path, help=f"write the {content} as JSON to this file when ready")


def add_clock_speed(parser: ArgumentParser) -> None:
    """Add --clock-speed."""
    parser.add_argument("--clock-speed", type=float, default=1.0, help="emulated seconds per real second")


def begin(parser: ArgumentParser) -> Namespace:
    """Add --die-with-parent, parse the command line, and exit with 0 on SIGTERM from now on."""
    parser.add_argument("--die-with-parent", action="store_true", help="exit when the parent process exits")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if asked.die_with_parent:
        end_with_parent()
    return asked


def announce(info: dict, port_file: Path | None) -> None:
    """Write the port file, if there is one, and print the same line of JSON.

    The file is written atomically: when it exists, it is complete and the bed is listening.
    """
    line = json.dumps(info)
    if port_file:
        partial = port_file.with_name(f".{port_file.name}.{os.getpid()}")
        partial.write_text(line + "\n")
        partial.replace(port_file)
    print(line, flush=True)


def serve(server) -> None:
    """Serve requests until SIGTERM or Ctrl-C."""
    try:
        server.serve_forever(poll_interval=0.1)
    except KeyboardInterrupt:
        pass
