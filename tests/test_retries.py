"""The rule of what is sent again, read line by line against every combination of what can have happened."""

from __future__ import annotations

from itertools import product

import pytest
from attrs import frozen

from sidecar.exchange.retries import Verdict, after_a_cut, may_be_elsewhere, on_main


@frozen
class Facts:
    """What has happened to a request."""

    begun: bool = False
    sent: bool = True
    attempts: int = 1
    replays: int = 1
    replayed: bool = False
    idempotent: bool = False
    kept: bool = True
    whole: bool = True


@pytest.mark.parametrize("attempts", [1, 2, 3])
@pytest.mark.parametrize("replays", [0, 1, 2])
def test_every_combination(attempts: int, replays: int) -> None:
    """A request is sent again exactly where nobody saw an answer, all is kept, nothing is done twice, and within both
    budgets; otherwise the first reason of the table is the verdict."""
    for begun, kept, sent, idempotent, unexecuted, budget, replayed in product([False, True], repeat=7):
        facts = Facts(begun, sent, attempts, replays, replayed, idempotent, kept)
        reasons = [
            (begun, Verdict.ANSWERED),
            (attempts > replays, Verdict.TRIED_ENOUGH),
            (not kept, Verdict.NOT_KEPT),
            (sent and not idempotent and not unexecuted, Verdict.UNSAFE),
            (not budget and not replayed, Verdict.NO_BUDGET),
            (True, Verdict.AGAIN),
        ]
        expected = next(verdict for holds, verdict in reasons if holds)
        assert after_a_cut(facts, unexecuted=unexecuted, budget=budget) is expected, facts


def test_main_is_asked_for_what_is_whole() -> None:
    """Only a request that is here as a whole and is kept can be given to somebody else, and main has its budget."""
    for whole, up, budget in product([False, True], repeat=3):
        assert on_main(Facts(whole=whole), up=up, budget=budget) is (whole and up and budget)


@pytest.mark.parametrize("idempotent", [False, True])
def test_a_request_goes_elsewhere_if_nothing_was_done(idempotent: bool) -> None:
    """Where the worker has no such endpoint; where nobody can tell, only if it may be repeated."""
    assert may_be_elsewhere(Facts(idempotent=idempotent), mounted=False)
    assert not may_be_elsewhere(Facts(idempotent=idempotent), mounted=True)
    assert may_be_elsewhere(Facts(idempotent=idempotent), mounted=None) is idempotent
