"""Endpoint strings of both sides that mean the same place."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config.endpoint_strings import address_of
from sidecar.errors import ConfigError
from sidecar.loading.deployment import read_deployment


@pytest.mark.parametrize(
    ("server", "client", "same"),
    [
        ("tcp:8008", "tcp:127.0.0.1:8008", True),
        ("tcp:8008:interface=127.0.0.1", "tcp:localhost:8008", True),
        ("tcp:port=8008:interface=0.0.0.0", "tcp:host=127.0.0.5:port=8008", True),
        (r"tcp6:8008:interface=\:\:1", r"tcp:\:\:1:8008", True),
        ("ssl:8448:privateKey=/k.pem", "tcp:localhost:8448", True),
        ("ssl:8448:/k.pem:/c.pem", "tcp:localhost:8448", True),
        ("ssl:8448:/k.pem:interface=192.0.2.7:certKey=/c.pem", "tcp:192.0.2.7:8448", True),
        ("ssl:8448:/k.pem:interface=192.0.2.7", "tcp:localhost:8448", False),
        ("haproxy:tcp:8448", "tcp:localhost:8448", True),
        ("unix:/run/s.sock", "unix:/run/s.sock", True),
        ("unix:address=/run/s.sock:mode=660", "unix:path=/run/s.sock", True),
        ("tcp:8008", "tcp:127.0.0.1:8009", False),
        ("tcp:8008", "tcp:192.0.2.7:8008", False),
        ("unix:/run/s.sock", "unix:/run/t.sock", False),
    ],
)
def test_places_compare(server: str, client: str, same: bool) -> None:
    """A worker's address is compared with where the sidecar listens, however both are written."""
    assert (address_of(server) == address_of(client)) is same


def test_a_place_that_only_the_start_knows_is_no_place() -> None:
    """A socket of systemd has no address in the file."""
    assert address_of("systemd:domain=INET:name=http") is None


def test_a_worker_must_not_be_the_sidecar_itself(tmp_path: Path) -> None:
    """Each request would go round for ever (R-78); the key is named."""
    path = tmp_path / "sidecar.yaml"
    path.write_text('listen: "tcp:8008"\nworkers:\n  main: {endpoint: "tcp:127.0.0.1:8008"}\n')
    with pytest.raises(ConfigError) as raised:
        read_deployment(str(path))
    assert "workers.main.endpoint" in str(raised.value)
    assert "where the sidecar itself listens" in str(raised.value)
