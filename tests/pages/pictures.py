"""Renews the pictures of README.md in `docs/pictures`: `PYTHONPATH=tests python -m pages.pictures`.

A running sidecar with stand-in workers, of which one is down, under a light load; and the site as Sphinx builds it.
Chromium photographs both, in light and dark.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from browser import Browser
from busy import Address, AnsweringWorker, sync_of
from processes import ROOT, Running, connect, exchange

PICTURES = ROOT / "docs" / "pictures"
WIDTH, HEIGHT = 1120, 640
REQUESTS = 1200
"""Answered before the picture is taken: some ten seconds, so that rates and curves have something to show."""
PAUSE = 0.01
NAMES = ("main", "client1", "client2", "sync1", "sync2", "typing1", "media1", "federation1")
DOWN = "sync2"
CONFIGURATION = """\
listen: "tcp:0:interface=127.0.0.1"
admin: "tcp:0:interface=127.0.0.1:backlog=20"
operator: {actions: page}
timeouts: {wait: 2s}
synapse: {version: "1.163.2"}
workers:
  main: {endpoint: "unix:main.sock"}
  client1: {endpoint: "unix:client1.sock", serves: client}
  client2: {endpoint: "unix:client2.sock", serves: client}
  sync1: {endpoint: "unix:sync1.sock", serves: client}
  sync2: {endpoint: "unix:sync2.sock", serves: client}
  typing1: {endpoint: "unix:typing1.sock", serves: client, writes: typing}
  media1: {endpoint: "unix:media1.sock", serves: media}
  federation1: {endpoint: "unix:federation1.sock", serves: federation}
pools:
  sync: {workers: "sync*"}
  client: {workers: "client*"}
  rooms: {workers: "client*"}
"""
OTHERS = (
    "GET /_matrix/client/v3/rooms/%21room{}%3Aexample.org/messages",
    "GET /_matrix/client/v3/profile/%40user{}%3Aexample.org",
    "GET /_matrix/client/v1/media/download/example.org/picture{}",
    "GET /_matrix/federation/v1/version?{}",
    "PUT /_matrix/client/v3/rooms/%21room{}%3Aexample.org/typing/%40user%3Aexample.org",
)


def requests() -> Iterator[bytes]:
    """Syncs of many users, and some of everything else."""
    for number in count():
        if number % 3:
            yield sync_of(number % 40)
        else:
            line = OTHERS[number // 3 % len(OTHERS)].format(number % 12)
            yield f"{line} HTTP/1.1\r\nHost: example.org\r\nContent-Length: 0\r\n\r\n".encode()


@contextmanager
def busy(address: Address) -> Iterator[None]:
    """One request after the other, at a walking pace, until the block ends; begins when there have been enough."""
    enough, over = threading.Event(), threading.Event()

    def walk() -> None:
        with connect(address) as connection:
            for number, request in enumerate(requests()):
                exchange(connection, request)
                if number == REQUESTS:
                    enough.set()
                if over.wait(PAUSE):
                    return

    walker = threading.Thread(target=walk, daemon=True)
    walker.start()
    try:
        assert enough.wait(120), "the requests were not answered"
        yield
    finally:
        over.set()
        walker.join()


def photograph(browser: Browser, name: str) -> None:
    """What can be seen, in light and in dark."""
    for scheme in ("light", "dark"):
        browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        picture = browser.devtools("Page.captureScreenshot", format="png", optimizeForSpeed=False)["data"]
        (PICTURES / f"{name}-{scheme}.png").write_bytes(base64.b64decode(picture))


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        (directory / "sidecar.yaml").write_text(CONFIGURATION)
        workers = [AnsweringWorker(directory, name) for name in NAMES if name != DOWN]
        with Browser(directory / "browser") as browser:
            browser.width(WIDTH, HEIGHT)
            with Running(["-c", str(directory / "sidecar.yaml")], directory) as sidecar:
                operator = sidecar.says(r"operator is listened to on (127\.0\.0\.1:\d+)")[1]
                with busy(sidecar.address()):
                    browser.open(f"http://{operator}/")
                    photograph(browser, "status-page")
            subprocess.run([sys.executable, "-m", "sphinx", "-q", ROOT / "docs", directory / "site"], check=True)
            browser.open((directory / "site" / "getting-started.html").as_uri())
            photograph(browser, "site")
        for worker in workers:
            worker.close()


if __name__ == "__main__":
    main()
