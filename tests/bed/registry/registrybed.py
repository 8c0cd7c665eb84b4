"""A read-only image registry over loopback HTTP that serves images of `docker save` archives under other names.

An image keeps its layers. Variables can be added to its configuration, and files in an additional layer.
Everything under /_bed is the control interface:
  POST /_bed/image  {"name": "team/tool:1", "archive": FILE, "image": "localhost/tool:bed",
                     "env": {"KEY": "value"}, "files": {"/path/in/image": FILE OR DIRECTORY}}
  GET|DELETE /_bed/journal
"""

import argparse
import hashlib
import json
import os
import re
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1]))  # contains bedkit
import bedkit.server
from bedkit import journal, program

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
# Not compressed, as in the archive: the digest of a layer is its diff ID, so a node that has the layer pulls nothing.
LAYER = "application/vnd.docker.image.rootfs.diff.tar"
PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")


class Blob(NamedTuple):
    """A blob, which is a part of a file."""

    path: Path
    offset: int
    size: int


class Server(bedkit.server.Server):
    def __init__(self, port: int, folder: Path) -> None:
        self.folder = folder
        self.blobs: dict[str, Blob] = {}
        # name -> its manifests by tag and by digest
        self.manifests: dict[str, dict[str, bytes]] = {}
        self.journal = journal.Journal()
        super().__init__(port, Handler)

    def store(self, content: bytes) -> dict:
        """Write a blob and return its descriptor for a manifest, without the media type."""
        digest = digest_of(content)
        path = self.folder / digest.replace(":", "-")
        path.write_bytes(content)
        self.blobs[digest] = Blob(path, 0, len(content))
        return {"size": len(content), "digest": digest}


class Handler(bedkit.server.Handler):
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
        status, document = self.call_control(CONTROLS, (OSError, tarfile.TarError))
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
        self.server.journal.add({"method": self.command, "path": path, "status": status})


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def add_image(server: Server, asked: dict) -> dict:
    """Serve an image of an archive."""
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
    """Write a layer with these files and directories, owned by root."""

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


CONTROLS = {
    ("POST", "image"): add_image,
    **journal.CONTROLS,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="registrybed", description="A read-only registry on loopback.")
    parser.add_argument("--dir", type=Path, required=True, help="directory for configurations and layers")
    program.add_port(parser)
    asked = program.begin(parser)
    asked.dir.mkdir(parents=True, exist_ok=True)
    server = Server(asked.port, asked.dir)
    program.announce({"url": server.url, "port": server.port, "pid": os.getpid()}, asked.port_file)
    program.serve(server)


if __name__ == "__main__":
    main()
