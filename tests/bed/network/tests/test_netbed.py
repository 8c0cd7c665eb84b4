"""The proxy and its certificates, tested with Python's own HTTP client."""

import http.client
import json
import ssl
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bedkit import launch
from bedkit.client import call


class Echo(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = json.dumps({"path": self.path, "host": self.headers["Host"], "body": body.decode()})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_):
        pass


class Network:
    def __init__(self, info: dict) -> None:
        self.info = info
        self.echo = HTTPServer(("127.0.0.1", 0), Echo)
        threading.Thread(target=self.echo.serve_forever, daemon=True).start()

    def control(self, method: str, path: str, **asked):
        return call(self.info["url"], method, path, asked if method == "POST" else None)

    def host(self, name: str, tls: bool) -> int:
        to = f"127.0.0.1:{self.echo.server_address[1]}"
        return self.control("POST", "host", name=name, to=to, tls=tls)["port"]

    def post(self, url: str, user: str = "", trust: bool = True) -> dict:
        proxy = f"http://{user}127.0.0.1:{self.info['port']}"
        context = ssl.create_default_context(cafile=self.info["ca"] if trust else None)
        handlers = [
            urllib.request.ProxyHandler({"http": proxy, "https": proxy}),
            urllib.request.HTTPSHandler(context=context),
        ]
        with urllib.request.build_opener(*handlers).open(url, data=b"hello", timeout=20) as answer:
            return json.load(answer)


@pytest.fixture
def network(tmp_path):
    with launch.bed("network", tmp_path / "network.json", "--dir", tmp_path) as info:
        made = Network(info)
        yield made
        made.echo.shutdown()


def test_names_lead_through_the_proxy_by_tunnel_and_by_absolute_address(network):
    network.host("a.corp.test", tls=True)
    network.host("b.corp.test", tls=False)
    answer = network.post("https://a.corp.test/x?y")
    assert answer == {"path": "/x?y", "host": "a.corp.test", "body": "hello"}
    assert network.post("http://b.corp.test/z")["path"] == "/z"
    assert network.control("DELETE", "journal") == [
        {"method": "CONNECT", "target": "a.corp.test:443", "status": 200},
        {"method": "POST", "target": "b.corp.test:80", "status": 200},
    ]
    assert network.control("GET", "journal") == []


def test_only_the_authority_is_trusted(network):
    port = network.host("a.corp.test", tls=True)
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        network.post("https://a.corp.test/", trust=False)
    context = ssl.create_default_context(cafile=network.info["ca"])
    direct = http.client.HTTPSConnection("0.0.0.0", port, context=context, timeout=20)
    direct.request("POST", "/direct", body="hello")
    assert json.load(direct.getresponse())["path"] == "/direct"


def test_strangers_and_unknown_names_are_refused(network):
    network.host("b.corp.test", tls=False)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        network.post("http://c.corp.test/")
    network.control("POST", "credentials", credentials="ann:hunter2")
    with pytest.raises(urllib.error.HTTPError, match="407"):
        network.post("http://b.corp.test/")
    assert network.post("http://b.corp.test/", user="ann:hunter2@")["body"] == "hello"
    assert [entry["status"] for entry in network.control("GET", "journal")] == [403, 407, 200]
