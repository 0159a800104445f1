"""What the gateway makes of a decision's candidates at this moment."""

from __future__ import annotations

from pathlib import Path

from sidecar.config.schema import Pool
from sidecar.routing.decision import DEFAULTS, Decision

from .peers import Stage
from .turns import spin


def decision(key: str | None, settings: Pool = DEFAULTS) -> Decision:
    three = ("a", "b", "c")
    return Decision(action="forward", endpoint="e", pool="p", candidates=three, key=key, settings=settings)


def test_candidates(tmp_path: Path) -> None:
    """With a key the order stays; without one the least busy comes first; a bound passes a key on."""

    async def scenario() -> None:
        stage = Stage(tmp_path, workers=("a", "b", "c"))
        gateway = stage.gateway
        try:
            stage.pools["a"].leased = 9
            stage.pools["b"].leased = 1
            assert gateway.candidates(decision("k")) == ("a", "b", "c")
            assert gateway.candidates(decision(None)) == ("c", "a", "b")
            bound = Pool(bounded=1.25)
            assert gateway.candidates(decision("k", settings=bound))[0] != "a"
            assert gateway.candidates(decision(None, settings=bound)) == ("c", "a", "b")
        finally:
            stage.pools["a"].leased = stage.pools["b"].leased = 0
            await stage.strike()

    spin(scenario())
