"""Processes of Synapse that end and start again while everybody goes on: nobody notices but who cannot be helped."""

from __future__ import annotations

from collections.abc import Mapping
from signal import SIGKILL, SIGTERM, Signals

import pytest

from .laboratory import Gateway
from .restarts import SIDECAR, rolling
from .topology import GENERIC, MONOLITH, SPLIT, Configuration

ENDED = {
    MONOLITH.name: ("main",),
    GENERIC.name: tuple(process.name for process in GENERIC.processes),
    # Those for which nobody can stand in, so that their requests have to wait.
    SPLIT.name: ("typing1", "fed1", "event1"),
}


@pytest.mark.parametrize("number", [SIGTERM, SIGKILL])
def test_processes_in_turn(gateways: Mapping[Configuration, Gateway], number: Signals) -> None:
    """Polls, sends and federation go on: 0 requests that can be repeated fail, 0 events are there twice, 0 are lost.

    A POST that had been read by the process that was ended may fail, with an answer in Matrix's words.
    """
    gateway = gateways["three_lines"]
    names = ENDED[gateway.laboratory.topology.name]
    noticed = rolling(gateway.laboratory, {SIDECAR: gateway.port}, names, number)[SIDECAR]
    print(*noticed.lines(), sep="\n")
    assert noticed.safe == []
    assert noticed.twice == []
    assert noticed.absent == []
    assert noticed.unclear == []
    assert noticed.requests > 50
