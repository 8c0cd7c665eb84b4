"""A registry of images over loopback HTTP, read-only: it serves images of `docker save` archives under other names.

An image keeps its layers. Variables can be added to its configuration, and files to it, in a layer on top.
Everything under /_bed is the control interface:
  POST /_bed/image  {"name": "team/tool:1", "archive": FILE, "image": "localhost/tool:bed",
                     "env": {"KEY": "value"}, "files": {"/path/in/image": FILE OR FOLDER}}
  GET|DELETE /_bed/journal
"""

import argparse
import hashlib
import json
import os
import re
import signal
import sys
import tarfile
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

PARENT_LOOK_SECONDS = 0.2
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
# Not compressed, as in the archive: the digest of a layer is its diff ID, and a node that has the layer pulls nothing.
LAYER = "application/vnd.docker.image.rootfs.diff.tar"
PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")


class Blob(NamedTuple):
    """A part of a file."""

    path: Path
    offset: int
    size: int


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, folder: Path) -> None:
        self.folder = folder
        self.blobs: dict[str, Blob] = {}
        # For each name, its manifests by tag and by digest.
        self.manifests: dict[str, dict[str, bytes]] = {}
        self.journal: list[dict] = []
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    def store(self, content: bytes) -> dict:
        """Writes a blob and returns what a manifest says of it, without the media type."""
        digest = digest_of(content)
        path = self.folder / digest.replace(":", "-")
        path.write_bytes(content)
        self.blobs[digest] = Blob(path, 0, len(content))
        return {"size": len(content), "digest": digest}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 120
    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/_bed"):
            self._control()
        elif path == "/v2/":
            self._answer(200, "application/json", b"{}")
        elif (found := PATH.fullmatch(path)) is None:
            self._refuse(404, "NAME_UNKNOWN", path)
        elif found["kind"] == "manifests":
            self._manifest(found["name"], found["reference"])
        else:
            self._blob(found["reference"])

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if self.path.startswith("/_bed"):
            self._control()
        else:
            self.close_connection = True  # the body is not read
            self._refuse(405, "UNSUPPORTED", "the registry is read-only")

    do_PUT = do_PATCH = do_DELETE = do_POST

    def _manifest(self, name: str, reference: str) -> None:
        manifest = self.server.manifests.get(name, {}).get(reference)
        if manifest is None:
            self._refuse(404, "MANIFEST_UNKNOWN", f"{name}: {reference}")
        else:
            self._answer(200, MANIFEST, manifest)

    def _blob(self, digest: str) -> None:
        blob = self.server.blobs.get(digest)
        if blob is None:
            self._refuse(404, "BLOB_UNKNOWN", digest)
            return
        self._note(200)
        self._head(200, "application/octet-stream", blob.size, digest)
        if self.command != "HEAD":
            with blob.path.open("rb") as file:
                self.connection.sendfile(file, blob.offset, blob.size)

    def _control(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        route = CONTROLS.get((self.command, self.path.removeprefix("/_bed/")))
        try:
            if route is None:
                raise ValueError(f"no {self.command} {self.path}")
            document = route(self.server, json.loads(body or b"{}"))
            status = 200
        except (ValueError, KeyError, OSError, tarfile.TarError) as error:
            status, document = 400, {"error": str(error)}
        self._write(status, "application/json", json.dumps(document).encode() + b"\n")

    def _refuse(self, status: int, code: str, message: str) -> None:
        errors = {"errors": [{"code": code, "message": message}]}
        self._answer(status, "application/json", json.dumps(errors).encode())

    def _answer(self, status: int, media_type: str, body: bytes) -> None:
        self._note(status)
        self._write(status, media_type, body)

    def _write(self, status: int, media_type: str, body: bytes) -> None:
        self._head(status, media_type, len(body), digest_of(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, media_type: str, size: int, digest: str) -> None:
        self.send_response(status)
        self.send_header("Docker-Distribution-API-Version", "registry/2.0")
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(size))
        self.send_header("Docker-Content-Digest", digest)
        self.end_headers()

    def _note(self, status: int) -> None:
        path = self.path.partition("?")[0]
        with self.server.lock:
            self.server.journal.append({"method": self.command, "path": path, "status": status})

    def log_message(self, *_) -> None:
        """The journal is the log."""


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def add_image(server: Server, asked: dict) -> dict:
    """Serves an image of an archive."""
    name, _, tag = asked["name"].rpartition(":")
    if not name:
        raise ValueError("name must be NAME:TAG")
    path = Path(asked["archive"])
    with tarfile.open(path) as archive:
        images = json.load(archive.extractfile("manifest.json"))
        image = next((one for one in images if asked["image"] in (one["RepoTags"] or ())), None)
        if image is None:
            raise ValueError(f"{asked['image']} is not in {path}")
        config = json.load(archive.extractfile(image["Config"]))
        layers = []
        for member, diff in zip(image["Layers"], config["rootfs"]["diff_ids"], strict=True):
            layer = archive.getmember(member)
            server.blobs[diff] = Blob(path, layer.offset_data, layer.size)
            layers.append({"mediaType": LAYER, "size": layer.size, "digest": diff})
    if files := asked.get("files"):
        layer = write_layer(server, files)
        config["rootfs"]["diff_ids"].append(layer["digest"])
        layers.append({"mediaType": LAYER, **layer})
    variables = dict(entry.split("=", 1) for entry in config["config"].get("Env") or ())
    variables |= asked.get("env") or {}
    config["config"]["Env"] = [f"{key}={value}" for key, value in variables.items()]
    stored = {"mediaType": CONFIG, **server.store(json.dumps(config).encode())}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": stored, "layers": layers}
    manifest = json.dumps(manifest).encode()
    digest = digest_of(manifest)
    server.manifests.setdefault(name, {}).update({tag: manifest, digest: manifest})
    return {"digest": digest}


def write_layer(server: Server, files: dict[str, str]) -> dict:
    """A layer with these files and folders, which belong to root."""

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    with tempfile.NamedTemporaryFile(dir=server.folder, delete=False) as file:
        with tarfile.open(fileobj=file, mode="w") as layer:
            for inside, outside in sorted(files.items()):
                layer.add(outside, inside.lstrip("/"), filter=owned)
    path = Path(file.name)
    with path.open("rb") as written:
        digest = "sha256:" + hashlib.file_digest(written, "sha256").hexdigest()
    server.blobs[digest] = Blob(path, 0, path.stat().st_size)
    return {"size": path.stat().st_size, "digest": digest}


def read_journal(server: Server, asked: dict) -> list[dict]:
    with server.lock:
        return list(server.journal)


def clear_journal(server: Server, asked: dict) -> list[dict]:
    with server.lock:
        gone, server.journal = server.journal, []
    return gone


CONTROLS = {
    ("POST", "image"): add_image,
    ("GET", "journal"): read_journal,
    ("DELETE", "journal"): clear_journal,
}


def die_with_parent() -> None:
    """SIGTERM when the parent process ends.

    Not the kernel's parent-death signal: that one fires when the *thread* that
    started us ends, and test runners start things from short-lived threads.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(prog="registrybed", description="A read-only registry on loopback.")
    parser.add_argument("--dir", type=Path, required=True, help="folder for configurations and layers")
    parser.add_argument("--port", type=int, required=True, help="0 picks a free one")
    parser.add_argument("--port-file", type=Path, help="JSON with the address, written when ready")
    parser.add_argument("--die-with-parent", action="store_true")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if asked.die_with_parent:
        die_with_parent()
    asked.dir.mkdir(parents=True, exist_ok=True)
    server = Server(asked.port, asked.dir)
    port = server.server_address[1]
    info = json.dumps({"url": f"http://127.0.0.1:{port}", "port": port, "pid": os.getpid()})
    if asked.port_file:
        partial = asked.port_file.with_name(f".{asked.port_file.name}.{os.getpid()}")
        partial.write_text(info + "\n")
        partial.replace(asked.port_file)
    print(info, flush=True)
    try:
        server.serve_forever(poll_interval=0.1)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
