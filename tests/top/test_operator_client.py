"""Asking a sidecar from outside: where it is, what it says, and what answers that is none."""

from __future__ import annotations

import socket
from base64 import b64decode
from pathlib import Path

import pytest
from pictures import told

from sidecar.top import operator_client
from sidecar.top.operator_client import AdminAddress, OperatorClient, SilentSidecarError, place
from top.operated import StandIn, listening


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [
        ("unix:/run/a.sock", AdminAddress(path="/run/a.sock")),
        ("unix:/run/a.sock:mode=660", AdminAddress(path="/run/a.sock")),
        ("unix:address=/run/a.sock:mode=660", AdminAddress(path="/run/a.sock")),
        ("tcp:9600", AdminAddress(host="127.0.0.1", port=9600)),
        ("tcp:9600:interface=127.0.0.2", AdminAddress(host="127.0.0.2", port=9600)),
        ("tcp:9600:interface=0.0.0.0", AdminAddress(host="127.0.0.1", port=9600)),
        ("tcp:port=9600:interface=10.0.0.1", AdminAddress(host="10.0.0.1", port=9600)),
        ("tcp:10.0.0.1:9600", AdminAddress(host="10.0.0.1", port=9600)),
        ("tcp:host=ops.example.org:port=9600", AdminAddress(host="ops.example.org", port=9600)),
        ("tcp6:9600:interface=\\:\\:", AdminAddress(host="::1", port=9600)),
        ("tcp6:9600:interface=\\:\\:1", AdminAddress(host="::1", port=9600)),
    ],
)
def test_places(endpoint: str, found: AdminAddress) -> None:
    """The endpoint of the configuration file will do, as one for clients does."""
    assert place(endpoint) == found


def test_places_are_told() -> None:
    """As one would type them."""
    assert [str(place(each)) for each in ("unix:/a", "tcp:a:1", "tcp6:1:interface=\\:\\:1")] == ["/a", "a:1", "[::1]:1"]


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "9600",
        "tcp:",
        "tcp:interface=127.0.0.1",
        "tcp:0",
        "tcp:x:y",
        "tcp:1:2:3:4:5",
        "ssl:1",
        "haproxy:tcp:1",
        "systemd:domain=UNIX:name=a",
        "onion:1",
        "unix",
        "tcp:a\\",
    ],
)
def test_what_cannot_be_asked(endpoint: str) -> None:
    """One sentence says what is wrong, or what to name instead."""
    with pytest.raises(ValueError, match=r"endpoint|port"):
        place(endpoint)


@pytest.mark.parametrize("unix", [True, False])
def test_looking_and_draining(unix: bool, tmp_path: Path) -> None:
    """Over a UNIX socket and over TCP, with a password if there is one."""
    stand_in = StandIn(told())
    with listening(stand_in, tmp_path / "admin.sock" if unix else None) as endpoint:
        operator = OperatorClient(place(endpoint))
        assert operator.look().host == "gate1"
        assert operator.look_at_all().host == "gate1"
        assert operator.drain("a/b", drain=True) == "/api/workers/a%2Fb/drain is done."
        assert OperatorClient(place(endpoint), "öps", "sé:same\udcff").drain("a", drain=False)
    assert stand_in.asked == [
        "GET /api/status",
        "GET /api/status?all=latest",
        "POST /api/workers/a%2Fb/drain",
        "POST /api/workers/a/undrain",
    ]
    assert stand_in.authorizations[:3] == [None, None, None]
    assert b64decode(str(stand_in.authorizations[3]).split()[1]) == "öps:sé:same".encode() + b"\xff"
    assert "sé" not in repr(OperatorClient(place(endpoint), "öps", "sé:same"))


@pytest.mark.parametrize(
    ("status", "raw", "sentence"),
    [
        (401, b'{"error": "This needs a password."}', "This needs a password."),
        (500, b"{}", "It was answered 500."),
        (200, b"hello", "is no matrix-sidecar"),
        (200, b"[]", "is no matrix-sidecar"),
        (200, b'{"version": 3}', "is no matrix-sidecar"),
        (200, b"[" * 100_000, "is no matrix-sidecar"),
        (204, b"", "is no matrix-sidecar"),
    ],
)
def test_other_answers(status: int, raw: bytes, sentence: str) -> None:
    """A refusal is told in its own words; what is no sidecar, as such."""
    with listening(StandIn(None, status, raw)) as endpoint, pytest.raises(SilentSidecarError, match=sentence):
        OperatorClient(place(endpoint)).look()


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket, no port, no HTTP, no answer in time."""
    with pytest.raises(SilentSidecarError, match=r"No answer from .*none\.sock: No such file or directory\."):
        OperatorClient(AdminAddress(path=str(tmp_path / "none.sock"))).look()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        where = AdminAddress(host="127.0.0.1", port=silent.getsockname()[1])
        with pytest.raises(SilentSidecarError, match="Connection refused"):
            OperatorClient(where).look()
        silent.listen()
        monkeypatch.setattr(operator_client, "PATIENCE", 0.1)
        with pytest.raises(SilentSidecarError, match="timed out"):
            OperatorClient(where).look()
