"""HTTP on loopback: servers that keep connections open and can reset them.

Connections stay open between requests, so that a client's connection pool is used as with the real services.
"""

import json
import socket
import struct
import sys
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """A server with one thread per connection."""

    daemon_threads = True
    # many tests connect at the same time
    request_queue_size = 256

    def __init__(self, port: int, handler: type["Handler"], host: str = "127.0.0.1") -> None:
        self.resetting: set[socket.socket] = set()
        super().__init__((host, port), handler)

    @property
    def port(self) -> int:
        return self.server_address[1]

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]}:{self.port}"

    def shutdown_request(self, request) -> None:
        """Skip shutdown() after a reset, because it would send FIN first."""
        if request in self.resetting:
            self.resetting.discard(request)
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request, client_address) -> None:
        """Ignore clients that disconnect during a request, which is normal here."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Reads whole requests, and writes whole responses or resets the connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # an idle connection is closed after this many seconds
    timeout = 120
    server: Server

    def read_body(self) -> bytes:
        """Return the body of the request, which may be chunked."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(iter(self._chunk, b""))
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def write(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """Write a response with these headers and the length of the body, and no others."""
        lines = [f"HTTP/1.1 {status} {self.responses.get(status, ('',))[0]}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if status != 204:
            lines.append(f"Content-Length: {len(body)}")
        content = b"" if self.command == "HEAD" or status == 204 else body
        try:
            self.wfile.write("\r\n".join([*lines, "", ""]).encode() + content)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def reset(self) -> None:
        """Close the connection with RST instead of FIN: zero linger, and no shutdown() before the close."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.resetting.add(self.connection)
        self.close_connection = True

    def call_control(self, controls: dict, refusals: tuple[type[Exception], ...] = ()) -> tuple[int, object]:
        """Call the function of a control endpoint, and return the status and the document of the response.

        `controls` contains functions of the server and the parsed body, by method and path below /_bed/. `refusals` are
        exceptions that refuse a request, in addition to those of invalid values.
        """
        path = self.path.partition("?")[0].removeprefix("/_bed/")
        body = self.read_body()
        try:
            if (self.command, path) not in controls:
                raise ValueError(f"no {self.command} {self.path}")
            return 200, controls[self.command, path](self.server, json.loads(body or b"{}"))
        except (ValueError, KeyError, *refusals) as error:
            return 400, {"error": str(error)}

    def log_message(self, *_) -> None:
        """Log nothing, because the journal is the log."""


@dataclass
class Request:
    """One HTTP request, read completely."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


@dataclass
class Reply:
    """One HTTP response."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    # reset the connection (RST) instead of sending a response
    reset: bool = False


class ApplicationHandler(Handler):
    """Passes each request to the application of the server, and writes its reply."""

    server: "ApplicationServer"

    def answer(self) -> None:
        body = self.read_body()
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.application(Request(self.command, path, query, headers, body))
        if reply.reset:
            self.reset()
        else:
            self.write(reply.status, reply.headers, reply.body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = answer


class ApplicationServer(Server):
    """A server for a function that returns a reply to a request."""

    def __init__(self, application, port: int, handler=ApplicationHandler, host: str = "127.0.0.1") -> None:
        self.application = application
        super().__init__(port, handler, host)
