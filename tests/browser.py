"""A real Chromium without a screen, told what to do by WebDriver (W3C), JSON over HTTP that needs no package."""

from __future__ import annotations

import builtins
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from processes import PATIENCE

needs_chromium = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="chromium or chromedriver is not installed"
)
FLAGS = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "disable-dev-shm-usage",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key under which WebDriver names an element (12.2)."""
UNTIL = """return new Promise((done) => {
  const begin = performance.now();
  const look = () => {
    const passed = performance.now() - begin;
    if (CONDITION) done(passed);
    else if (passed > PATIENCE) done(-1);
    else setTimeout(look, 10);
  };
  look();
});"""


def _driver(directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A running chromedriver and its port. It looks for a free one, and ends if somebody else has it by then."""
    home = {"HOME": str(directory), "XDG_CONFIG_HOME": str(directory), "XDG_CACHE_HOME": str(directory)}
    said = b""
    for _ in range(5):
        driver = subprocess.Popen(
            ["chromedriver", "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **home},
            start_new_session=True,
        )
        assert driver.stdout is not None
        for line in driver.stdout:
            said += line
            started = re.search(rb"started successfully on port (\d+)", line)
            if started:
                return driver, int(started[1])
        driver.communicate()
    pytest.fail(f"chromedriver did not start: {said.decode()}")


class Browser:
    """One window; ended with the block, whatever it holds open."""

    def __init__(self, directory: Path, *, scripts: bool = True) -> None:
        self._session = ""
        self._driver, self._port = _driver(directory)
        preferences = {} if scripts else {"profile.managed_default_content_settings.javascript": 2}
        options = {
            "args": [*(f"--{flag}" for flag in FLAGS), f"--user-data-dir={directory / 'profile'}"],
            "binary": shutil.which("chromium"),
            "prefs": preferences,
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{session['sessionId']}"
        self._ask("POST", "/timeouts", dict.fromkeys(("script", "pageLoad", "implicit"), int(PATIENCE * 1000)))

    def _ask(self, method: str, path: str, content: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2 * PATIENCE)
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, self._session + path, body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        value = answer["value"]
        assert not (isinstance(value, dict) and "error" in value), value
        return value

    def open(self, address: str) -> None:
        """Load a page, whole."""
        self._ask("POST", "/url", {"url": address})

    @property
    def address(self) -> str:
        """Where it is."""
        return str(self._ask("GET", "/url"))

    def arrives(self, address: str) -> None:
        """Wait until a click has led there; nothing tells when."""
        end = time.monotonic() + PATIENCE
        while self.address != address:
            assert time.monotonic() < end, f"it is at {self.address}"
            time.sleep(0.01)

    @property
    def title(self) -> str:
        return str(self._ask("GET", "/title"))

    def script(self, code: str, *arguments: Any) -> Any:
        """What a script returns; it may do what a person at the console may."""
        return self._ask("POST", "/execute/sync", {"script": code, "args": arguments})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def until(self, condition: str) -> float:
        """Wait until an expression is true in the page, where nothing but the page is asked; milliseconds it took."""
        patience = str(PATIENCE * 1000 - 1000)
        took = self.script(UNTIL.replace("CONDITION", condition).replace("PATIENCE", patience))
        assert took >= 0, f"{condition} was never true; the page says: {self.script('return document.body.innerText')}"
        return float(took)

    def find(self, selector: str) -> str:
        """The element that a selector finds."""
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[ELEMENT])

    def click(self, selector: str) -> None:
        """Click on what can be seen and reached."""
        self._ask("POST", f"/element/{self.find(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into a field."""
        self._ask("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def text(self, selector: str) -> str:
        """What can be read in an element."""
        return str(self._ask("GET", f"/element/{self.find(selector)}/text"))

    def width(self, width: int, height: int) -> None:
        """Become a screen of this size."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def console(self) -> list[str]:
        """What was said on the console since the last time: errors, violations of a policy."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: builtins.type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._session:
                self._ask("DELETE", "")
        finally:
            os.killpg(self._driver.pid, signal.SIGKILL)
            self._driver.wait(PATIENCE)
            assert self._driver.stdout is not None
            self._driver.stdout.close()
