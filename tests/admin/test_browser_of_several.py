"""The status page of several instances in a real Chromium: one view, a drain on all or on one, and one that dies."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, needs_chromium
from family import Family, neighbour
from processes import free_ports

pytestmark = needs_chromium

ROW = "document.getElementById('worker-sync1').textContent"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "browser") as browser:
        yield browser


def drain(browser: Browser, verb: str, where: str) -> None:
    browser.click(f"[aria-label='{verb} sync1']")
    browser.until("document.querySelector('dialog[open] #question') !== null")
    browser.click(f"dialog [value={where}]")
    browser.click("dialog button[type=submit]")


def test_several_instances(browser: Browser, tmp_path: Path) -> None:
    """What is done on the page of one is done on all; it fits wide and narrow windows."""
    (tmp_path / "family").mkdir()
    (port,) = free_ports(1)
    with Family(tmp_path / "family", 2, "  actions: page\n", [f"tcp:127.0.0.1:{port}"]) as family:
        family.begin("seen", f"tcp:{port}:interface=127.0.0.1").says("operator is listened to on")
        browser.width(1280, 900)
        browser.open(f"http://127.0.0.1:{port}/")
        table = "document.getElementById('instances').textContent"
        browser.until(f"{table}.includes('m-1Ready') && {table}.includes('m-2Ready')")
        drain(browser, "Drain", "all")
        browser.until(f"{ROW}.includes('draining')")
        assert [family.state(name, "sync1") for name in family.names] == ["draining", "draining"]
        browser.until(f"!{ROW}.includes('up on')")
        drain(browser, "Resume", "own")
        browser.until(f"{ROW}.includes('draining on m-1, m-2') && {ROW}.includes('up on 127.0.0.1:{port}')")
        assert [family.state(name, "sync1") for name in family.names] == ["draining", "draining"]
        browser.click("[aria-label='Change sync1']")
        browser.until("document.querySelector('dialog[open] #question') !== null")
        browser.script("document.querySelector('dialog [name=weight]').value = '2'")
        browser.click("dialog button[type=submit]")
        browser.until(f"{ROW}.includes('weight 2 (file: 1)') && !{ROW}.includes('(file: 1) on')")
        assert [family.weight(name, "sync1") for name in family.names] == [2, 2]
        family.running["m-2"].signal(signal.SIGKILL)
        family.running["m-2"].ends()
        browser.until(
            "document.getElementById('verdict').textContent.includes('m-2 does not answer: Connection refused')"
        )
        assert "m-2 does not answer" in browser.title
        for width in (1280, 390):
            browser.width(width, 900)
            assert browser.script("return document.documentElement.scrollWidth") <= width
        assert browser.console() == []
        drain(browser, "Resume", "all")
        browser.until("document.querySelector('dialog').textContent.includes('Not done on m-2: Connection refused')")
        assert family.state("m-1", "sync1") == "up"
        (said,) = browser.console()
        assert "502" in said


def test_a_sibling_that_may_take_long(browser: Browser, tmp_path: Path) -> None:
    """The page waits as long as `operator.sibling_timeout` lets a sibling take, and then says who did not answer."""
    (tmp_path / "family").mkdir()
    (port,) = free_ports(1)
    silent = neighbour(tmp_path / "family" / "hangs.sock", b"")
    settings, siblings = "  actions: page\n  sibling_timeout: 6s\n", [f"tcp:127.0.0.1:{port}", "unix:hangs.sock"]
    with Family(tmp_path / "family", 0, settings, siblings) as family:
        family.begin("seen", f"tcp:{port}:interface=127.0.0.1").says("operator is listened to on")
        browser.open(f"http://127.0.0.1:{port}/")
        drain(browser, "Drain", "all")
        browser.until("document.querySelector('dialog').textContent.includes('no answer within 6 s')")
    silent.close()
