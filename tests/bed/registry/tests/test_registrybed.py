"""The registry, tested with the requests of a container runtime."""

import hashlib
import io
import json
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from bedkit import launch

LAYER = b"a tar of a root file system" * 1000


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def write_archive(path: Path) -> None:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/tool"], "Env": ["PATH=/bin", "MODE=a=b"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(LAYER)]},
    }
    manifest = [{"Config": "c.json", "RepoTags": ["localhost/tool:bed"], "Layers": ["layer.tar"]}]
    members = {"layer.tar": LAYER, "c.json": json.dumps(config).encode()}
    members["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


class Registry:
    def __init__(self, url: str, archive: Path) -> None:
        self.url, self.archive = url, archive
        write_archive(archive)

    def ask(self, path: str, method: str = "GET", body: dict | None = None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data=data, method=method)
        with urllib.request.urlopen(request) as answer:
            return answer.headers, answer.read()

    def serve(self, **more) -> str:
        image = {"name": "team/tool:1", "archive": str(self.archive), "image": "localhost/tool:bed"}
        _, answer = self.ask("/_bed/image", "POST", image | more)
        return json.loads(answer)["digest"]

    def blob(self, described: dict) -> bytes:
        _, content = self.ask(f"/v2/team/tool/blobs/{described['digest']}")
        assert digest(content) == described["digest"] and len(content) == described["size"]
        return content

    def refused(self, path: str, method: str = "GET", body: dict | None = None) -> tuple[int, dict]:
        with pytest.raises(urllib.error.HTTPError) as raised:
            self.ask(path, method, body)
        return raised.value.code, json.loads(raised.value.read())


@pytest.fixture
def registry(tmp_path):
    with launch.bed("registry", tmp_path / "registry.json", "--dir", tmp_path / "blobs") as info:
        yield Registry(info["url"], tmp_path / "images.tar")


def test_an_image_keeps_its_layers_and_gets_variables(registry):
    told = registry.serve(env={"MODE": "c", "KEY": "value"})
    assert registry.ask("/v2/")[1] == b"{}"
    for reference in ("1", told):
        # A runtime tells a mirror which registry it replaces.
        path = f"/v2/team/tool/manifests/{reference}?ns=docker.io"
        headers, manifest = registry.ask(path)
        assert headers["Docker-Content-Digest"] == digest(manifest) == told
        head, nothing = registry.ask(path, "HEAD")
        assert head["Content-Length"] == str(len(manifest)) and nothing == b""
    manifest = json.loads(manifest)
    assert headers["Content-Type"] == manifest["mediaType"]
    assert [registry.blob(layer) for layer in manifest["layers"]] == [LAYER]
    config = json.loads(registry.blob(manifest["config"]))
    assert config["config"]["Env"] == ["PATH=/bin", "MODE=c", "KEY=value"]
    assert config["config"]["Entrypoint"] == ["/tool"]


def test_files_are_a_layer_on_top(registry, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    program = folder / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    told = registry.serve(files={"/opt/more": str(folder)})
    manifest = json.loads(registry.ask(f"/v2/team/tool/manifests/{told}")[1])
    first, added = (registry.blob(layer) for layer in manifest["layers"])
    config = json.loads(registry.blob(manifest["config"]))
    assert config["rootfs"]["diff_ids"] == [digest(first), digest(added)]
    with tarfile.open(fileobj=io.BytesIO(added)) as layer:
        entries = [(entry.name, entry.mode, entry.uid) for entry in layer]
    assert entries == [("opt/more", 0o755, 0), ("opt/more/program", 0o755, 0)]


def test_what_is_not_there_and_what_would_write_is_refused(registry):
    registry.serve()
    for path, code in (
        ("/v2/team/tool/manifests/2", "MANIFEST_UNKNOWN"),
        ("/v2/team/other/manifests/1", "MANIFEST_UNKNOWN"),
        (f"/v2/team/tool/blobs/{digest(b'')}", "BLOB_UNKNOWN"),
    ):
        status, answer = registry.refused(path)
        assert (status, answer["errors"][0]["code"]) == (404, code)
    status, answer = registry.refused("/v2/team/tool/blobs/uploads/", "POST")
    assert (status, answer["errors"][0]["code"]) == (405, "UNSUPPORTED")
    image = {"name": "team/tool:1", "archive": str(registry.archive), "image": "localhost/other:bed"}
    status, answer = registry.refused("/_bed/image", "POST", image)
    assert status == 400 and "localhost/other:bed is not in" in answer["error"]
    journal = json.loads(registry.ask("/_bed/journal", "DELETE")[1])
    assert [entry["status"] for entry in journal] == [404, 404, 404, 405]
    assert journal[0] == {"method": "GET", "path": "/v2/team/tool/manifests/2", "status": 404}
    assert json.loads(registry.ask("/_bed/journal")[1]) == []
