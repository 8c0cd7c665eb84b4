"""A corporate network on loopback: an egress proxy, and servers with certificates of a private authority.

Names such as git.corp.test are resolved only by the proxy, so a client that reaches one has used the proxy.
Requires the package `cryptography`. The control interface is at the proxy's own address, below /_bed:
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
import socket
import ssl
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

sys.path.append(str(Path(__file__).resolve().parents[1]))  # contains bedkit
import bedkit.server
from bedkit import journal, program

# A tunnel without traffic is closed after this time.
IDLE_SECONDS = 120
# A client answers the end of TLS immediately or never.
END_SECONDS = 2
DOMAIN = "corp.test"
# On Linux, 0.0.0.0 is this machine but not a loopback address: a server that is reached there without the proxy tests
# NO_PROXY.
ADDRESSES = ("127.0.0.1", "0.0.0.0", "::1")
HOP_BY_HOP = ("proxy-authorization", "proxy-connection", "connection", "keep-alive")


def write_certificates(folder: Path) -> None:
    """Write ca.pem, and server.pem with its key, for all names of the domain."""
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
    """Copy bytes in both directions until both sides have ended or one fails."""
    peers = {one: other, other: one}
    while peers:
        # select does not see data that TLS has already decrypted.
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
                    # The server has ended. Without a proper end of TLS, the client would report a broken connection.
                    peer.settimeout(END_SECONDS)
                    peer.unwrap()
                    return
                peer.shutdown(socket.SHUT_WR)
            except OSError:
                return


class Front:
    """Terminates TLS, and forwards the content to a server."""

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
            # A client that does not trust the certificate aborts the handshake.
            connection.close()
            return
        with inside, outside:
            pipe(inside, outside)


class Proxy(bedkit.server.Server):
    def __init__(self, port: int, folder: Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "server.pem")
        # The servers behind the proxy do not support HTTP/2.
        self.context.set_alpn_protocols(["http/1.1"])
        self.hosts: dict[str, tuple[str, int]] = {}
        self.credentials: str | None = None
        self.journal = journal.Journal()
        super().__init__(port, Handler)


class Handler(bedkit.server.Handler):
    timeout = IDLE_SECONDS
    server: Proxy

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
        """Return the address of a target, or send the refusal. Both are recorded in the journal."""
        proxy = self.server
        expected = proxy.credentials
        given = self.headers.get("Proxy-Authorization", "")
        basic = "Basic " + base64.b64encode((expected or "").encode()).decode()
        there = proxy.hosts.get(target)
        status = 407 if expected and given != basic else 200 if there else 403
        proxy.journal.add({"method": self.command, "target": target, "status": status})
        if status == 200:
            return there
        self.send_response(status)
        if status == 407:
            self.send_header("Proxy-Authenticate", 'Basic realm="corp"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def control(self) -> None:
        asked = json.loads(self.read_body() or b"{}")
        work = CONTROLS.get((self.command, self.path.removeprefix("/_bed/")))
        status, answer = (200, work(self.server, asked)) if work else (400, {"error": "unknown endpoint"})
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def add_host(proxy: Proxy, asked: dict) -> dict:
    """Allow a name, and return the port to which it leads; with TLS, that of the server with the certificate."""
    host, _, port = asked["to"].rpartition(":")
    there = (host, int(port))
    if asked.get("tls"):
        there = Front(proxy.context, there).address
    proxy.hosts[f"{asked['name']}:{asked.get('port', 443 if asked.get('tls') else 80)}"] = there
    return {"port": there[1]}


def set_credentials(proxy: Proxy, asked: dict) -> dict:
    proxy.credentials = asked["credentials"]
    return {}


CONTROLS = {
    ("POST", "host"): add_host,
    ("POST", "credentials"): set_credentials,
    **journal.CONTROLS,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="netbed", description="An egress proxy and a private authority.")
    parser.add_argument("--dir", type=Path, required=True, help="directory for the certificates")
    program.add_port(parser)
    asked = program.begin(parser)
    asked.dir.mkdir(parents=True, exist_ok=True)
    write_certificates(asked.dir)
    proxy = Proxy(asked.port, asked.dir)
    info = {"port": proxy.port, "url": proxy.url, "ca": str(asked.dir / "ca.pem")}
    program.announce(info | {"pid": os.getpid()}, asked.port_file)
    program.serve(proxy)


if __name__ == "__main__":
    main()
