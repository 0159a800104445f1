"""`matrix-sidecar export` as people and nightly jobs run it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from runners import runner

from sidecar.cli import main

from .measuring import FILES, PROGRAMS, SPLIT


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sidecar.yaml"
    path.write_text(yaml.safe_dump(_settings()))
    return path


def _settings(**more: object) -> dict[str, object]:
    workers = {name: {"endpoint": f"unix:{name}.sock", **facts} for name, facts in SPLIT["workers"].items()}
    return {**SPLIT, "workers": workers, "synapse": {"version": "1.163"}, **more}


def run(*arguments: object) -> Result:
    return runner().invoke(main, ["export", *map(str, arguments)])


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_file_is_printed_written_and_compared(program: str, config: Path, tmp_path: Path) -> None:
    printed = run(program, "-c", config)
    assert printed.exit_code == 0
    assert "for Synapse 1.163" in printed.stdout
    written = run(program, "-c", config, "-o", tmp_path / "new" / "place")
    assert (written.exit_code, written.stdout) == (0, "")
    file = tmp_path / "new" / "place" / FILES[program]
    assert str(file) in written.stderr
    assert file.read_text() == printed.stdout
    same = run(program, "-c", config, "--check", file)
    assert (same.exit_code, same.stdout) == (0, f"{file} is up to date\n")


@pytest.mark.parametrize("program", PROGRAMS)
def test_another_release_of_synapse_makes_a_file_out_of_date(program: str, config: Path, tmp_path: Path) -> None:
    """A release that has other endpoints, and one that has the same but for its name."""
    assert run(program, "-c", config, "-o", tmp_path).exit_code == 0
    config.write_text(yaml.safe_dump(_settings(synapse={"version": "1.120"})))
    old = run(program, "-c", config, "--check", tmp_path / FILES[program])
    assert old.exit_code == 1
    assert "-# Written by" in old.stdout
    assert sum(line.startswith("-") for line in old.stdout.splitlines()) > 10


def test_what_cannot_be_read_or_written_is_an_error(config: Path, tmp_path: Path) -> None:
    absent = run("nginx", "-c", config, "--check", tmp_path / "absent.conf")
    assert absent.exit_code == 2
    assert absent.stderr == f"{tmp_path / 'absent.conf'}: No such file or directory\n"
    unwritable = run("nginx", "-c", config, "-o", config)
    assert unwritable.exit_code == 2
    assert str(config) in unwritable.stderr
    assert run("nginx", "-c", tmp_path / "absent.yaml").exit_code == 2
    assert run("nginx", "-c", config, "--check", config, "-o", tmp_path).exit_code == 2


LISTENS = {
    "haproxy:tcp:8443:interface=10.0.0.1": ("listen 10.0.0.1:8443 proxy_protocol;", "accept-proxy", "bind 10.0.0.1"),
    "ssl:443:privateKey=/k.pem:certKey=/c.pem": ('ssl_certificate_key "/k.pem";', "ssl crt '/c.pem'", "tls `/c.pem`"),
    "unix:/run/x.sock": ("listen unix:/run/x.sock;", "bind unix@/run/x.sock", "bind unix//run/x.sock"),
    "systemd:domain=INET:name=http": ("listen 127.0.0.1:8008;", "bind 127.0.0.1:8008", "bind 127.0.0.1"),
    "tcp6:8008": ("listen 8008;", "bind *:8008", "http://:8008"),
}


@pytest.mark.parametrize("listen", LISTENS)
def test_listeners_are_those_of_the_configuration(listen: str, config: Path) -> None:
    """What has no address but the one that systemd knows is said in the comment."""
    trust = {"proxy_protocol": ["10.0.0.0/8"]} if listen.startswith("haproxy") else {}
    config.write_text(yaml.safe_dump(_settings(listen=listen, forwarded=trust)))
    for program, wanted in zip(PROGRAMS, LISTENS[listen], strict=True):
        text = run(program, "-c", config).stdout
        assert wanted in text
        assert ("does not say its address" in text) == listen.startswith("systemd")


def test_every_remark_stands_in_the_comment_at_the_top(config: Path) -> None:
    """Above all what the proxy cannot do; a stand-in is named where the language has no word for it."""
    for program in PROGRAMS:
        top = run(program, "-c", config).stdout.partition("\n\n")[0].splitlines()
        assert all(line.startswith("#") and len(line) <= 120 for line in top)
        assert any("do not wait while a worker restarts" in line for line in top)
        assert any("no worker replaces sync" in line for line in top) == (program != "haproxy")


def test_a_worker_whose_file_has_a_fault_is_left_out(tmp_path: Path) -> None:
    """Nobody knows where it listens; the comment says so, and why."""
    homeserver = {"server_name": "example.org", "report_stats": False, "listeners": [_listener(tmp_path / "main.sock")]}
    (tmp_path / "homeserver.yaml").write_text(yaml.safe_dump(homeserver))
    (tmp_path / "workers").mkdir()
    worker = {
        "worker_app": "synapse.app.generic_worker",
        "worker_name": "good",
        "worker_listeners": [_listener(tmp_path / "good.sock")],
    }
    (tmp_path / "workers" / "good.yaml").write_text(yaml.safe_dump(worker))
    (tmp_path / "workers" / "bad.yaml").write_text(
        "worker_app: synapse.app.generic_worker\nworker_name: bad\nworker_listeners: [\n"
    )
    config = tmp_path / "sidecar.yaml"
    config.write_text("synapse: {config: homeserver.yaml, workers: workers, version: '1.163'}\n")
    for program in PROGRAMS:
        text = run(program, "-c", config).stdout
        assert "worker bad is left out: " in text
        assert "bad.yaml" not in text.partition("\n\n")[2]
        assert str(tmp_path / "good.sock") in text


def _listener(path: Path) -> dict[str, object]:
    return {"type": "http", "path": str(path), "resources": [{"names": ["client"]}]}


SHARED = {
    "workers": {name: {"endpoint": f"unix:/{name}.sock"} for name in ("main", "a", "b", "c", "d")},
    "synapse": {"version": "1.163"},
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("spread", "told"), [(None, True), (1, False), (4, False)])
def test_a_pool_that_few_workers_share(program: str, spread: int | None, told: bool, tmp_path: Path) -> None:
    """These are its servers, and the file says who replaces one of several in the sidecar and not here."""
    pools = {} if spread is None else {"sync": {"spread": spread}}
    path = tmp_path / "sidecar.yaml"
    path.write_text(yaml.safe_dump({**SHARED, "pools": pools}))
    exported = run(program, "-c", path)
    assert exported.exit_code == 0
    remark = re.search(
        r"when a worker of sync is down, the others get its keys; in the[\s#]+sidecar, (\w or \w)[\s#]+gets",
        exported.stdout,
    )
    assert (remark is not None) is told
    if program == "haproxy":
        (backend,) = re.findall(r"^backend matrix_sync\n((?:    .*\n)+)", exported.stdout, re.MULTILINE)
        servers = re.findall(r"server (\w+) .*?(backup)?\n", backend)
        assert sum(not backup for _, backup in servers) == (spread or 2)
        assert {name for name, _ in servers} == {"a", "b", "c", "d", "main"}
