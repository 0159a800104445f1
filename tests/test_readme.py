"""What the front page promises: its commands, its configuration, its links, and what it tells the reverse proxy."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str, section: str = README) -> list[str]:
    """The fenced blocks in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    """The text below a heading, up to the next of its kind."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_two_commands_are_enough_and_are_the_ones_that_ci_runs() -> None:
    """One line starts the demonstration, one passes the tests, and .ci/run holds both as they are printed."""
    demo, test = blocks("sh", section("Try it"))
    assert demo.endswith("/twistd -n --pidfile= matrix-sidecar --demo\n")
    script = (ROOT / ".ci" / "run").read_text("utf-8").splitlines(keepends=True)
    assert [line for line in script if line.startswith(("demo=", "test="))] == [
        f"demo='{demo[:-1]}'\n",
        f"test='{test[:-1]}'\n",
    ]


def test_the_configuration_is_the_shipped_one() -> None:
    """The three lines that the page shows are those of conf/minimal.yaml, up to comments."""
    shipped = (ROOT / "conf" / "minimal.yaml").read_text("utf-8").splitlines(keepends=True)
    assert blocks("yaml") == ["".join(line for line in shipped if not line.startswith("#"))]


def test_links_lead_somewhere() -> None:
    """Every file that a page links to is there."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    targets = [
        (page, target) for page in pages for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    ]
    assert len(targets) > 5
    assert [f"{page.name}: {target}" for page, target in targets if not (page.parent / target).exists()] == []


def slug(heading: str) -> str:
    """The anchor that a heading has on the pages of a forge."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_anchors_are_headings() -> None:
    """Every link into a page leads to one of its headings."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    lost = []
    for page in pages:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
            text = (page.parent / target if target else page).read_text()
            if anchor not in {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}:
                lost.append(f"{page.name}: {target}#{anchor}")
    assert lost == []


@pytest.mark.skipif(shutil.which("nginx", path="/usr/sbin:/usr/bin") is None, reason="nginx is not installed")
def test_nginx_takes_what_the_page_gives_it(tmp_path: Path) -> None:
    """The lines for nginx are valid inside a server block."""
    (configured,) = blocks("nginx")
    page = f"error_log stderr; pid {tmp_path}/pid; events {{}}\nhttp {{ access_log off; server {{ listen 127.0.0.1:1;\n"
    (tmp_path / "nginx.conf").write_text(f"{page}{configured}}} }}\n")
    command = [shutil.which("nginx", path="/usr/sbin:/usr/bin") or "", "-t", "-p", str(tmp_path), "-c", "nginx.conf"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed")
def test_caddy_takes_what_the_page_gives_it(tmp_path: Path) -> None:
    """The lines for Caddy are valid inside a site block, and the sidecar is the one backend of both paths."""
    (configured,) = blocks("caddy")
    (tmp_path / "Caddyfile").write_text(f"http://matrix.example.org {{\n{configured}}}\n")
    command = ["caddy", "adapt", "--config", str(tmp_path / "Caddyfile")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.findall(r'"dial":"([^"]*)"', done.stdout) == ["127.0.0.1:8008"]
    assert re.findall(r'"path":(\[[^]]*\])', done.stdout) == ['["/_matrix/*","/_synapse/client/*"]']
