"""What is made of the settings before anything runs."""

from __future__ import annotations

from sidecar.app.making import gate_limits
from sidecar.config.schema import Limits, Pool
from sidecar.routing.plan import PlannedPool


def test_a_pool_has_places_for_each_worker_that_shares_its_keys() -> None:
    """One that only stands in for another brings none: the others would have them."""
    pool = PlannedPool(
        name="initial_sync", workers=("a", "b", "c"), sharing=("a", "b"), fallback=(), settings=Pool(concurrency=10)
    )
    limits = gate_limits(pool, Limits())
    assert (limits.concurrency, limits.per_key, limits.per_place) == (20, 5, 15)
