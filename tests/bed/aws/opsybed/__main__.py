"""Entry point: python -m opsybed --port N ..."""

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

LOOPBACK = ("127.0.0.1", "::1", "localhost")
PARENT_LOOK_SECONDS = 0.2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="opsybed", description="An emulated AWS on loopback.")
    parser.add_argument("--host", default="127.0.0.1", choices=LOOPBACK)
    parser.add_argument("--port", type=int, required=True, help="0 picks a free one")
    parser.add_argument(
        "--port-file", type=Path, help="JSON with the addresses, written when ready"
    )
    parser.add_argument(
        "--authorized-keys", type=Path, help="where CreateKeyPair writes public keys"
    )
    parser.add_argument(
        "--clock-speed", type=float, default=1.0, help="emulated seconds per second"
    )
    parser.add_argument("--ssh", action="store_true", help="run sshd, so that builds can provision")
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
    # An empty catalogue: seeding publishes the images that matter, and start-up stays quick.
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
    os.environ.pop("MOTO_ACCOUNT_ID", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if asked.die_with_parent:
        die_with_parent()

    from .app import Application
    from .install import install
    from .server import Server
    from .world import world

    install()
    world.speed = asked.clock_speed
    application = Application()
    server = Server(asked.host, asked.port, application)
    port = server.server_address[1]
    info = {"endpoint": f"http://{asked.host}:{port}", "port": port, "pid": os.getpid()}
    if asked.ssh or asked.authorized_keys:
        from .sshd import Sshd

        world.ssh = Sshd(asked.authorized_keys)
        if asked.ssh:
            info |= world.ssh.start()
    application.info = info
    if asked.port_file:
        write_port_file(asked.port_file, info)
    print(json.dumps(info), flush=True)
    try:
        server.serve_forever(poll_interval=0.1)
    except KeyboardInterrupt:
        pass
    finally:
        if world.ssh:
            world.ssh.stop()


if __name__ == "__main__":
    main()
