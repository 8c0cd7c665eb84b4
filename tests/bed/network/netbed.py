"""A company's network on loopback: an egress proxy, and servers with certificates of a private authority.

Names such as git.corp.test resolve at the proxy alone, so a client that reaches one went through it.
Needs the package `cryptography`. The control interface is at the proxy's own address, below /_bed:
  POST /_bed/host         {"name": "git.corp.test", "to": "127.0.0.1:1234", "tls": true, "port": 443}
  POST /_bed/credentials  {"credentials": "user:password"}, or null
  GET|DELETE /_bed/journal
"""

import argparse
import base64
import datetime
import ipaddress
import json
import os
import select
import signal
import socket
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PARENT_LOOK_SECONDS = 0.2
# A tunnel on which nothing moves for so long is given up.
IDLE_SECONDS = 120
# A client answers the end of TLS at once, or never.
END_SECONDS = 2
DOMAIN = "corp.test"
# 0.0.0.0 leads to this machine on Linux and is not a loopback address: what is reached there without a proxy is an
# exception of NO_PROXY.
ADDRESSES = ("127.0.0.1", "0.0.0.0", "::1")
HOP_BY_HOP = ("proxy-authorization", "proxy-connection", "connection", "keep-alive")


def write_certificates(folder: Path) -> None:
    """Writes ca.pem, and server.pem with its key, for all names of the domain."""
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)

    def certificate(name, issuer, key, signing_key, extensions):
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - day).not_valid_after(now + 10 * day)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signing_key, hashes.SHA256())

    def named(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    ca = certificate(
        named("Authority of the bed"),
        named("Authority of the bed"),
        authority,
        authority,
        [(x509.BasicConstraints(ca=True, path_length=None), True), (usage, True)],
    )
    names = [x509.DNSName(f"*.{DOMAIN}"), *(x509.IPAddress(ipaddress.ip_address(a)) for a in ADDRESSES)]
    leaf = certificate(
        named(DOMAIN),
        ca.subject,
        server,
        authority,
        [
            (x509.SubjectAlternativeName(names), False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        ],
    )
    pem = serialization.Encoding.PEM
    key = server.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "server.pem").write_bytes(key + leaf.public_bytes(pem))


def pipe(one: socket.socket, other: socket.socket) -> None:
    """Carries bytes both ways until both have ended, or one is gone."""
    peers = {one: other, other: one}
    while peers:
        # What TLS has decrypted already is not seen by select.
        ready = [end for end in peers if isinstance(end, ssl.SSLSocket) and end.pending()]
        ready = ready or select.select(list(peers), [], [], IDLE_SECONDS)[0]
        if not ready:
            return
        for end in ready:
            try:
                data = end.recv(65536)
                if data:
                    peers[end].sendall(data)
                    continue
                peer = peers.pop(end)
                if isinstance(peer, ssl.SSLSocket):
                    # The server is done; without this the client takes it for a broken connection.
                    peer.settimeout(END_SECONDS)
                    peer.unwrap()
                    return
                peer.shutdown(socket.SHUT_WR)
            except OSError:
                return


class Front:
    """Ends TLS, and carries what is inside to a server."""

    def __init__(self, context: ssl.SSLContext, to: tuple[str, int]) -> None:
        self.context, self.to = context, to
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = self.listener.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        connection.settimeout(IDLE_SECONDS)
        try:
            inside = self.context.wrap_socket(connection, server_side=True)
            outside = socket.create_connection(self.to)
        except OSError:
            # A client that does not trust the certificate says so and goes.
            connection.close()
            return
        with inside, outside:
            pipe(inside, outside)


class Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, folder: Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "server.pem")
        # Clients that would speak HTTP/2 are not understood by what is behind.
        self.context.set_alpn_protocols(["http/1.1"])
        self.hosts: dict[str, tuple[str, int]] = {}
        self.credentials: str | None = None
        self.journal: list[dict] = []
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def do_CONNECT(self) -> None:
        there = self.admitted(self.path)
        if there:
            self.send_response_only(200, "Connection established")
            self.end_headers()
            with socket.create_connection(there) as outside:
                pipe(self.connection, outside)
            self.close_connection = True

    def forward(self) -> None:
        if self.path.startswith("/"):
            self.control()
            return
        url = urlsplit(self.path)
        there = self.admitted(url.netloc if url.port else f"{url.netloc}:80")
        self.close_connection = True
        if not there:
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = url._replace(scheme="", netloc="").geturl() or "/"
        lines = [f"{self.command} {path} HTTP/1.1", "Connection: close"]
        lines += [f"{n}: {v}" for n, v in self.headers.items() if n.lower() not in HOP_BY_HOP]
        with socket.create_connection(there) as outside:
            outside.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            while data := outside.recv(65536):
                self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = forward

    def admitted(self, target: str) -> tuple[str, int] | None:
        """Where a name leads; else the refusal is answered. Either way it is in the journal."""
        proxy = self.server
        expected = proxy.credentials
        given = self.headers.get("Proxy-Authorization", "")
        basic = "Basic " + base64.b64encode((expected or "").encode()).decode()
        there = proxy.hosts.get(target)
        status = 407 if expected and given != basic else 200 if there else 403
        with proxy.lock:
            proxy.journal.append({"method": self.command, "target": target, "status": status})
        if status == 200:
            return there
        self.send_response(status)
        if status == 407:
            self.send_header("Proxy-Authenticate", 'Basic realm="corp"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def control(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        asked = json.loads(self.rfile.read(length) or b"{}")
        work = CONTROLS.get((self.command, self.path.removeprefix("/_bed/")))
        status, answer = (200, work(self.server, asked)) if work else (400, {"error": "no such control"})
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        """The journal is the log."""


def add_host(proxy: Proxy, asked: dict) -> dict:
    """Lets a name through. With TLS, answers the port at which its certificate is shown."""
    host, _, port = asked["to"].rpartition(":")
    there = (host, int(port))
    if asked.get("tls"):
        there = Front(proxy.context, there).address
    proxy.hosts[f"{asked['name']}:{asked.get('port', 443 if asked.get('tls') else 80)}"] = there
    return {"port": there[1]}


def set_credentials(proxy: Proxy, asked: dict) -> dict:
    proxy.credentials = asked["credentials"]
    return {}


def read_journal(proxy: Proxy, asked: dict) -> list[dict]:
    with proxy.lock:
        return list(proxy.journal)


def clear_journal(proxy: Proxy, asked: dict) -> list[dict]:
    with proxy.lock:
        gone, proxy.journal = proxy.journal, []
    return gone


CONTROLS = {
    ("POST", "host"): add_host,
    ("POST", "credentials"): set_credentials,
    ("GET", "journal"): read_journal,
    ("DELETE", "journal"): clear_journal,
}


def die_with_parent() -> None:
    """SIGTERM when the parent process ends; not when the thread that started us does."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(prog="netbed", description="An egress proxy and a private authority.")
    parser.add_argument("--dir", type=Path, required=True, help="folder for the certificates")
    parser.add_argument("--port", type=int, required=True, help="0 picks a free one")
    parser.add_argument("--port-file", type=Path, help="JSON with the address, written when ready")
    parser.add_argument("--die-with-parent", action="store_true")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if asked.die_with_parent:
        die_with_parent()
    asked.dir.mkdir(parents=True, exist_ok=True)
    write_certificates(asked.dir)
    proxy = Proxy(asked.port, asked.dir)
    port = proxy.server_address[1]
    info = {"port": port, "url": f"http://127.0.0.1:{port}", "ca": str(asked.dir / "ca.pem")}
    info = json.dumps(info | {"pid": os.getpid()})
    if asked.port_file:
        partial = asked.port_file.with_name(f".{asked.port_file.name}.{os.getpid()}")
        partial.write_text(info + "\n")
        partial.replace(asked.port_file)
    print(info, flush=True)
    try:
        proxy.serve_forever(poll_interval=0.1)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
