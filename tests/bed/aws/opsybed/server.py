"""HTTP: reads a request completely, hands it to the application, writes the reply.

Own server because Werkzeug's closes every connection: with keep-alive, a
client's connection pool is exercised as it is against AWS. Loopback only.
"""

import socket
import struct
import sys
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .wire import Request


@dataclass
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    # drop the connection with RST instead of answering
    reset: bool = False


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_version = "opsybed"
    sys_version = ""
    # an idle pooled connection is given up after this many seconds
    timeout = 120

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.application(Request(self.command, path, query, headers, body))
        if reply.reset:
            self._reset()
        else:
            self._write(reply)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = answer

    def _write(self, reply: Reply) -> None:
        lines = [f"HTTP/1.1 {reply.status} {self.responses.get(reply.status, ('',))[0]}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        lines += [f"Content-Length: {len(reply.body)}", "", ""]
        body = b"" if self.command == "HEAD" else reply.body
        try:
            self.wfile.write("\r\n".join(lines).encode() + body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _reset(self) -> None:
        """RST, not FIN: linger of zero, and no shutdown() before the close."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.resetting.add(self.connection)
        self.close_connection = True

    def log_message(self, *_) -> None:
        """The journal is the log."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # a burst of tests connects at once
    request_queue_size = 256

    def __init__(self, host: str, port: int, application) -> None:
        self.application = application
        self.resetting: set[socket.socket] = set()
        super().__init__((host, port), Handler)

    def shutdown_request(self, request) -> None:
        if request in self.resetting:
            self.resetting.discard(request)
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request, client_address) -> None:
        """A client that goes away mid-request is ordinary here; the rest is not."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)
