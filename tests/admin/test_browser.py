"""The status page in a real Chromium: live, by hand, without scripts, on a phone, and under attack."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, needs_chromium
from busy import AnsweringWorker, BusyClients, sync_of
from processes import ROOT, Running, environment

from sidecar.config.passwords import hashed

pytestmark = needs_chromium

LONG = "a-worker-with-a-name-that-is-as-long-as-names-of-workers-in-large-deployments-are"
NAMES = ("main", "sync1", "sync2", "typing1")
HOSTILE = "<img src=x onerror=window.hacked=1>"
CONFIGURATION = """\
listen: "tcp:0:interface=127.0.0.1"
admin: "tcp:0:interface=127.0.0.1:backlog=20"
synapse: {version: "1.163.2"}
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock", serves: client}
  sync2: {endpoint: "unix:sync2.sock", serves: client}
  typing1: {endpoint: "unix:typing1.sock", serves: client, writes: typing}
  LONG: {endpoint: "unix:main.sock"}
pools:
  sync: {workers: "sync*"}
  client: {workers: main}
  rooms: {workers: main}
  unused: {workers: main}
operator:
  actions: page
""".replace("LONG", LONG)
WORKER = "import signal, sys; from pathlib import Path; from busy import AnsweringWorker;"
WORKER += "worker = AnsweringWorker(Path(sys.argv[1]), sys.argv[2]); print('ready', flush=True); signal.pause()"
ROW = "document.getElementById('worker-{}').textContent"


class Mortal:
    """A worker in a process of its own, which can be killed."""

    def __init__(self, directory: Path, name: str) -> None:
        (directory / f"{name}.sock").unlink(missing_ok=True)
        path = os.pathsep.join((str(ROOT / "tests"), environment()["PYTHONPATH"]))
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(directory), name],
            stdout=subprocess.PIPE,
            env=environment(PYTHONPATH=path),
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Gate:
    """A sidecar in a process of its own, with workers that answer."""

    def __init__(self, directory: Path, more: str = "") -> None:
        directory.mkdir()
        (directory / "sidecar.yaml").write_text(CONFIGURATION + more)
        self.directory = directory
        self.workers: dict[str, Mortal | AnsweringWorker] = {name: AnsweringWorker(directory, name) for name in NAMES}
        self.sidecar = Running(["-c", str(directory / "sidecar.yaml")], directory)
        self.operator = int(self.sidecar.says(r"operator is listened to on 127\.0\.0\.1:(\d+)")[1])
        self.address = self.sidecar.address()
        self.page = f"http://127.0.0.1:{self.operator}/"

    def ask(self, method: str, path: str, **fields: str) -> tuple[int, Any]:
        """As curl would."""
        connection = http.client.HTTPConnection("127.0.0.1", self.operator, timeout=30)
        connection.request(method, path, headers=fields)
        answer = connection.getresponse()
        told = answer.read()
        connection.close()
        return answer.status, json.loads(told)

    def state(self, name: str) -> str:
        return str(self.ask("GET", "/api/status")[1]["workers"][name]["state"])

    def calm(self) -> None:
        """As it was at the start."""
        for name in NAMES:
            self.ask("POST", f"/api/workers/{name}/undrain")

    def close(self) -> None:
        self.sidecar.__exit__(None, None, None)
        for worker in self.workers.values():
            worker.close()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """Its directory has a name that a page must not take for HTML; a warning names the file in it."""
    gate = Gate(tmp_path_factory.mktemp("gate") / HOSTILE)
    yield gate
    gate.close()


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(window: Browser, gate: Gate) -> Iterator[Browser]:
    """On the status page; at the end nothing may have been said on the console, and nothing foreign may have run."""
    gate.calm()
    window.width(1280, 900)
    window.open(gate.page)
    window.console()
    yield window
    assert window.script("return window.hacked") is None
    assert window.console() == []


def test_it_is_live(browser: Browser, gate: Gate) -> None:
    """Rates and totals move while requests are answered, without the page being loaded again."""
    browser.script("window.mark = 1")
    assert "gate" not in browser.title
    assert browser.title.startswith("ready · ")
    total = "document.querySelector('.figures dd + dd').textContent"
    with BusyClients(4, gate.address, sync_of) as clients:
        clients.more(100)
        browser.until("parseFloat(document.querySelector('.figures dd').textContent) > 0")
        before = browser.script(f"return {total}")
        clients.more(100)
        browser.until(f"{total} !== {json.dumps(before)}")
        browser.until(f"/[1-9][0-9,.]*[/]s/.test({ROW.format('sync1')})")
        browser.until(f"/ ms/.test({ROW.format('sync1')}) || true")
    assert not clients.failures
    assert browser.script("return window.mark") == 1
    assert browser.script("return document.getElementById('pulse').className") == "alive"


def test_what_is_open_stays_open(browser: Browser) -> None:
    """Focus, selection and what was typed survive that the page is kept fresh."""
    browser.type("#request", "GET /half")
    browser.script("document.querySelector('#worker-sync1 a').focus()")
    time = browser.script("return document.getElementById('live').dataset.time")
    browser.until(f"document.getElementById('live').dataset.time !== {json.dumps(time)}")
    assert browser.script("return document.activeElement.getAttribute('aria-label')") == "Drain sync1"
    assert browser.script("return document.getElementById('request').value") == "GET /half"


def test_sorting(browser: Browser, gate: Gate) -> None:
    """A click on a title sorts at once, and the address says so."""
    gate.ask("POST", "/api/workers/typing1/drain")
    browser.click("a[href='./?sort=state']")
    browser.until("document.querySelector('#workers tbody tr').id === 'worker-typing1'")
    assert browser.address == f"{gate.page}?sort=state"


def test_a_worker_is_drained(browser: Browser, gate: Gate) -> None:
    """Not before it is confirmed; then its row says so, and the other button brings it back."""
    browser.click("[aria-label='Drain sync1']")
    browser.until("document.querySelector('dialog[open] #question') !== null")
    assert "Drain sync1?" in browser.text("dialog")
    assert "sync2 takes its requests" in browser.text("dialog")
    browser.click("dialog [data-cancel]")
    browser.until("document.querySelector('dialog[open]') === null")
    assert gate.state("sync1") == "up"
    browser.click("[aria-label='Drain sync1']")
    browser.until("document.querySelector('dialog[open] #question') !== null")
    browser.click("dialog button[type=submit]")
    browser.until(f"{ROW.format('sync1')}.includes('draining')")
    assert gate.state("sync1") == "draining"
    browser.click("[aria-label='Resume sync1']")
    browser.until("document.querySelector('dialog[open] #question') !== null")
    browser.click("dialog button[type=submit]")
    browser.until(f"!{ROW.format('sync1')}.includes('draining')")
    assert gate.state("sync1") == "up"


def test_a_weight_is_set(browser: Browser, gate: Gate) -> None:
    """The row says it beside the file's; an empty field is the file's again, and what cannot be is told."""
    for typed, shown in (("0.5", "weight 0.5 (file: 1)"), ("", "")):
        browser.click("[aria-label='Change sync1']")
        browser.until("document.querySelector('dialog[open] #question') !== null")
        browser.script(f"document.querySelector('dialog [name=weight]').value = '{typed}'")
        browser.click("dialog button[type=submit]")
        browser.until("document.querySelector('dialog[open]') === null")
        browser.until(f"{ROW.format('sync1')}.includes({json.dumps(shown)})")
        assert bool(gate.ask("GET", "/api/status")[1]["workers"]["sync1"]["overrides"]) is bool(typed)
    browser.until(f"!{ROW.format('sync1')}.includes('file: 1')")
    browser.click("[aria-label='Change sync1']")
    browser.until("document.querySelector('dialog[open] #question') !== null")
    browser.script("document.querySelector('dialog [name=maximum]').value = '0'")
    browser.click("dialog button[type=submit]")
    browser.until("document.querySelector('dialog').textContent.includes('A maximum is a whole number')")
    browser.click("dialog button")
    (said,) = browser.console()
    assert "400" in said


def test_maintenance_mode_is_turned_on_and_off(browser: Browser, gate: Gate) -> None:
    """At the foot of the page, with a text; the verdict says so until it is off."""
    browser.click("[href='maintenance/on']")
    browser.until("document.querySelector('dialog[open] #question') !== null")
    browser.script("document.querySelector('dialog [name=text]').value = 'Back at noon.'")
    browser.click("dialog button[type=submit]")
    browser.until("document.getElementById('verdict').textContent.includes('Maintenance mode is on')")
    assert gate.ask("GET", "/api/status")[1]["maintenance"]["text"] == "Back at noon."
    browser.until("document.querySelector(\"[href='maintenance/off']\") !== null")
    browser.click("[href='maintenance/off']")
    browser.until("document.querySelector('dialog[open] #question') !== null")
    browser.click("dialog button[type=submit]")
    browser.until("!document.getElementById('verdict').textContent.includes('Maintenance')")
    assert gate.ask("GET", "/api/status")[1]["maintenance"] is None


def test_a_drain_that_is_refused(browser: Browser) -> None:
    """A form from before a restart says why it does nothing."""
    browser.click("[aria-label='Drain sync1']")
    browser.until("document.querySelector('dialog[open] #question') !== null")
    browser.script("document.querySelector('dialog [name=token]').value = 'old'")
    browser.click("dialog button[type=submit]")
    browser.until("document.querySelector('dialog').textContent.includes('before a restart')")
    browser.click("dialog button")
    (said,) = browser.console()
    assert "403" in said


def test_a_broken_worker_is_seen(browser: Browser, gate: Gate) -> None:
    """Within two seconds, at the best of three times because other things run on this machine, too."""
    took: list[float] = []
    while len(took) < 3 and not any(each < 2000 for each in took):
        worker = Mortal(gate.directory, "sync2")
        browser.until(f"{ROW.format('sync2')}.includes('up')")
        ends = threading.Thread(target=worker.close)
        clients = [socket.create_connection(gate.address) for _ in range(20)]
        ends.start()
        for number, client in enumerate(clients):
            client.sendall(sync_of(number))
        took.append(browser.until(f"{ROW.format('sync2')}.includes('down')"))
        assert browser.title.startswith("sync2 down · ")
        assert "all pools are still served" in browser.text("#verdict")
        ends.join()
        for client in clients:
            client.close()
    gate.workers["sync2"] = Mortal(gate.directory, "sync2")
    browser.until(f"!{ROW.format('sync2')}.includes('down')")
    assert min(took) < 2000


def test_a_request_is_explained(browser: Browser) -> None:
    """In place, with what was asked still in the box; a hostile one is text."""
    browser.type("#request", "GET /_matrix/client/v3/sync?since=1")
    browser.click("#explain-form button")
    browser.until("document.getElementById('explained').textContent.includes('forward to ')")
    assert "not chosen" in browser.text("#explained").lower()
    browser.script("document.getElementById('request').value = ''")
    browser.type("#request", f"GET /{HOSTILE.replace(' ', '/')}\nX: {HOSTILE}")
    browser.click("#explain-form button")
    browser.until(f"document.getElementById('explained').textContent.includes({json.dumps(HOSTILE.replace(' ', '/'))})")
    browser.script("document.getElementById('request').value = ''")
    browser.type("#request", HOSTILE)
    browser.click("#explain-form button")
    browser.until("document.getElementById('explained').textContent.includes('no request')")
    assert browser.script("return document.querySelectorAll('main img').length") == 0


def test_hostile_text_is_shown(browser: Browser) -> None:
    """The directory of the configuration file stands in a warning, letter by letter."""
    assert HOSTILE in browser.text("#configuration")
    assert browser.script("return document.querySelectorAll('main img').length") == 0


def test_the_policy_holds(browser: Browser) -> None:
    """Even what would get into the page is not run: nothing inline, and nothing from elsewhere."""
    browser.script("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked=1\">')")
    browser.script(
        "const s = document.createElement('script'); s.textContent = 'window.hacked=1'; document.body.append(s)"
    )
    browser.script("document.body.insertAdjacentHTML('beforeend', '<p id=styled style=\"color:red\">x</p>')")
    assert browser.script("return getComputedStyle(document.getElementById('styled')).color") != "rgb(255, 0, 0)"
    refused = browser.script("return fetch('http://127.0.0.1:1/').catch((error) => String(error))")
    assert "TypeError" in refused
    assert browser.script("return window.hacked") is None
    said = browser.console()
    assert any("Content Security Policy" in each and "nline" in each for each in said)
    assert any("Content Security Policy" in each and "connect-src" in each for each in said)


@pytest.mark.parametrize("width", [320, 390, 760, 1280])
def test_nothing_is_wider_than_the_screen(browser: Browser, gate: Gate, width: int) -> None:
    """On any screen from the smallest phone on: the page, an answer, a question."""
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    browser.width(width, 800)
    browser.open(gate.page)
    assert not browser.script(f"return {wide}")
    browser.type("#request", "GET /_matrix/client/v3/" + "x" * 300 + "\nA: b")
    browser.click("#explain-form button")
    browser.until("document.getElementById('explained').textContent.includes('forward to ')")
    assert not browser.script(f"return {wide}")
    browser.script("document.querySelector('[data-confirm]').click()")
    browser.until("document.querySelector('dialog[open] #question') !== null")
    assert not browser.script(f"return {wide}")
    browser.open(f"{gate.page}workers/sync1/drain")
    assert not browser.script(f"return {wide}")


@pytest.fixture
def other(window: Browser, tmp_path: Path) -> Iterator[Callable[[str], Gate]]:
    """Starts another sidecar, with more in its configuration."""
    started: list[Gate] = []

    def start(more: str = "") -> Gate:
        started.append(Gate(tmp_path / f"other{len(started)}", more))
        return started[-1]

    yield start
    for gate in started:
        gate.close()
    window.open("about:blank")
    window.console()


def test_a_sidecar_that_is_gone(window: Browser, other: Callable[[str], Gate]) -> None:
    """The page says that it is not fresh any more, and for how long."""
    gate = other("")
    window.open(gate.page)
    gate.sidecar.__exit__(None, None, None)
    window.until("document.getElementById('pulse').className === 'lost'")
    assert window.text("#pulse").startswith("no answer for ")
    assert window.title.startswith("no answer · ")
    window.click("[aria-label='Drain sync1']")
    window.until("document.querySelector('dialog[open]') !== null")
    assert window.text("dialog p") == "The sidecar did not answer."


def test_a_password(window: Browser, other: Callable[[str], Gate], tmp_path: Path) -> None:
    """Once given it goes with everything that the page asks for, also where it stood in the address."""
    (tmp_path / "password").write_text(str(hashed(b"sesame")))
    gate = other(f"  password_file: {tmp_path / 'password'}\n")
    assert gate.ask("GET", "/")[0] == 401
    window.open(gate.page.replace("//", "//operator:sesame@"))
    window.console()
    time = window.script("return document.getElementById('live').dataset.time")
    window.until(f"document.getElementById('live').dataset.time !== {json.dumps(time)}")
    window.click("[aria-label='Drain sync1']")
    window.until("document.querySelector('dialog[open] #question') !== null")
    window.click("dialog button[type=submit]")
    window.until(f"{ROW.format('sync1')}.includes('draining')")
    assert window.console() == []


# Scripts are off.


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("plain"), scripts=False) as browser:
        yield browser


def test_without_scripts(plain: Browser, gate: Gate) -> None:
    """Everything is there as plain tables, links and forms: looking, sorting, draining, explaining."""
    gate.calm()
    plain.open(gate.page)
    assert "Scripts are off; this is how it was then." in plain.text("header")
    assert plain.text("#worker-sync1 th") == "sync1"
    assert "up" in plain.text("#worker-sync1")
    plain.click("[aria-label='Drain sync1']")
    plain.arrives(f"{gate.page}workers/sync1/drain")
    assert "sync2 takes its requests" in plain.text("#question")
    assert gate.state("sync1") == "up"
    plain.click("#question [data-cancel]")
    plain.arrives(gate.page)
    plain.click("[aria-label='Drain sync1']")
    plain.click("#question button")
    plain.arrives(gate.page)
    assert "draining" in plain.text("#worker-sync1")
    assert gate.state("sync1") == "draining"
    plain.click("a[href='./?sort=state']")
    plain.arrives(f"{gate.page}?sort=state")
    assert plain.text("#workers tbody th") == "sync1"
    plain.type("#request", "GET /_matrix/client/versions")
    plain.click("#explain-form button")
    plain.arrives(f"{gate.page}explain")
    assert "forward to " in plain.text("#explained")
    assert plain.text("#request") == "GET /_matrix/client/versions"
    plain.click("header h1 a")
    plain.arrives(gate.page)
    assert plain.console() == []


# A page of somebody else.

EVIL = """\
<!DOCTYPE html><title>evil</title><iframe src="{page}"></iframe>
<form id=drain method=post action="{page}workers/sync1/drain"><input name=token value=guess></form>
<form id=api method=post action="{page}api/workers/sync1/drain" target=frame></form><iframe name=frame></iframe>
"""
ATTACK = """
const attempts = [
  fetch(PAGE + "api/workers/sync1/drain", {method: "POST", mode: "no-cors"}),
  fetch(PAGE + "api/workers/sync1/drain", {method: "POST", mode: "no-cors", referrerPolicy: "no-referrer"}),
  fetch(PAGE + "api/workers/sync1/drain", {method: "POST", headers: {"Content-Type": "application/json"}}),
  fetch(PAGE + "api/status"), fetch(PAGE + "live"), fetch(PAGE, {mode: "no-cors"}),
];
document.getElementById("api").submit();
return Promise.allSettled(attempts).then((all) => all.map((each) => each.value ? each.value.type : "failed"));
"""


@pytest.fixture
def evil(gate: Gate) -> Iterator[str]:
    """The address of a page that knows where the sidecar is."""
    page = EVIL.format(page=gate.page).encode()

    class Evil(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Evil) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_page_of_somebody_else(window: Browser, gate: Gate, evil: str) -> None:
    """It reads nothing, drains nothing, frames nothing, whatever it makes the browser send."""
    gate.calm()
    window.open(evil)
    outcomes = window.script(f"const PAGE = {json.dumps(gate.page)}; {ATTACK}")
    assert set(outcomes) <= {"opaque", "failed"}
    assert outcomes[3:5] == ["failed", "failed"]
    window.until("window.frames.length === 2")
    assert window.script("return document.querySelector('iframe').contentDocument") is None
    assert any("frame-ancestors" in said or "X-Frame-Options" in said for said in window.console())
    window.script("document.getElementById('drain').submit()")
    window.until("location.pathname === '/workers/sync1/drain'")
    assert "Pages of other sites may not do this." in window.script("return document.body.innerText")
    assert gate.state("sync1") == "up"
    window.console()
