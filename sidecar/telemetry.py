"""Counters of the data path: plain integers, read by whoever asks. Knows no transports."""

from __future__ import annotations

from attrs import define


@define
class Counters:
    """Totals since the start; bytes where the name says so, else events."""

    connections: int = 0
    """Client connections accepted."""
    connections_open: int = 0
    connections_refused: int = 0
    """Client connections beyond the limit of their address."""
    requests: int = 0
    refused: int = 0
    """Requests answered by the sidecar itself because they were malformed, too large or closed by `access`."""
    failed: int = 0
    """Exchanges that ended in a reply of the sidecar or in a cut."""
    replayed: int = 0
    waited: int = 0
    """Requests that had to wait for a connection."""
    client_gone: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
