"""HTTP: passes each request to the application. Loopback only.

Werkzeug's server is not used because it closes every connection.
"""

from bedkit.server import ApplicationHandler, ApplicationServer


class Handler(ApplicationHandler):
    server_version = "opsybed"
    sys_version = ""


class Server(ApplicationServer):
    def __init__(self, host: str, port: int, application) -> None:
        super().__init__(application, port, Handler, host)
