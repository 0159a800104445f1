"""What a process's connection that ends without an answer says of its request: what a replay may rely on."""

from __future__ import annotations

import random
from collections.abc import Mapping
from signal import SIGKILL, SIGTERM

from .laboratory import Gateway
from .resets import ANSWERED, EOF, HUNG, PART, RESET, UNSENT, Tally, author_in, one_round
from .topology import GENERIC, MONOLITH, SPLIT, Configuration

ROUNDS = 5
"""At most; the first in which connections were reset and others closed is enough."""
ENDED = {MONOLITH.name: ("main", SIGTERM), GENERIC.name: ("generic1", SIGKILL), SPLIT.name: ("client1", SIGTERM)}


def test_a_reset_proves_that_nothing_was_executed(gateways: Mapping[Configuration, Gateway]) -> None:
    """Of POSTs at a process that is ended none whose connection was reset, or that was not taken whole, is executed.

    Sent again they are executed once. An end in good order proves nothing.
    """
    laboratory = gateways["three_lines"].laboratory
    worker, number = ENDED[laboratory.topology.name]
    author, tally = author_in(laboratory), Tally()
    for attempt in range(ROUNDS):
        tally.add(one_round(laboratory, author, worker, number, random.Random(attempt).uniform(0.4, 1.0)))
        if tally.requests[RESET] and tally.requests[EOF]:
            break
    print(*tally.lines(), sep="\n")
    assert tally.requests[RESET]
    assert tally.executed[RESET] == tally.executed[PART] == tally.executed[UNSENT] == 0
    assert tally.resent == tally.requests[RESET]
    assert tally.twice == 0
    assert tally.executed[ANSWERED] == tally.requests[ANSWERED]
    assert not tally.requests[HUNG]
