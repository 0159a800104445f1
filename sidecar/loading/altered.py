"""What is different between two deployments, in a few words for the log. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from sidecar.loading.deployment import Deployment


def changes(before: Deployment, after: Deployment) -> list[str]:
    """One clause for each kind of thing that is different; none if nothing is."""
    old, new = before.settings, after.settings
    clauses = [
        *_names("workers", before.plan.workers, after.plan.workers),
        *_names("pools", before.plan.pools, after.plan.pools),
        *_names("balancers", old.balancers, new.balancers),
    ]
    if old.routes != new.routes:
        clauses.append(f"routes: {len(new.routes)} now, {len(old.routes)} before")
    for section in ("limits", "timeouts", "forwarded", "access", "log"):
        clauses += _values(section, getattr(old, section), getattr(new, section))
    guarded = (before.secret, before.sibling_password), (after.secret, after.sibling_password)
    if old.operator != new.operator or guarded[0] != guarded[1]:
        # Its values are nobody's business who may read the log.
        clauses.append("operator: altered")
    if before.table.release != after.table.release:
        clauses.append(f"endpoints of Synapse {after.table.release} instead of {before.table.release}")
    return clauses


def _names(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    added = [name for name in after if name not in before]
    removed = [name for name in before if name not in after]
    altered = [name for name in after if name in before and after[name] != before[name]]
    for verb, names in (("added", added), ("removed", removed), ("altered", altered)):
        if names:
            yield f"{kind} {verb}: {', '.join(names)}"


def _values(section: str, before: Any, after: Any) -> Iterator[str]:
    for name in attrs.fields_dict(type(after)):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield f"{section}.{name}: {_shown(new)} (before: {_shown(old)})"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
