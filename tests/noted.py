"""An exchange as the data path notes it, with any of its values altered."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from sidecar.records.record import DONE, Record

PLAIN = Record(
    client="203.0.113.7",
    method=b"GET",
    kind="user",
    key="alice",
    endpoint="sync",
    pool="sync",
    worker="sync1",
    status=200,
    bytes_up=512,
    bytes_down=1523,
    queue=0.0,
    connect=0.0,
    first_byte=0.00123,
    began=2000.0,
    ended=2000.00234,
    attempts=1,
    moved=False,
    ending=DONE,
    request_id="c0ffee-1f",
)


def noted(**other: Any) -> Record:
    """A sync that went well, but for what is `other`."""
    return evolve(PLAIN, **other)
