"""The sidecar with one of its rules switched off, so that it shows what the rule is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.homeserver.deployments import Deployment
from benchmarks.homeserver.proxies import Variant

_SYNCS = ("sync", "initial_sync", "sliding_sync")


def _anywhere(*pools: str) -> Callable[[Deployment], Mapping[str, Any]]:
    """Requests of these pools go to any of their workers, whoever asks for whatever."""
    return lambda _: {"pools": {name: {"affinity": "none"} for name in pools}}


def _elsewhere(*pools: str) -> Callable[[Deployment], Mapping[str, Any]]:
    """These pools have the workers that are meant for clients, whichever were the right ones."""
    return lambda deployment: {"pools": {name: {"workers": list(deployment.pools["client"])} for name in pools}}


def _all_of_them(deployment: Deployment) -> Mapping[str, Any]:
    return {"pools": {"sync": {"spread": len(deployment.equals)}}}


def _at_once(_: Deployment) -> Mapping[str, Any]:
    return {"pools": {"sync": {"coalesce": 0}}}


WITHOUT = (
    Variant("syncs on half of the workers", settings=_all_of_them),
    Variant("syncs in quick succession wait", settings=_at_once),
    Variant("syncs by user", settings=_anywhere(*_SYNCS)),
    Variant("first syncs on the workers of later ones", settings=_elsewhere("initial_sync")),
    Variant("sliding sync on the workers of classic", settings=_elsewhere("sliding_sync")),
    Variant("sends at the persister of the room", settings=_elsewhere("events")),
    Variant("a room's reads by room", settings=_anywhere("rooms")),
    Variant("a user's requests by user", settings=_anywhere("client")),
    Variant("account data at its writer", settings=_elsewhere("account_data")),
    Variant("presence at its writer", settings=_elsewhere("presence")),
)
"""Each is named after the rule that is off."""
