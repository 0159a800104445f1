"""What `doctor` says of a worker that does not answer, by what the operating system says."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from sidecar.doctor.findings import Level
from sidecar.doctor.raw_request import ServerAddress, SilenceError
from sidecar.doctor.worker_checks import ExaminedWorker, _silent, examine_worker, judge_versions, place_of
from sidecar.routing.workers import PlannedWorker


def worker(endpoint: str) -> PlannedWorker:
    return PlannedWorker(name="sync1", endpoint=endpoint, serves=frozenset(("client",)))


@pytest.mark.parametrize(
    ("endpoint", "place"),
    [
        ("unix:/run/a.sock", ServerAddress(socket="/run/a.sock")),
        ("unix:/run/a.sock:timeout=3", ServerAddress(socket="/run/a.sock")),
        ("tcp:10.0.0.2:8083", ServerAddress(address="10.0.0.2", port=8083)),
        (r"tcp:\:\:1:8083", ServerAddress(address="::1", port=8083)),
        ("tls:example.org:443", None),
    ],
)
def test_where_a_worker_is(endpoint: str, place: ServerAddress | None) -> None:
    """By its client endpoint string."""
    assert place_of(endpoint) == place


def test_a_worker_that_is_nowhere_to_be_asked() -> None:
    """Of a kind that is unknown here."""
    assert examine_worker(worker("tls:example.org:443"), None) == ExaminedWorker("sync1", False)


def test_a_full_queue(tmp_path: Path) -> None:
    """The kernel says at once that there is no room."""
    path = tmp_path / "w.sock"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as waiting:
        listening.bind(str(path))
        listening.listen(0)
        waiting.connect(str(path))
        (finding,) = examine_worker(worker(f"unix:{path}"), None).findings
    assert finding.sentence == f"sync1 accepts no more connections at {path}: its queue is full."


def test_no_permission() -> None:
    """Who runs this may not connect; that says nothing of the sidecar."""
    silence = SilenceError("permission denied", PermissionError(errno.EACCES, "Permission denied"))
    finding = _silent("sync1", ServerAddress(socket="/run/a.sock"), silence)
    assert finding.sentence == "doctor cannot reach sync1: no permission for /run/a.sock."
    assert finding.mend == "Run this as root, or as the sidecar's user."


def test_a_name_goes_into_the_command_without_what_a_shell_would_take() -> None:
    """The file says how a worker is called."""
    finding = _silent("a;rm -rf", ServerAddress(socket="/x"), SilenceError("", FileNotFoundError(errno.ENOENT, "")))
    assert "matrix-synapse-worker@arm-rf`" in finding.mend


def test_main_has_a_unit_of_another_name() -> None:
    """As Synapse's package and documentation call it."""
    finding = _silent("main", ServerAddress(socket="/x"), SilenceError("", FileNotFoundError(errno.ENOENT, "")))
    assert "`systemctl status matrix-synapse`" in finding.mend


@pytest.mark.parametrize(
    ("versions", "stated", "levels"),
    [
        (["1.163.2", "1.163.2"], False, [Level.FINE]),
        (["1.163.2", None], False, [Level.FINE]),
        (["1.163.0rc1"], False, [Level.FINE]),
        (["1.163.2", "1.163.1"], False, [Level.WARNING]),
        (["1.162.0"], True, [Level.WARNING]),
        (["1.162.0"], False, []),
        ([None], False, []),
    ],
)
def test_versions(versions: list[str | None], stated: bool, levels: list[Level]) -> None:
    """All alike, and of the release whose endpoints are in force (1.163)."""
    seen = [ExaminedWorker(f"w{number}", True, version) for number, version in enumerate(versions)]
    assert [finding.level for finding in judge_versions(seen, "1.163", stated)] == levels
