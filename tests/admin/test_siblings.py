"""One instance speaks for all: real sidecars, and among them one that is gone, hangs, refuses, or is something else."""

from __future__ import annotations

import http.client
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from family import Family, neighbour
from pem import Authority
from processes import PATIENCE, free_ports

from sidecar import __version__

HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
SYNAPSE = b'HTTP/1.1 200 OK\r\nServer: Synapse/1.163.2\r\nContent-Length: 17\r\n\r\n{"errcode": "M_"}'
ENDLESS = b"HTTP/1.1 200 OK\r\nMatrix-Sidecar-Instance: x\r\n\r\n" + b"x" * 2_000_000


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    with Family(tmp_path_factory.mktemp("family"), 3) as family:
        yield family


def by_name(told: Any) -> dict[str, Any]:
    return {each["name"]: each for each in told["instances"]}


def test_the_status_of_all(family: Family) -> None:
    """Each under its name with its own status, the one that is asked first, and nobody twice."""
    status, told = family.ask("GET", "/api/status?all", "m-2")
    assert status == 200
    assert [each["name"] for each in told["instances"]] == ["m-2", "m-1", "m-3"]
    assert [each["own"] for each in told["instances"]] == [True, False, False]
    for name, each in by_name(told).items():
        assert (each["answered"], each["why"], each["remark"]) == (True, "", "")
        assert each["endpoint"] == f"unix:{family.socket(name)}"
        assert each["status"]["version"] == __version__
        assert set(each["status"]["workers"]) == {"main", "sync1", "sync2"}
    assert "instances" not in family.ask("GET", "/api/status", "m-2")[1]


def test_a_drain_on_all(family: Family) -> None:
    """One outcome for each; every log and list of events has who wanted it, and by which way."""
    status, told = family.ask("POST", "/api/workers/sync1/drain?all")
    assert (status, told["told"]) == (200, "Done on 3 instances.")
    assert [(each["name"], each["done"]) for each in told["instances"]] == [("m-1", True), ("m-2", True), ("m-3", True)]
    assert all("sync1 gets no new requests" in each["told"] for each in told["instances"])
    assert {family.state(name, "sync1") for name in family.names} == {"draining"}
    said = family.running["m-2"].says(r"worker sync1 is drained, by (\S+) on the UNIX socket, through another instance")
    assert said[1]
    family.ask("POST", "/api/workers/sync1/undrain?all")
    assert {family.state(name, "sync1") for name in family.names} == {"up"}


def test_a_drain_here_only(family: Family) -> None:
    """Without `all`, and so as before."""
    status, told = family.ask("POST", "/api/workers/sync2/drain", "m-3")
    assert (status, told["worker"]) == (200, "sync2")
    assert [family.state(name, "sync2") for name in family.names] == ["up", "up", "draining"]
    states = {name: each["status"]["workers"]["sync2"]["state"] for name, each in family_status(family).items()}
    assert states == {"m-1": "up", "m-2": "up", "m-3": "draining"}
    family.ask("POST", "/api/workers/sync2/undrain", "m-3")


def family_status(family: Family) -> dict[str, Any]:
    return by_name(family.ask("GET", "/api/status?all")[1])


def test_what_all_refuse(family: Family) -> None:
    """The status is theirs if all say the same."""
    status, told = family.ask("POST", "/api/workers/sync7/drain?all")
    assert status == 404
    assert told["error"].startswith("Done on 0 of 3 instances. Not done on m-1: No worker is called 'sync7'")


def test_who_is_asked_by_a_sibling_asks_nobody(family: Family) -> None:
    """`all` from a sibling is answered for itself alone, so that nothing goes round."""
    import http.client
    import socket as sockets

    connection = http.client.HTTPConnection("localhost")
    connection.sock = sockets.socket(sockets.AF_UNIX)
    connection.sock.connect(str(family.socket("m-1")))
    connection.request("GET", "/api/status?all", headers={"Matrix-Sidecar-Sibling": "other"})
    answer = connection.getresponse()
    assert len(answer.headers["Matrix-Sidecar-Instance"]) == 16
    assert b'"instances"' not in answer.read()
    connection.close()


def test_those_that_do_not_answer(tmp_path: Path) -> None:
    """Each with its own reason: nothing there, hanging, killed, another program, too long an answer."""
    siblings = [f"unix:{name}.sock" for name in ("nowhere", "hangs", "html", "synapse", "endless")]
    limits = "  sibling_timeout: 700ms\n  sibling_answer: 1M\n"
    others = [
        neighbour(tmp_path / f"{name}.sock", reply)
        for name, reply in (("hangs", b""), ("html", HTML), ("synapse", SYNAPSE), ("endless", ENDLESS))
    ]
    with Family(tmp_path, 2, limits, siblings) as family:
        family.running["m-2"].signal(signal.SIGKILL)
        family.running["m-2"].ends()
        expected = {
            "nowhere": "No such file or directory",
            "hangs": "no answer within 0.7 s (`operator.sibling_timeout`)",
            "html": "what answers there is not a matrix-sidecar (it answered 200)",
            "synapse": "what answers there is not a matrix-sidecar (it answered 200)",
            "endless": "its answer has more than 1048576 bytes (`operator.sibling_answer`)",
        }
        for method, target in (("GET", "/api/status?all"), ("POST", "/api/workers/sync1/drain?all")):
            status, told = family.ask(method, target)
            whys = {Path(name).stem: each.get("why", each.get("told")) for name, each in by_name(told).items()}
            assert {name: whys[name] for name in expected} == expected
            assert whys["m-2"] == "Connection refused"
            assert status == (200 if method == "GET" else 502)
        assert family.state("m-1", "sync1") == "draining"
        assert told["error"].startswith("Done on 1 of 7 instances. Not done on ")
        family.running["m-1"].says("the instance m-2 does not report its state: Connection refused")
        family.begin("m-2").says("operator is listened to on")
        assert family.ask("POST", "/api/workers/sync1/drain?all")[1]["instances"][-1]["done"] is True
    for each in others:
        each.close()


def test_one_that_hangs_later(tmp_path: Path) -> None:
    """A process that is stopped takes connections and says nothing; what was heard before is not told any more."""
    with Family(tmp_path, 2, "  sibling_timeout: 500ms\n") as family:
        assert family_status(family)["m-2"]["answered"] is True
        family.running["m-2"].signal(signal.SIGSTOP)
        while (told := family_status(family)["m-2"])["answered"]:
            pass  # what was heard within the last second is still fresh
        assert told["why"] == "no answer within 0.5 s (`operator.sibling_timeout`)"
        assert told["status"] is None
        family.running["m-2"].signal(signal.SIGCONT)


def test_passwords(tmp_path: Path) -> None:
    """The password of the operator is what siblings get, unless there is a file for them; a wrong one is told."""
    (tmp_path / "right").write_text("open sesame\n")
    (tmp_path / "wrong").write_text("open barley\n")
    for each in ("right", "wrong"):
        (tmp_path / each).chmod(0o600)
    with Family(tmp_path, 2, "  password_file: right\n") as family:
        assert family.ask("GET", "/api/status?all")[0] == 401
        told = by_name(family.ask("GET", "/api/status?all", password="open sesame")[1])
        assert told["m-2"]["answered"] is True
        configuration = tmp_path / "sidecar.yaml"
        configuration.write_text(configuration.read_text() + "  sibling_password_file: wrong\n")
        running = family.running["m-1"]
        running.signal(signal.SIGHUP)
        running.says("reloaded")
        status, told = family.ask("POST", "/api/workers/sync1/drain?all", password="open sesame")
        assert status == 502
        why = "it refuses the password for `operator`; see `operator.sibling_password_file`"
        assert by_name(told)["m-2"]["told"] == why
        assert family.ask("GET", "/api/workers", "m-2", password="open sesame")[0] == 404
        assert "barley" not in running.said
        assert "sesame" not in running.said
        assert "barley" not in str(told)


@pytest.mark.parametrize(
    ("field", "why"),
    [
        (
            b"Matrix-Sidecar-Instance: a\r\n",
            "it refuses the password for `operator`; see `operator.sibling_password_file`",
        ),
        (b"", "what answers there is not a matrix-sidecar (it answered 401)"),
    ],
)
def test_a_wrong_password_is_not_tried_every_second(tmp_path: Path, field: bytes, why: str) -> None:
    """It would count as a guess there, or at a proxy before it, and keep others from being let in."""
    (tmp_path / "wrong").write_text("open barley\n")
    refused = b"HTTP/1.1 401 No\r\n" + field + b'Content-Length: 17\r\n\r\n{"error": "Bad."}'
    heard: list[bytes] = []
    other = neighbour(tmp_path / "other.sock", refused, heard)
    with Family(tmp_path, 1, "  sibling_password_file: wrong\n", ["unix:other.sock"]) as family:
        age = 0.0
        while age < 1.5:  # without a pause it would have been asked again after one second
            told = family.ask("GET", "/api/status?all")[1]["instances"][1]
            assert told["why"] == f"{why}; it is asked again after 60 s, because each refused password counts there"
            age = told["ago"]
        family.running["m-1"].says(r"does not report its state: .*; it is asked again after 60 s, because")
    assert len(heard) == 1
    other.close()


def test_over_tcp_and_tls(tmp_path: Path) -> None:
    """The other host of a pair: by TLS its certificate has to fit."""
    authority = Authority()
    key, certificate = authority.issue("localhost")
    (tmp_path / "pair.pem").write_bytes(key + certificate)
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / "other.pem").write_bytes(authority.certificate)
    plain, safe = free_ports(2)
    siblings = [f"tcp:127.0.0.1:{plain}", f"tls:localhost:{safe}:trustRoots=roots", f"tls:localhost:{safe}"]
    with Family(tmp_path, 1, "", siblings) as family:
        family.begin("plain", f"tcp:{plain}:interface=127.0.0.1").says("operator is listened to on")
        endpoint = f"ssl:{safe}:interface=127.0.0.1:privateKey=pair.pem"
        family.begin("safe", endpoint).says("operator is listened to on")
        told = [(each["answered"], each["why"]) for each in family.ask("GET", "/api/status?all")[1]["instances"][1:]]
        assert told[:2] == [(True, ""), (True, "")]
        assert told[2][0] is False
        assert "certificate verify failed" in told[2][1]
        names = [each["name"] for each in family.ask("POST", "/api/workers/sync1/drain?all")[1]["instances"]]
        assert names[1] == f"127.0.0.1:{plain}"


def test_one_port_on_two_addresses(tmp_path: Path) -> None:
    """Two loopback addresses with the same port are two instances, and each speaks for the other."""
    [port] = free_ports(1)
    hosts = ("127.0.0.1", "127.0.0.2")
    with Family(tmp_path, 0, "", [f"tcp:{host}:{port}" for host in hosts]) as family:
        for host in hosts:
            family.begin(host, f"tcp:{port}:interface={host}").says("operator is listened to on")
        for host in hosts:
            connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
            connection.request("GET", "/api/status?all")
            told = json.loads(connection.getresponse().read())["instances"]
            connection.close()
            assert [(each["own"], each["answered"]) for each in told] == [(True, True), (False, True)]
            assert {each["name"] for each in told} == {f"{each}:{port}" for each in hosts}


def test_itself_by_another_way(tmp_path: Path) -> None:
    """What leads back here, or twice to the same instance, is asked nothing twice and counted once."""
    for name in ("here", "there"):
        (tmp_path / f"{name}.sock").symlink_to(tmp_path / ("m-1" if name == "here" else "m-2") / "admin.sock")
    with Family(tmp_path, 2, "", ["unix:here.sock", "unix:there.sock"]) as family:
        assert len(family.ask("GET", "/api/status?all")[1]["instances"]) == 2
        status, told = family.ask("POST", "/api/workers/sync1/drain?all")
        assert (status, told["told"]) == (200, "Done on 2 instances.")
        for name in family.names:
            events = family.ask("GET", "/api/status", name)[1]["events"]
            assert [event["kind"] for event in events].count("drain") == 1
