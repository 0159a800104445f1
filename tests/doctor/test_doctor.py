"""`doctor` in front of a real sidecar: what it finds of the configuration, of the sidecar, of workers and of pools."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import Result
from processes import ROOT
from runners import runner
from terminals import Terminal

from doctor.installation import Installation, Proxy, forwarded, look_at_nothing_else
from sidecar.cli import main
from sidecar.config.passwords import hashed
from sidecar.doctor import examination, operators
from sidecar.doctor.examination import listened
from sidecar.doctor.findings import Level
from sidecar.doctor.raw_request import ServerAddress, SilenceError
from sidecar.install import command_lines, units
from sidecar.loading.deployment import read_deployment


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="doctor-", dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def running(place: Path) -> Iterator[Installation]:
    """Everything is as it should be."""
    directory = place / "running"
    directory.mkdir()
    with Installation(directory) as installation:
        yield installation.start()


@pytest.fixture
def broken(place: Path) -> Iterator[Installation]:
    """One without a running sidecar, to be broken."""
    directory = place / "broken"
    directory.mkdir()
    with Installation(directory) as installation:
        yield installation
    shutil.rmtree(directory)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else runs on this host is not looked at."""
    look_at_nothing_else(monkeypatch)


def doctor(installation: Installation, *arguments: str) -> Result:
    result = runner().invoke(main, ["doctor", "-c", installation.file, *arguments])
    assert not isinstance(result.exception, Exception), result.exc_info
    return result


def found(installation: Installation, *arguments: str) -> list[tuple[str, str, str]]:
    """Area, level and sentence of everything that is not fine, after a run whose status fits."""
    result = doctor(installation, "--json", *arguments)
    told = json.loads(result.stdout)
    levels = {finding["level"] for finding in told["findings"]}
    assert result.exit_code == told["status"] == (2 if "error" in levels else 1 if "warning" in levels else 0)
    lacking = [each for each in told["findings"] if each["level"] in ("warning", "error") and not each["mend"]]
    assert {each["area"] for each in lacking} <= {"Configuration"}, lacking
    return [
        (finding["area"], finding["level"], finding["sentence"])
        for finding in told["findings"]
        if finding["level"] != "fine"
    ]


def of(area: str, findings: list[tuple[str, str, str]]) -> list[str]:
    return [f"{level}: {sentence}" for where, level, sentence in findings if where == area]


def test_an_installation_that_is_well(running: Installation) -> None:
    """Status 0, every worker and every pool by name, and one sentence at the end."""
    result = doctor(running)
    assert result.exit_code == 0, result.output
    assert found(running) == []
    for name in ("main", "sync1", "fed1", "typing1"):
        assert f"fine     {name} at {running.directory}/{name}.sock is healthy: Synapse 1.163.2" in result.output
    assert "fine     All processes run Synapse 1.163.2, and the sidecar uses the endpoints of 1.163." in result.output
    assert "fine     typing: typing1 (PUT /_matrix/client/v3/rooms/~/typing/~: 401 M_MISSING_TOKEN" in result.output
    assert "fine     federation: fed1 (GET /_matrix/federation/" in result.output
    assert f"The sidecar at {running.directory}/admin.sock runs and is ready." in result.output
    assert "Synapse refuses a login of an unknown user (400 M_INVALID_PARAM)" in result.output
    assert result.output.endswith("\nAll tests passed.\n")


def test_a_proxy_in_front_that_is_right(running: Installation) -> None:
    """Every finding of it is fine, and each is there."""
    with Proxy(running.port, forwarded) as proxy:
        result = doctor(running, "--public", proxy.url, "--slow", "1")
    for sentence in (
        f"127.0.0.1:{proxy.port} answers as Matrix, in ",
        "Requests below /_matrix/client, /_matrix/federation, /_matrix/key, /_matrix/media, /_synapse/client reach ",
        "The proxy in front forwards paths and queries unchanged: a slash within an id (%2F), two slashes in a row, ",
        "The client's address is 127.0.0.1, whatever it claims.",
        "The scheme is http, whatever a client claims.",
        "The proxy in front forwards Host unchanged.",
        "Uploads of 20M, Synapse's max_upload_size, are accepted.",
        "The proxy in front waits 1 s for a response.",
    ):
        assert f"fine     {sentence}" in result.output


def test_a_configuration_that_cannot_be_read(broken: Installation) -> None:
    """Ends at once, with the sentences of `check`."""
    broken.write("nonsense: 1\n")
    result = doctor(broken)
    assert result.exit_code == 2
    assert "sidecar.yaml:2: nonsense: unknown key" in result.stderr


def test_what_check_finds_is_found(broken: Installation) -> None:
    """Warnings and errors of the files, and a limit that is smaller than Synapse's."""
    broken.write('limits: {request_body: 10M}\nadmin: "unix:admin.sock:mode=660"\n')
    (broken.directory / "etc/workers/old.yml").write_text("")
    told = of("Configuration", found(broken))
    assert any(each.startswith("warning: ") and "old.yml" in each for each in told)
    assert not any("warning: " in each.removeprefix("warning: ") for each in told)
    assert "warning: Synapse accepts uploads of 20M, but the sidecar only of 10M." in told


def test_a_sidecar_that_does_not_run(broken: Installation) -> None:
    """Neither its operator's listener nor its port answers; workers and pools are tested all the same."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    broken.write('admin: "unix:admin.sock:mode=660"\n', port)
    findings = found(broken)
    operator, port_of_its_own = of("The running sidecar", findings)
    assert operator.startswith(
        f"error: The operator's listener at {broken.directory}/admin.sock does not answer: no such"
    )
    assert port_of_its_own == f"error: The sidecar does not answer at tcp:{port}:interface=127.0.0.1."
    assert of("Pools", findings) == []
    assert "asked directly)" in doctor(broken).output


def test_without_an_operators_listener_less_is_known(broken: Installation) -> None:
    """Which is said, and no fault."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    broken.write("", port)
    broken.start()
    with Proxy(port, forwarded) as proxy:
        findings = found(broken, "--public", proxy.url, "--well-known", proxy.url)
    assert of("The running sidecar", findings)[0].startswith("unknown: The sidecar has no operator's listener")
    (untested,) = of("The proxy in front", findings)
    assert untested == "unknown: doctor could not test what the proxy in front changes: no sidecar reports it."


def test_a_sidecar_that_takes_no_plain_http(broken: Installation) -> None:
    """Where every connection begins with something else, it is not asked itself; that is no fault."""
    file = broken.directory / "sidecar.yaml"
    text = file.read_text().replace('"tcp:0:', '"haproxy:tcp:1:')
    file.write_text(f"{text}forwarded: {{proxy_protocol: 10.0.0.1}}\n")
    told = of("The running sidecar", found(broken, "--admin", "unix:/nowhere"))
    assert told[1].startswith("unknown: The sidecar accepts only TLS or the PROXY protocol")


def test_workers_that_are_gone(broken: Installation) -> None:
    """Without a socket, with one that was left behind, and one that is closed to everybody."""
    broken.fall("sync1")
    broken.fall("fed1", leave_the_socket=True)
    broken.start()
    findings = found(broken)
    told = of("Workers", findings)
    assert f"error: sync1 is down or listens elsewhere: {broken.directory}/sync1.sock does not exist." in told
    assert f"error: fed1 is down: no process listens at {broken.directory}/fed1.sock." in told
    pools = of("Pools", findings)
    assert "unknown: federation_send: none of its workers answers (fed1)." in pools


def test_a_worker_that_says_nothing(broken: Installation) -> None:
    """It takes the connection and cuts it, at once or later."""
    broken.standing["sync1"].answers = {"/health": None}
    (told,) = [each for each in of("Workers", found(broken)) if "sync1" in each]
    assert told.startswith(f"error: sync1 at {broken.directory}/sync1.sock does not answer: the connection closed")
    broken.standing["sync1"].answers = {"/version": None}
    (told,) = [each for each in of("Workers", found(broken)) if "sync1" in each]
    assert "does not answer: " in told


def test_a_worker_that_is_no_synapse(broken: Installation) -> None:
    """It may be well, and is odd; or it knows no health at all."""
    standing = broken.standing["sync1"]
    standing.server = ""
    standing.answers = {"/version": (404, {})}
    assert any("does not say that it is Synapse" in each for each in of("Workers", found(broken)))
    standing.answers = {"/health": (404, "")}
    assert any("answers 404 to /health" in each for each in of("Workers", found(broken)))


def test_a_worker_that_does_not_believe_the_sidecar(broken: Installation) -> None:
    """Without `x_forwarded` every login fails over a socket; here, and through the sidecar."""
    for name in ("main", "sync1", "typing1"):
        broken.standing[name].answers = {"/login": (500, {"errcode": "M_UNKNOWN"})}
    broken.start()
    findings = found(broken)
    assert "error: sync1 answers 500 to a login with X-Forwarded-For." in of("Workers", findings)
    assert any("gets 500 M_UNKNOWN" in each for each in of("The running sidecar", findings))


def test_versions_that_differ(broken: Installation) -> None:
    """A worker that was not restarted after an upgrade."""
    broken.fall("sync1")
    broken.stand("sync1", "1.162.0")
    assert "warning: The processes have different versions: 1.162.0: sync1; 1.163.2: main, fed1, typing1." in of(
        "Workers", found(broken)
    )


def test_a_version_that_is_stated_and_wrong(broken: Installation) -> None:
    """The endpoint table is of another release than what runs."""
    file = broken.directory / "sidecar.yaml"
    file.write_text(file.read_text() + '  version: "1.150"\n')
    assert "warning: `synapse.version` says 1.150, but 1.163.2 runs." in of("Workers", found(broken))


def test_a_worker_that_does_not_know_an_endpoint(broken: Installation) -> None:
    """Or fails at it, or says nothing to it."""
    broken.standing["typing1"].answers = {"/typing/~": (404, {"errcode": "M_UNRECOGNIZED"})}
    (told,) = of("Pools", found(broken))
    assert told.startswith("error: typing: typing1 does not know PUT /_matrix/client/v3/rooms/~/typing/~, although its")
    broken.standing["typing1"].answers = {"/typing/~": (500, {"errcode": "M_UNKNOWN"})}
    (told,) = of("Pools", found(broken))
    assert told == "error: typing: typing1 answers 500 M_UNKNOWN to PUT /_matrix/client/v3/rooms/~/typing/~."
    broken.standing["typing1"].answers = {"/typing/~": None}
    (told,) = of("Pools", found(broken))
    assert told == "unknown: typing: none of its workers answers (typing1)."


def test_one_worker_of_several_that_says_nothing(broken: Installation) -> None:
    """The others show what should come."""
    shutil.copy(broken.directory / "etc/workers/sync1.yaml", broken.directory / "etc/workers/sync2.yaml")
    other = broken.directory / "etc/workers/sync2.yaml"
    other.write_text(other.read_text().replace("sync1", "sync2"))
    for name in ("sync1", "sync2"):
        broken.stand(name)
    broken.standing["sync2"].answers = {"/delayed_events": None, "/events": None, "/devices": None}
    told = of("Pools", found(broken))
    assert any("sync2 does not answer GET" in each for each in told), told


def test_a_sidecar_that_answers_otherwise_than_the_worker(broken: Installation) -> None:
    """Something is in between, or it reads other files."""
    port = broken.start().port
    with Proxy(port, lambda _: b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n") as proxy:
        broken.write('admin: "unix:absent.sock:mode=660"\n', proxy.port)
        told = of("Pools", found(broken))
    assert any(
        each == "error: typing: PUT /_matrix/client/v3/rooms/~/typing/~ gets 418 through the sidecar, but 401 "
        "M_MISSING_TOKEN from the worker."
        for each in told
    ), told
    with Proxy(port, lambda head: None if b"/typing/" in head else head) as proxy:
        broken.write('admin: "unix:absent.sock:mode=660"\n', proxy.port)
        told = of("Pools", found(broken))
    assert any("through the sidecar: the connection closed without an HTTP response" in each for each in told), told


def test_files_that_changed_after_the_start(broken: Installation) -> None:
    """The running sidecar has read others."""
    broken.start()
    file = broken.directory / "sidecar.yaml"
    file.write_text(file.read_text() + "pools:\n  sync: {workers: [main]}\n")
    (told,) = of("The running sidecar", found(broken))
    assert told == "warning: The configuration files have changed since the sidecar read them."


def test_a_worker_that_is_drained(broken: Installation) -> None:
    """Somebody may have forgotten it."""
    broken.start()
    with socket.socket(socket.AF_UNIX) as operator:
        operator.connect(str(broken.directory / "admin.sock"))
        operator.sendall(b"POST /api/workers/sync1/drain HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in operator.recv(65536)
    told = of("The running sidecar", found(broken))
    assert "warning: sync1 is drained and gets no requests." in told


def test_a_password_is_asked_for(broken: Installation) -> None:
    """Taken from the file that the sidecar has, or from the one that is named; without it less is known."""
    secret = broken.directory / "password"
    secret.write_text("correct horse\n")
    secret.chmod(0o600)
    broken.write('admin: "unix:admin.sock:mode=660"\noperator: {password_file: password}\n')
    broken.start()
    assert of("The running sidecar", found(broken)) == []
    # Only the hash is known.
    secret.write_text(f"{hashed(b'correct horse')}\n")
    told = of("The running sidecar", found(broken))
    assert told[0].startswith(f"unknown: The operator's listener at {broken.directory}/admin.sock answered 401")
    named = broken.directory / "mine"
    named.write_text("correct horse\n")
    assert of("The running sidecar", found(broken, "--password-file", str(named))) == []
    command = [sys.executable, "-m", "sidecar.cli", "doctor", "-c", broken.file]
    with Terminal(command, TERM="dumb", NO_COLOR="1") as terminal:
        terminal.answers("Password of operator: ", "correct horse")
        terminal.says("runs and is ready")
        assert terminal.ends() == 0


def test_several_instances_are_all_asked(running: Installation) -> None:
    """Those that are named, each once."""
    socket_of = f"unix:{running.directory}/admin.sock"
    result = doctor(running, "--admin", socket_of, "--admin", "unix:/nowhere/admin.sock", "--admin", socket_of)
    assert result.output.count("runs and is ready.") == 1
    assert "The operator's listener at /nowhere/admin.sock does not answer: no such file or directory." in result.output


def test_instances_stand_for_the_socket_that_the_file_names(
    running: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where several processes share the port nobody makes the one that a single process would have."""
    monkeypatch.setattr(units, "ADMIN_SOCKETS", (f"{running.directory}/admin.sock",))
    monkeypatch.setattr(units, "ADMIN", f"unix:{running.directory}/absent.sock:mode=660")
    text = Path(running.file).read_text().replace("unix:admin.sock", "unix:absent.sock")
    other = Path(running.file).with_name("several.yaml")
    other.write_text(text)
    result = runner().invoke(main, ["doctor", "-c", str(other)])
    assert "runs and is ready." in result.output
    assert "absent.sock" not in result.output


def test_who_may_not_use_the_socket_is_told_so(running: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not that nobody answers."""

    def refused(*_arguments: object) -> None:
        raise SilenceError("permission denied", PermissionError(13, "Permission denied"))

    monkeypatch.setattr(operators, "ask", refused)
    (finding, *_) = operators.Operators((ServerAddress(socket="/run/x.sock"),)).examine(read_deployment(running.file))
    assert (finding.level, finding.mend) == (Level.UNKNOWN, "Run this as root.")
    assert finding.sentence == "You have no permission for the operator's listener at /run/x.sock."


def test_the_units_instances_are_found(running: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their sockets."""
    monkeypatch.setattr(units, "ADMIN_SOCKETS", (f"{running.directory}/adm*.sock",))
    running.write("")
    try:
        assert "runs and is ready." in doctor(running).output
    finally:
        running.write('admin: "unix:admin.sock:mode=660"\n')


def test_the_units_of_another_homeserver_are_left_alone(running: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with a socket of its own is not that of the units that run on this host."""
    monkeypatch.setattr(units, "ADMIN_SOCKETS", (f"{running.directory}/admin.sock",))
    other = Path(running.file).with_name("other.yaml")
    other.write_text(Path(running.file).read_text().replace("unix:admin.sock", "unix:absent.sock"))
    result = runner().invoke(main, ["doctor", "-c", str(other)])
    assert "absent.sock does not answer: no such file or directory." in result.output
    assert "runs and is ready." not in result.output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_what_the_sidecars_user_cannot_reach(broken: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though root, who runs this, can: the user that is named, or that of a running sidecar."""
    (broken.directory / "sync1.sock").chmod(0o600)
    (broken.directory / "fed1.sock").chmod(0o666)
    (broken.directory / "etc/homeserver.yaml").chmod(0o600)
    findings = found(broken, "--run-as", "nobody")
    told = of("Workers", findings)
    assert any(each.startswith("error: The sidecar cannot connect to sync1: nobody may not write to") for each in told)
    assert not any("fed1" in each for each in told)
    assert any("nobody may not read" in each for each in of("Configuration", findings))
    broken.start()
    assert broken.sidecar is not None
    monkeypatch.setattr(examination, "sidecars", lambda: [broken.sidecar.pid])
    assert of("Workers", found(broken)) == []


def test_a_user_that_there_is_not(running: Installation) -> None:
    """Is a mistake on the command line."""
    result = doctor(running, "--run-as", "nobody-here")
    assert result.exit_code == 2
    assert "There is no user nobody-here; name the user" in result.output


def test_running_sidecars_are_known_by_their_command_line(running: Installation) -> None:
    """As systemd starts them."""
    assert running.sidecar is not None
    assert running.sidecar.pid in command_lines.sidecars()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--public", "ftp://example.org"], "is not a public URL"),
        (["--public", "https://example.org", "--connect-to", ":1"], "is not an address"),
        (["--slow", "0"], "0 is not in the range"),
        (["--admin", "tcp:here"], "is no endpoint string"),
    ],
)
def test_what_cannot_be_is_refused_at_once(running: Installation, options: list[str], part: str) -> None:
    """With what to write."""
    result = doctor(running, *options)
    assert result.exit_code == 2
    assert part in result.output


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/run/x.sock", ServerAddress(socket="/run/x.sock")),
        ("127.0.0.1:8008", ServerAddress(address="127.0.0.1", port=8008)),
        ("0.0.0.0:8008", ServerAddress(address="127.0.0.1", port=8008)),
        (":::8008", ServerAddress(address="::1", port=8008)),
        ("2001:db8::1:8008", ServerAddress(address="2001:db8::1", port=8008)),
    ],
)
def test_where_a_sidecar_says_that_it_listens(text: str, place: ServerAddress) -> None:
    """As its log and its status have it."""
    assert listened(text) == place


@pytest.mark.parametrize("endpoint", ["systemd:domain=UNIX:name=admin", "ssl:1:privateKey=/k", "haproxy:tcp:1"])
def test_the_operators_password_goes_nowhere_else(endpoint: str) -> None:
    """Where it is not known where the operator's listener is, or in plain HTTP it cannot be asked, nothing is sent."""
    assert examination._place(endpoint) is None


def test_json_has_everything(running: Installation) -> None:
    """Each finding with its area, its level, its sentence and what to do."""
    told: dict[str, Any] = json.loads(doctor(running, "--json").stdout)
    assert told["status"] == 0
    areas = [finding["area"] for finding in told["findings"]]
    assert list(dict.fromkeys(areas)) == ["Configuration", "The running sidecar", "Workers", "Pools"]
    assert all(set(finding) == {"area", "level", "sentence", "mend"} for finding in told["findings"])
    fits_the_schema(told)


def fits_the_schema(told: dict[str, Any]) -> None:
    schema = json.loads((ROOT / "docs" / "doctor.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(told, schema)
    assert told["version"] == schema["properties"]["version"]["const"]


def test_quiet_says_nothing_where_nothing_is_wrong(running: Installation) -> None:
    """For cron, which mails what is printed."""
    result = doctor(running, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_quiet_prints_what_is_wrong(broken: Installation) -> None:
    """Warnings and errors with their areas, no more, and the same exit status."""
    result, told = doctor(broken, "--quiet"), json.loads(doctor(broken, "--json").stdout)
    assert result.exit_code == told["status"] == 2
    wrong = [each for each in told["findings"] if each["level"] in ("warning", "error")]
    lines = [line for line in result.stdout.splitlines() if line.startswith(("  warning", "  error"))]
    assert [line.split(None, 1)[1] for line in lines] == [each["sentence"] for each in wrong]
    assert "  fine" not in result.stdout
    assert "  unknown" not in result.stdout


def test_json_of_an_unusable_configuration(tmp_path: Path) -> None:
    """Findings as well, so that a program reads one format."""
    path = tmp_path / "sidecar.yaml"
    path.write_text("lisen: tcp:1\n")
    result = runner().invoke(main, ["doctor", "-c", str(path), "--json"])
    told = json.loads(result.stdout)
    fits_the_schema(told)
    assert (result.exit_code, told["status"]) == (2, 2)
    assert "unknown key; did you mean `listen`?" in told["findings"][0]["sentence"]


def test_a_bar_where_the_findings_go_elsewhere(running: Installation, tmp_path: Path) -> None:
    """It says which area is being tested; at the same terminal the findings say that."""
    command = f"{sys.executable} -m sidecar.cli doctor -c {running.file}"
    with Terminal(["sh", "-c", f"{command} >{tmp_path / 'found'}"]) as terminal:
        terminal.says(r"Testing  \[.*Configuration")
        terminal.says("100%")
        assert terminal.ends() == 0
    assert "Workers" in (tmp_path / "found").read_text()
    with Terminal(["sh", "-c", command]) as terminal:
        assert terminal.ends() == 0
        assert "Testing" not in terminal.said
