"""HTTP: reads a request completely, hands it to the application, writes the reply. Loopback only.

Connections stay open between requests, so that a client's pool is exercised
as it is by the real services.
"""

import json
import socket
import struct
import sys
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


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
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    # drop the connection with RST instead of answering
    reset: bool = False
    # what the journal says beside the status
    note: dict = field(default_factory=dict)

    @classmethod
    def json(cls, document, status: int = 200, headers: dict | None = None, **note) -> "Reply":
        content = {"Content-Type": "application/json; charset=utf-8"}
        body = json.dumps(document, ensure_ascii=False, default=str).encode() + b"\n"
        return cls(status, content | (headers or {}), body, note=note)

    @classmethod
    def words(cls, text: str, status: int = 200, headers: dict | None = None, **note) -> "Reply":
        content = {"Content-Type": "text/plain; charset=utf-8"}
        return cls(status, content | (headers or {}), text.encode(), note=note)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # an idle pooled connection is given up after this many seconds
    timeout = 120

    def answer(self) -> None:
        body = self._body()
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.application(Request(self.command, path, query, headers, body))
        if reply.reset:
            self._reset()
        else:
            self._write(reply)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = answer

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(iter(self._chunk, b""))
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def _write(self, reply: Reply) -> None:
        lines = [f"HTTP/1.1 {reply.status} {self.responses.get(reply.status, ('',))[0]}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        if reply.status != 204:
            lines.append(f"Content-Length: {len(reply.body)}")
        body = b"" if self.command == "HEAD" or reply.status == 204 else reply.body
        try:
            self.wfile.write("\r\n".join([*lines, "", ""]).encode() + body)
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

    def __init__(self, port: int, application) -> None:
        self.application = application
        self.resetting: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), Handler)

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
