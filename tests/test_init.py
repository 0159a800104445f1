"""`init` from end to end: hosts that do not run, a real terminal for the questions, and a Synapse that runs here."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from hosts import MAIN_ON_A_PORT, debian, homeserver, synapse, worker, write
from terminals import Terminal

from sidecar.cli import main
from sidecar.commands import init as init_module
from sidecar.config.load import load_settings

LOOPBACK = ("tcp:8008:interface=127.0.0.1", "tcp:8008:interface=\\:\\:1")
TARGET = "etc/matrix-sidecar/sidecar.yaml"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", *arguments])


def init(root: Path, *arguments: str) -> Result:
    """On a host that does not run, without questions."""
    return run("--root", str(root), "--yes", "--no-ask", *arguments)


def section(output: str, title: str) -> str:
    """What stands below a heading."""
    return output.split(f"\n{title}", 1)[1].split("\n\n", 1)[0]


def test_a_debian_host(tmp_path: Path) -> None:
    """A file that the loader takes, checked, with the routing table in short, the unit, and the lines for nginx."""
    debian(tmp_path, max_upload_size="20M", public_baseurl="https://matrix.example.org/")
    result = init(tmp_path)
    settings = load_settings(str(tmp_path / TARGET))
    assert settings.listen == LOOPBACK
    assert settings.admin == "unix:/run/matrix-sidecar/admin.sock:mode=660"
    assert [os.path.relpath(path, tmp_path) for path in settings.synapse.workers] == ["etc/matrix-synapse/workers"]
    assert (
        "example.org: 3 processes that serve requests, 3 of them on UNIX sockets, and 0 processes that serve none"
        in result.output
    )
    assert f"{TARGET}: 3 processes, " in section(result.output, "Check")
    assert "sync1, sync2, else main" in section(result.output, "Where requests go")
    assert "systemctl enable --now matrix-sidecar.socket" in section(result.output, "Start it")
    assert "nginx, in /etc/nginx\n  inside the `server` block of matrix.example.org" in result.output
    assert "        client_max_body_size 20M;\n" in result.output
    # The sockets' directory is not there, which is a warning.
    assert result.exit_code == 1


def test_an_existing_file_is_never_replaced_unasked(tmp_path: Path) -> None:
    """Only with --force, and then the old one is kept."""
    debian(tmp_path)
    write(tmp_path, TARGET, "old")
    result = init(tmp_path)
    assert result.exit_code == 2
    assert "init did not change it. Replace it with --force" in result.output
    assert (tmp_path / TARGET).read_text() == "old"
    assert init(tmp_path, "--force").exit_code == 1
    assert load_settings(str(tmp_path / TARGET))
    assert (tmp_path / f"{TARGET}~").read_text() == "old"


def test_where_main_has_the_port_another_is_proposed(tmp_path: Path) -> None:
    """And it is told how the port could become free."""
    debian(tmp_path, MAIN_ON_A_PORT)
    worker(tmp_path, "/etc/matrix-synapse/workers/sync2.yaml", port=8009)
    result = init(tmp_path)
    assert load_settings(str(tmp_path / TARGET)).listen == (
        "tcp:8010:interface=127.0.0.1",
        "tcp:8010:interface=\\:\\:1",
    )
    assert "main uses port 8008. If you move it to a UNIX socket" in result.output
    assert "warning: main listens on port 8008; a UNIX socket costs less" in result.output
    assert "warning: sync2 listens on port 8009 on all addresses" in result.output
    assert r"[Socket]\nListenStream=\nListenStream=127.0.0.1:8010\n" in result.output
    assert "proxy_pass http://127.0.0.1:8010;" in result.output


def test_everything_can_be_said_on_the_command_line(tmp_path: Path) -> None:
    """Nothing then depends on what is found."""
    homeserver(tmp_path, "/srv/hs.yaml", max_upload_size="1G")
    worker(tmp_path, "/srv/w/a.yaml")
    result = init(
        tmp_path,
        *("--synapse-config", "/srv/hs.yaml", "--synapse-workers", "/srv/w", "--listen", "8100", "--admin", "8101"),
        *("--front", "haproxy", "--trust", "10.0.0.2", "--trust", "10.1.0.0/16", "--config", "/conf/sc.yaml"),
    )
    settings = load_settings(str(tmp_path / "conf/sc.yaml"))
    assert settings.listen == ("tcp:8100:interface=127.0.0.1", "tcp:8100:interface=\\:\\:1")
    assert settings.admin == "tcp:8101:interface=127.0.0.1"
    assert [str(network) for network in settings.forwarded.trust[2:]] == ["10.0.0.2/32", "10.1.0.0/16"]
    assert settings.limits.request_body == 1024**3
    assert "server sidecar 127.0.0.1:8100" in result.output
    assert "HAProxy\n" in result.output


def test_a_container_has_no_units_and_its_operator_a_port(tmp_path: Path) -> None:
    """And without a proxy here none is described."""
    homeserver(tmp_path, "/data/homeserver.yaml")
    result = init(tmp_path, "--config", "/data/sidecar.yaml")
    assert load_settings(str(tmp_path / "data/sidecar.yaml")).admin == "tcp:9108:interface=127.0.0.1"
    assert "Found no configuration of a reverse proxy." in result.output
    assert f"twistd -n --pidfile= matrix-sidecar --config {tmp_path}/data/sidecar.yaml" in result.output
    assert "systemctl" not in result.output
    assert "proxy_pass" not in result.output


def test_a_file_with_errors_is_written_and_told(tmp_path: Path) -> None:
    """Synapse's own faults are no reason not to begin; the status says that there are some."""
    debian(tmp_path, stream_writers={"typing": "nobody"})
    result = init(tmp_path)
    assert result.exit_code == 2
    assert "stream_writers.typing: `nobody` is missing from `instance_map`" in result.output
    assert "Where requests go" in result.output


def test_a_configuration_that_cannot_be_used_has_no_table(tmp_path: Path) -> None:
    """But what to mend, and how to start."""
    write(tmp_path, "/etc/matrix-synapse/homeserver.yaml", "- a list")
    result = init(tmp_path)
    assert result.exit_code == 2
    assert "Where requests go" not in result.output
    assert "Start it" in result.output


def test_files_that_the_unit_cannot_read_are_told(tmp_path: Path) -> None:
    """Judged for the user of the unit, or for the one that is named."""
    debian(tmp_path)
    (tmp_path / "etc/matrix-synapse/homeserver.yaml").chmod(0o600)
    write(tmp_path, "/etc/passwd", "reader:x:4711:4711::/:/bin/false\n")
    assert "the user of matrix-sidecar.service may not" in init(tmp_path).output
    assert "warning: reader may not" in init(tmp_path, "--force", "--run-as", "reader").output
    assert "There is no user writer" in init(tmp_path, "--force", "--run-as", "writer").output


def test_a_host_without_synapse(tmp_path: Path) -> None:
    """One sentence with what to do."""
    result = init(tmp_path)
    assert result.exit_code == 2
    assert "Found no configuration of Synapse" in result.output
    assert "--synapse-config /path/to/homeserver.yaml" in result.output


def test_a_synapse_in_a_container_is_told(tmp_path: Path) -> None:
    """Its files are not those of the host."""
    synapse(tmp_path, 7, "/data/homeserver.yaml")
    result = init(tmp_path)
    assert result.exit_code == 2
    assert "Synapse runs in a container (process 7): /data/homeserver.yaml is not visible here" in result.output


def test_a_note_about_the_source_is_shown(tmp_path: Path) -> None:
    """Such as a worker that does not run."""
    debian(tmp_path)
    etc = "/etc/matrix-synapse"
    synapse(tmp_path, 1, f"{etc}/homeserver.yaml", f"{etc}/conf.d")
    synapse(tmp_path, 2, f"{etc}/homeserver.yaml", f"{etc}/conf.d", f"{etc}/workers/sync1.yaml", app="generic_worker")
    assert "sync2.yaml, which no running process reads" in init(tmp_path).output


def test_many_workers_are_not_all_listed(tmp_path: Path) -> None:
    """The table in short is short."""
    debian(tmp_path)
    for number in range(10, 20):
        worker(tmp_path, f"/etc/matrix-synapse/workers/w{number}.yaml")
    assert "sync1, sync2, w10, w11, w12, w13, 6 more, else main" in init(tmp_path).output


def test_of_two_configurations_the_surest_is_proposed(tmp_path: Path) -> None:
    """That of the running process comes before what lies in /etc."""
    debian(tmp_path)
    homeserver(tmp_path, "/srv/hs.yaml", server_name="other.example.org")
    synapse(tmp_path, 7, "/srv/hs.yaml")
    result = init(tmp_path)
    assert "  1  /srv/hs.yaml (named by the running process 7)" in result.output
    assert "other.example.org: 1 process that" in result.output


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """In one sentence, and nothing is left behind."""
    debian(tmp_path)
    write(tmp_path, "/blocked", "")
    result = init(tmp_path, "--config", "/blocked/sidecar.yaml")
    assert result.exit_code == 2
    assert "cannot write " in result.output


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--listen", "8008:interface", "is no endpoint string"),
        ("--trust", "10.0.0.1/8", "write for example 10.0.0.2 or 10.0.0.0/24"),
        ("--front", "iis", "'iis' is not one of"),
    ],
)
def test_what_cannot_be_is_refused_at_once(tmp_path: Path, option: str, value: str, part: str) -> None:
    """Before anything is looked at."""
    result = init(tmp_path, option, value)
    assert result.exit_code == 2
    assert part in result.output


def test_without_a_terminal_nothing_is_asked() -> None:
    """A script says --yes."""
    result = run()
    assert result.exit_code == 2
    assert "There is no terminal to ask at. Give --yes" in result.output


# On this very host.


def test_a_port_that_somebody_has_is_not_proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the host is this one, it is tried."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(init_module, "_PORTS", range(port, port + 40))
        file = tmp_path / "sidecar.yaml"
        homeserver(tmp_path, "/hs.yaml")
        run("--yes", "--no-ask", "--synapse-config", str(tmp_path / "hs.yaml"), "--config", str(file))
        assert 0 < int(load_settings(str(file)).listen[0].split(":")[1]) - port < 40


def test_paths_of_this_host_are_written_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute, also where they were named from the current directory."""
    homeserver(tmp_path, "/hs.yaml")
    monkeypatch.chdir(tmp_path)
    run("--yes", "--no-ask", "--synapse-config", "hs.yaml", "--config", "sidecar.yaml")
    written = yaml.safe_load((tmp_path / "sidecar.yaml").read_text())
    assert written["synapse"] == {"config": [str(tmp_path / "hs.yaml")]}


# At a terminal.


def at_terminal(*arguments: str) -> Terminal:
    return Terminal([sys.executable, "-m", "sidecar.cli", "init", *arguments], TERM="xterm")


def test_questions_at_a_terminal(tmp_path: Path) -> None:
    """Enter takes what is proposed; what cannot be is asked again; the answers are what is written."""
    debian(tmp_path)
    homeserver(tmp_path, "/srv/hs.yaml")
    synapse(tmp_path, 7, "/srv/hs.yaml")
    shutil.rmtree(tmp_path / "etc/nginx")
    with at_terminal("--root", str(tmp_path), "--no-ask") as terminal:
        terminal.answers(r"Which one \[1\]: ", "2")
        terminal.answers(r"Where should the sidecar listen [^\[]*\[tcp:8008:interface=127.0.0.1\]: ", "8x")
        terminal.answers(r"8x is no endpoint string[^\[]*\[tcp:8008:interface=127.0.0.1\]: ", "8009")
        terminal.answers(r"Which proxy is in front \(nginx, apache, caddy, haproxy, none\) \[none\]: ", "caddy")
        terminal.answers(r"on this host\? `here`, or its address \[here\]: ", "10.0.0.300")
        terminal.answers(r"or its address \[here\]: ", "10.0.0.3")
        assert terminal.ends() == 1
    settings = load_settings(str(tmp_path / TARGET))
    assert settings.listen == ("tcp:8009:interface=127.0.0.1", "tcp:8009:interface=\\:\\:1")
    assert str(settings.forwarded.trust[-1]) == "10.0.0.3/32"
    assert settings.synapse.config[0].endswith("matrix-synapse/homeserver.yaml")
    assert "reverse_proxy @matrix 127.0.0.1:8009" in terminal.said


def test_an_existing_file_is_replaced_where_the_operator_says_so(tmp_path: Path) -> None:
    """And left alone where not, which is what Enter means."""
    debian(tmp_path)
    write(tmp_path, TARGET, "old")
    arguments = ("--root", str(tmp_path), "--no-ask", "--listen", "8008", "--trust", "10.0.0.2")
    with at_terminal(*arguments) as terminal:
        terminal.answers(r"exists. Replace it\? \[y/N\]: ", "")
        assert terminal.ends() == 2
    assert (tmp_path / TARGET).read_text() == "old"
    with at_terminal(*arguments) as terminal:
        terminal.answers(r"exists. Replace it\? \[y/N\]: ", "y")
        assert terminal.ends() == 1
    assert load_settings(str(tmp_path / TARGET)).listen == LOOPBACK


# Pools that names propose.


def named(root: Path) -> None:
    """A host whose workers have names that tell something."""
    debian(root)
    for name in ("client1", "client2"):
        worker(root, f"/etc/matrix-synapse/workers/{name}.yaml")


def test_syncs_go_to_the_workers_that_are_named_for_them(tmp_path: Path) -> None:
    """The file says it, since names alone decide nothing, and what could be written for the others."""
    named(tmp_path)
    result = init(tmp_path)
    settings = load_settings(str(tmp_path / TARGET))
    assert {name: pool.workers for name, pool in settings.pools.items()} == {"sync": ("sync*",)}
    assert "sync1, sync2, then" not in result.output
    assert (
        "  sync, initial_sync, sliding_sync: sync1, sync2 serve the syncs. `pools.sync.workers` names" in result.output
    )
    text = (tmp_path / TARGET).read_text()
    (tmp_path / TARGET).write_text(text.replace("  # client: {", "  client: {").replace("  # rooms: {", "  rooms: {"))
    settings = load_settings(str(tmp_path / TARGET))
    assert settings.pools["client"].workers == settings.pools["rooms"].workers == ("client*",)


def test_syncs_of_half_of_the_workers(tmp_path: Path) -> None:
    """Who does not want it says so; others can be named."""
    named(tmp_path)
    result = init(tmp_path, "--syncs", "half")
    assert load_settings(str(tmp_path / TARGET)).pools == {}
    assert "sync, initial_sync, sliding_sync: 2 of 4 workers serve the syncs (" in section(result.output, "Check")
    init(tmp_path, "--syncs", "sync1, client*", "--force")
    assert load_settings(str(tmp_path / TARGET)).pools["sync"].workers == ("sync1", "client*")
    assert init(tmp_path, "--syncs", "a,,b", "--force").exit_code == 2


def test_names_that_all_say_the_same_propose_nothing(tmp_path: Path) -> None:
    """Whoever calls all workers sync1 to sync2 has said nothing of who else there is."""
    debian(tmp_path)
    init(tmp_path)
    assert load_settings(str(tmp_path / TARGET)).pools == {}


def test_the_question_about_syncs(tmp_path: Path) -> None:
    """Enter takes the names; an answer can name others."""
    named(tmp_path)
    arguments = ("--root", str(tmp_path), "--no-ask", "--listen", "8008", "--front", "none")
    with at_terminal(*arguments) as terminal:
        terminal.answers(r"`half` of all workers \[sync\*\]: ", ",")
        terminal.answers(r"`half` of all workers \[sync\*\]: ", "sync2")
        assert terminal.ends() == 1
    assert load_settings(str(tmp_path / TARGET)).pools["sync"].workers == ("sync2",)
