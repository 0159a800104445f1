"""Which entries of `operator.siblings` are this instance itself, by their addresses alone."""

from __future__ import annotations

import pytest

from sidecar.config.siblings import instances

HERE = (
    ("tcp:9000:interface=127.0.0.1", "tcp:127.0.0.1:9000"),
    ("tcp:9000:interface=127.0.0.1", "tcp:localhost:9000"),
    (r"tcp:9000:interface=\:\:1", r"tcp:\:\:1:9000"),
    (r"tcp:9000:interface=\:\:1", r"tcp:0\:0\:0\:0\:0\:0\:0\:1:9000"),
    ("tcp:9000", "tcp:127.0.0.2:9000"),
    ("tcp:9000:interface=0.0.0.0", "tcp:localhost:9000"),
    ("tcp:9000:interface=192.0.2.1", "tcp:192.0.2.1:9000"),
    ("unix:/run/a/admin.sock:mode=660", "unix:/run/a/admin.sock"),
)
ELSEWHERE = (
    ("tcp:9000:interface=127.0.0.1", "tcp:127.0.0.2:9000"),
    ("tcp:9000:interface=127.0.0.2", "tcp:127.0.0.1:9000"),
    ("tcp:9000:interface=127.0.0.1", r"tcp:\:\:1:9000"),
    ("tcp:9000:interface=127.0.0.1", "tcp:127.0.0.1:9001"),
    ("tcp:9000:interface=127.0.0.1", "tcp:192.0.2.1:9000"),
    ("tcp:9000:interface=192.0.2.1", "tcp:127.0.0.1:9000"),
    ("tcp:9000:interface=127.0.0.1", "unix:/run/a/admin.sock"),
    ("unix:/run/a/admin.sock", "unix:/run/b/admin.sock"),
    ("unix:/run/a/admin.sock", "tcp:127.0.0.1:9000"),
)


@pytest.mark.parametrize(("admin", "sibling"), HERE)
def test_itself(admin: str, sibling: str) -> None:
    own, others = instances(admin, [sibling], "host")
    assert (own.endpoint, others) == (sibling, ())


@pytest.mark.parametrize(("admin", "sibling"), ELSEWHERE)
def test_another(admin: str, sibling: str) -> None:
    own, others = instances(admin, [sibling], "host")
    assert own.endpoint == admin
    assert [each.endpoint for each in others] == [sibling]
