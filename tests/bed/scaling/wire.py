"""A proxy that counts the bytes of TCP connections, as they are on the wire without their headers."""

import contextlib
import socket
import threading
from collections.abc import Iterator

BUFFER = 1 << 16


class Counter:
    """Forwards connections to a port of this machine, and counts the bytes of both directions."""

    def __init__(self, target: int) -> None:
        self.target, self.bytes = target, 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                for ends in ((client, server), (server, client)):
                    ends[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):  # either side ended the connection
            while data := source.recv(BUFFER):
                target.sendall(data)
                with self._lock:
                    self.bytes += len(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def counted(target: int) -> Iterator[Counter]:
    counter = Counter(target)
    try:
        yield counter
    finally:
        counter.close()
