"""The site: built strictly, without the network, every page within reach, and nothing fetched from elsewhere.

It is also looked at in a browser, as wide as a telephone.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import Browser, needs_chromium

from .blocks import ROOT

pytest.importorskip("furo")
pytest.importorskip("myst_parser")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As docs/conf.py says how; a warning is an error."""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-d", str(place / "trees")]
    done = subprocess.run([*command, ROOT / "docs", place / "html"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place / "html"


class Page(HTMLParser):
    """The addresses that a page links to, those that it fetches, and its own anchors."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(file.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.anchors.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        elif tag in ("img", "script", "iframe", "source") and "src" in values:
            self.fetched.add(values["src"])
        elif tag == "link":
            self.fetched.add(values["href"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {file.name: Page(file) for file in site.glob("*.html")}


def test_every_page_is_in_the_navigation(pages: dict[str, Page]) -> None:
    """From the front page, and there is one for each file."""
    written = {file.with_suffix(".html").name for file in (ROOT / "docs").glob("*.md")}
    assert written <= set(pages)
    assert written - {"index.html"} <= pages["index.html"].links


def test_every_link_leads_somewhere(site: Path, pages: dict[str, Page]) -> None:
    """To a file of the site and to an anchor that its page has; Sphinx does not look at all of them."""
    lost = []
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if not parts.scheme:
                target = unquote(parts.path) or name
                found = (site / target).is_file()
                anchored = not parts.fragment or parts.fragment in pages[target].anchors
                lost += [] if found and anchored else [f"{name}: {link}"]
    assert lost == []


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    """No script, style, font or picture of another host."""
    fetched = {address for page in pages.values() for address in page.fetched}
    assert [address for address in fetched if urlsplit(address).netloc] == []
    styles = "".join(file.read_text("utf-8") for file in site.glob("_static/**/*.css"))
    assert re.findall(r"url\(\s*['\"]?(?:https?:)?//[^)]*\)|@import[^;]*//[^;]*;", styles) == []


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@needs_chromium
@pytest.mark.parametrize("width", [390, 1120, 1280, 1366])
def test_no_page_scrolls_sideways(site: Path, browser: Browser, width: int) -> None:
    """Only its tables and blocks of code do."""
    browser.width(width, 844)
    too_wide = []
    for page in sorted(site.glob("*.html")):
        browser.open(page.as_uri())
        needed = browser.script("return document.documentElement.scrollWidth")
        too_wide += [f"{page.name}: {needed}"] if needed > width else []
    assert too_wide == []


@needs_chromium
def test_the_reference_needs_no_scrolling_on_a_telephone(site: Path, browser: Browser) -> None:
    """A table whose last column has sentences becomes a list, so that these can be read."""
    browser.width(390, 844)
    browser.open((site / "configuration.html").as_uri())
    script = "return [...document.querySelectorAll('table.stacked')].map((one) => [one.scrollWidth, one.innerText])"
    tables = browser.script(script)
    assert len(tables) > 5
    assert max(width for width, _ in tables) <= 390
    assert all("default: " in text for _, text in tables if "kind: " in text and "64K" in text)
