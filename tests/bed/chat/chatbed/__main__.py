"""Entry point: python -m chatbed --port N ..."""

import argparse
import os

from bedkit import program
from bedkit.server import ApplicationServer

from .app import Application


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="chatbed", description="Slack, Discord and webhook receivers on loopback."
    )
    program.add_port(parser)
    program.add_clock_speed(parser)
    asked = program.begin(parser)
    application = Application(asked.clock_speed)
    server = ApplicationServer(application, asked.port)
    application.info = {"url": server.url, "port": server.port, "pid": os.getpid()}
    program.announce(application.info, asked.port_file)
    program.serve(server)


if __name__ == "__main__":
    main()
