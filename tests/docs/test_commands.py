"""Everything that the pages tell people to type: it runs, on a machine where it may, and prints what the page says."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from .blocks import PAGES, ROOT, Block, blocks, commands, missing
from .machine import Machine, pack_wheels, separable

RUN = {"sh", "console"}
FRESH = {"README.md", "getting-started.md"}
"""Pages that begin where nothing of the sidecar is installed; on the others it runs."""

AT_A_TERMINAL = r"printf '\n%.0s' {{1..9}} | script --quiet --return --flush --command {} /dev/null"
ADD = """
import pathlib, sys, yaml
file = pathlib.Path(sys.argv[1])
first = file.with_suffix(".first")
first.exists() or first.write_bytes(file.read_bytes())
whole = yaml.safe_load(first.read_text())
for key, value in yaml.safe_load(sys.stdin).items():
    whole[key] = {**whole.get(key, {}), **value} if isinstance(value, dict) else whole.get(key, []) + value
file.write_text(yaml.safe_dump(whole) + "# end\\n")
"""
"""What a person does with an editor."""
FILES = """
rm -rf /etc/nginx && mkdir /etc/nginx /etc/haproxy
python -c 'from pathlib import Path
from importing.test_import_command import written
written("docker-nginx", Path("/etc/nginx"))
written("two-hosts", Path("/etc/haproxy"))'
"""
INSTALLED = next(
    block.text for block in blocks(ROOT / "docs/getting-started.md") if block.language == "sh" and not block.remark
)
"""With pip, as a person does it. Uninstalling needs something that is installed."""
PREPARED = {
    "commands.md": FILES
    + """
(cat /etc/matrix-sidecar/sidecar.yaml; echo 'limits: {worker_connecting: 60}') >sidecar.yaml
sed 's/weight: 2.*//' conf/explicit.yaml >old.yaml
sed 's/^pools:/  sync3: {endpoint: "unix:sync3.sock", serves: client}\\n&/' old.yaml >new.yaml
""",
    "migrating-from-nginx.md": FILES,
    "recipes.md": INSTALLED
    + """
systemctl restart matrix-sidecar
chmod 666 /run/matrix-synapse/*.sock  # as Synapse makes them
mkdir -p /srv/stand-in && cd /srv/stand-in
echo ok >healthz
echo '{"default_server_name": "example.org"}' >config.json
setsid python -m http.server --bind 127.0.0.1 8081 >/dev/null 2>&1 &
until curl -sf http://127.0.0.1:8081/healthz; do sleep 0.1; done
""",
    "migrating-from-haproxy.md": FILES,
}
"""What is done on the machine of a page before its commands."""

TO_RUN = [page for page in PAGES if any(block.language in RUN and block.remark != "not run" for block in blocks(page))]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the commands of pip, which shall not need the network."""
    return pack_wheels(tmp_path_factory.mktemp("wheels"), "matrix-sidecar", "setuptools")


@pytest.fixture
def machine(page: Path, wheels: Path, tmp_path: Path) -> Iterator[Machine]:
    reason = separable()
    if reason:
        pytest.skip(reason)
    with Machine(tmp_path, wheels, with_sidecar=page.name not in FRESH) as ready:
        yield ready


@pytest.mark.parametrize("page", TO_RUN, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, machine: Machine) -> None:
    """One after another, on one machine."""
    prepared = machine.run(PREPARED.get(page.name, ""))
    assert prepared.status == 0, prepared.output
    for block in blocks(page):
        if block.remark == "file" and block.about.startswith("/"):
            done = machine.run(f"mkdir -p $(dirname {block.about}); cat >{block.about} <<'END'\n{block.text}END")
            assert done.status == 0, done.output
        elif block.remark == "added":
            done = machine.run(f"python -c {shlex.quote(ADD)} {block.about} <<'END'\n{block.text}END")
            assert done.status == 0, done.output
        elif block.language in RUN and block.remark != "not run":
            run(block, machine)


def run(block: Block, machine: Machine) -> None:
    until = block.about if block.remark == "until" else ""
    typed = block.remark == "at a terminal"
    each = list(commands(block))
    for number, (command, printed) in enumerate(each, 1):
        expected = int(block.about) if block.remark == "exits with" and number == len(each) else 0
        done = machine.run(AT_A_TERMINAL.format(shlex.quote(command)) if typed else command, until)
        assert until in done.output, f"{block}: has not said {until!r}:\n{done.output}"
        assert done.status == expected, f"{block}: {command}exited with {done.status}:\n{done.output}"
        lacking = missing(printed, done.output)
        assert not lacking, f"{block}: {command}does not print {lacking!r} where the page has it, but\n{done.output}"


def test_reasons_are_given() -> None:
    """Where commands are not run the page says why, in words."""
    reasons = [block.about for page in PAGES for block in blocks(page) if block.remark == "not run"]
    assert reasons
    assert all(len(reason.split()) > 2 for reason in reasons)


@pytest.mark.parametrize(
    ("printed", "output", "same"),
    [
        ("a…c", "abc\n", True),
        ("a…c", "ab\nc\n", False),
        ("a\n…\nc", "a\n1\n2\nc\n", True),
        ("a\n…\nc", "a\nc\n", True),
        ("a", "a\nb\n", False),
        ("…", "", True),
        ("", "", True),
        ("", "a\n", False),
        ("a.c", "abc\n", False),
    ],
)
def test_what_counts_as_the_same_output(printed: str, output: str, *, same: bool) -> None:
    """An ellipsis stands for anything in its line, or for any lines; all else is as it is written."""
    assert (not missing(printed.splitlines(), output)) is same
