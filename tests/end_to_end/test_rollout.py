"""`matrix-sidecar rollout` on a real Synapse: clients that never retry notice only that some answers take longer."""

from __future__ import annotations

from collections.abc import Mapping

from .laboratory import Gateway
from .rollouts import by_rollout, felt, gateway_with_rollout
from .topology import GENERIC, MONOLITH, SPLIT, Configuration

NAMES = {
    MONOLITH.name: ["main"],
    GENERIC.name: ["generic1", "main"],
    SPLIT.name: ["sync1", "fed1", "typing1"],
}
"""A worker that others replace, one that nobody does, main, and one for federation."""


def test_a_rollout(gateways: Mapping[Configuration, Gateway]) -> None:
    """Polls, sends, POSTs and federation go on: none fails, no event is there twice, none is lost."""
    laboratory = gateways["three_lines"].laboratory
    told: list[str] = []
    with gateway_with_rollout(laboratory) as (gateway, restarter, file):
        names = NAMES[laboratory.topology.name]
        noticed = felt(laboratory, "rollout", gateway.port, by_rollout(restarter, file, names, told))
    print(*told, *noticed.lines(), sep="\n")
    assert sorted(restarter.restarted) == sorted(names)
    assert noticed.load.failures == []
    assert noticed.twice == []
    assert noticed.absent == []
