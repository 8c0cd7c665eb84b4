"""Entry point: python -m forgebed --port N ..."""

import argparse
import os

from bedkit import program
from bedkit.server import ApplicationServer

from .app import Application


def main() -> None:
    parser = argparse.ArgumentParser(prog="forgebed", description="GitHub, GitLab and Gitea on loopback.")
    program.add_port(parser)
    program.add_clock_speed(parser)
    asked = program.begin(parser)
    application = Application(asked.clock_speed)
    server = ApplicationServer(application, asked.port)
    apis = {"github": f"{server.url}/api/v3", "gitlab": f"{server.url}/api/v4", "gitea": f"{server.url}/api/v1"}
    application.start(server.url, {"url": server.url, "port": server.port, "pid": os.getpid(), **apis})
    program.announce(application.info, asked.port_file)
    program.serve(server)


if __name__ == "__main__":
    main()
