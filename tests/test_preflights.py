"""Pages of another origin in a real browser: what the sidecar refuses or answers itself can be read by them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from attrs import frozen
from browser import Browser, needs_chromium
from processes import Running

pytestmark = needs_chromium

CONFIGURATION = """
listen: "tcp:0:interface=127.0.0.1"
timeouts: {wait: 10ms}
workers:
  main: {endpoint: "unix:main.sock"}
  web: {endpoint: "unix:web.sock", serves: [], health: false}
pools:
  web: {workers: [web]}
routes:
  - {path: /refused, refuse: 405}
  - {path: /there, respond: {status: 410, body: gone}}
  - {path: /mine, respond: {body: mine, headers: {Access-Control-Allow-Origin: "https://elsewhere.test"}}}
  - {path: /moved, redirect: {to: /there}}
  - {path: /down, pool: web}
"""
FETCH = """const [address, method] = arguments;
return fetch(address, {method: method, headers: {
  "Authorization": "Bearer x", "Content-Type": "application/json", "X-Own": "1",
}}).then((answer) => answer.text().then((text) => [answer.status, text]), (error) => [0, String(error)]);"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>a client</title>")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@frozen
class Client:
    """A Matrix client on a page of its own origin."""

    browser: Browser
    sidecar: str

    def fetch(self, method: str, path: str) -> tuple[int, str]:
        """Status and text that the page can read; status 0 where the browser keeps them from it."""
        status, text = self.browser.script(FETCH, self.sidecar + path, method)
        return status, text


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    place = tmp_path_factory.mktemp("sidecar")
    (place / "sidecar.yaml").write_text(CONFIGURATION)
    page = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    profile = tmp_path_factory.mktemp("browser")
    with Running(["-c", "sidecar.yaml"], place) as sidecar, Browser(profile) as browser:
        browser.open(f"http://127.0.0.1:{page.server_port}/")
        yield Client(browser, "http://{}:{}".format(*sidecar.address()))
    page.shutdown()
    page.server_close()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    ("path", "status", "part"),
    [
        ("/_synapse/admin/v1/rooms", 403, "M_FORBIDDEN"),
        ("/_synapse/mas/query_user", 403, "access.mas"),
        ("/refused", 405, "M_UNRECOGNIZED"),
        ("/there", 410, "gone"),
        ("/moved", 410, "gone"),
        ("/down", 503, "not available"),
    ],
)
def test_a_page_can_read_what_is_not_forwarded(client: Client, method: str, path: str, status: int, part: str) -> None:
    """With a token, a body of JSON and a header of its own, for which the browser asks first."""
    told, text = client.fetch(method, path)
    assert (told, part in text) == (status, True), text


def test_the_operator_can_keep_an_answer_from_other_origins(client: Client) -> None:
    """CORS headers that a route has are not replaced, in a preflight neither."""
    assert client.fetch("GET", "/mine")[0] == 0
