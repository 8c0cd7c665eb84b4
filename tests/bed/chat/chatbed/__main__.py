"""Entry point: python -m chatbed --port N ..."""

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from .app import Application
from .server import Server

PARENT_LOOK_SECONDS = 0.2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="chatbed", description="Slack, Discord and webhook receivers on loopback."
    )
    parser.add_argument("--port", type=int, required=True, help="0 picks a free one")
    parser.add_argument("--port-file", type=Path, help="JSON with the address, written when ready")
    parser.add_argument(
        "--clock-speed", type=float, default=1.0, help="emulated seconds per second"
    )
    parser.add_argument("--die-with-parent", action="store_true")
    return parser.parse_args()


def die_with_parent() -> None:
    """SIGTERM when the parent process ends.

    Not the kernel's parent-death signal: that one fires when the *thread* that
    started us ends, and test runners start things from short-lived threads.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def write_port_file(path: Path, info: dict) -> None:
    """Atomically: whoever sees the file sees all of it, and the bed is listening."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(info) + "\n")
    partial.replace(path)


def main() -> None:
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if asked.die_with_parent:
        die_with_parent()
    application = Application(asked.clock_speed)
    server = Server(asked.port, application)
    port = server.server_address[1]
    url = f"http://127.0.0.1:{port}"
    application.info = {"url": url, "port": port, "pid": os.getpid()}
    if asked.port_file:
        write_port_file(asked.port_file, application.info)
    print(json.dumps(application.info), flush=True)
    try:
        server.serve_forever(poll_interval=0.1)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
