"""Entry point: python -m opsybed --port N ..."""

import argparse
import os
from pathlib import Path

from bedkit import program

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="opsybed", description="An emulated AWS on loopback.")
    parser.add_argument("--host", default="127.0.0.1", choices=LOOPBACK)
    program.add_port(parser, "addresses")
    parser.add_argument(
        "--authorized-keys", type=Path, help="write the public keys of key pairs to this file"
    )
    program.add_clock_speed(parser)
    parser.add_argument("--ssh", action="store_true", help="run sshd so that builds can provision")
    return parser


def main() -> None:
    asked = program.begin(arguments())
    # moto's own catalog is not loaded: seeding publishes the necessary images, and startup is faster.
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
    os.environ.pop("MOTO_ACCOUNT_ID", None)

    from . import kube_control
    from .app import Application
    from .install import install
    from .server import Server
    from .world import world

    install()
    world.speed = asked.clock_speed
    application = Application()
    server = Server(asked.host, asked.port, application)
    info = {"endpoint": f"http://{asked.host}:{server.port}", "port": server.port, "pid": os.getpid()}
    if asked.ssh or asked.authorized_keys:
        from .sshd import Sshd

        world.ssh = Sshd(asked.authorized_keys)
        if asked.ssh:
            info |= world.ssh.start()
    application.info = info
    program.announce(info, asked.port_file)
    try:
        program.serve(server)
    finally:
        for account in world.accounts():
            kube_control.forget(account)
        if world.ssh:
            world.ssh.stop()


if __name__ == "__main__":
    main()
