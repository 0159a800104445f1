"""What the instances of one gateway answered, one outcome for each: the same for every question and every operation.

Pure: who asks them is in `sidecar.admin.asking_siblings`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from sidecar.admin.operator_answer import OperatorAnswer
from sidecar.config.siblings import Sibling
from sidecar.plurals import counted

INSTANCE = "Matrix-Sidecar-Instance"
"""The field in which an instance says who answers, with a number that no other has."""
SIBLING = "Matrix-Sidecar-Sibling"
"""The field in which an instance says who asks. Such a request is never passed on, so that none goes round."""
BEHALF = "Matrix-Sidecar-For"
"""For whom it asks, for the log of the other."""
NONE = "what answers there is not a matrix-sidecar"


@frozen(kw_only=True)
class InstanceOutcome:
    """What one instance answered, or why it did not."""

    sibling: Sibling
    own: bool = False
    """It is this instance."""
    status: int = 0
    """0: there was no answer of a matrix-sidecar."""
    content: Mapping[str, Any] = field(factory=dict, repr=False)
    why: str = ""
    """Why there was none, or why it refused; the end of a sentence."""
    instance: str = ""
    """Its number."""
    turned_away: bool = False
    """It, or a proxy before it, wants another password, or has had too many wrong ones."""
    ago: float = 0.0
    """Seconds since it said so."""

    @property
    def done(self) -> bool:
        """It did or reported what it was asked."""
        return self.status == 200

    @property
    def told(self) -> str:
        """What it says."""
        return str(self.content.get("told", "")) if self.done else self.why


def judged(sibling: Sibling, status: int, instance: str, content: bytes, user: str) -> InstanceOutcome:
    """What an answer means; `instance` is the field in which an instance says which one it is."""
    turned_away = status in (401, 429)
    if not instance:
        return InstanceOutcome(sibling=sibling, why=f"{NONE} (it answered {status})", turned_away=turned_away)
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        why = f"{NONE} (it answered {status} without JSON)"
        return InstanceOutcome(sibling=sibling, why=why, turned_away=turned_away)
    why = "" if status == 200 else _refused(status, str(told.get("error", "")).rstrip("."), user)
    return InstanceOutcome(
        sibling=sibling, status=status, content=told, why=why, instance=instance[:64], turned_away=turned_away
    )


def _refused(status: int, error: str, user: str) -> str:
    if status == 401:
        return f"it refuses the password for `{user}`; see `operator.sibling_password_file`"
    return f"it answered {status}: {error[:300]}" if error else f"it answered {status}"


def of_own(sibling: Sibling, answer: OperatorAnswer) -> InstanceOutcome:
    """The same of this instance."""
    content = answer.content if isinstance(answer.content, dict) else {}
    why = "" if answer.status == 200 else str(content.get("error", "")).rstrip(".")
    return InstanceOutcome(sibling=sibling, own=True, status=answer.status, content=content, why=why)


def each_once(outcomes: Sequence[InstanceOutcome], own: str) -> list[InstanceOutcome]:
    """Without the instance of number `own`, which the list may hold under another address; the others once each."""
    seen = {own}
    kept = []
    for outcome in outcomes:
        if outcome.instance not in seen:
            kept.append(outcome)
        seen |= {outcome.instance} - {""}
    return kept


def done_everywhere(outcomes: Sequence[InstanceOutcome]) -> OperatorAnswer:
    """What became of an operation, for all instances and for each.

    200 where all did it. Where all refused it alike, their status; else 502.
    """
    failed = [outcome for outcome in outcomes if not outcome.done]
    instances = [
        {
            "name": each.sibling.name,
            "endpoint": each.sibling.endpoint,
            "own": each.own,
            "done": each.done,
            "status": each.status,
            "told": each.told,
            "answer": dict(each.content),
        }
        for each in outcomes
    ]
    sentence = _summary(len(outcomes), failed)
    if not failed:
        return OperatorAnswer(200, {"told": sentence, "instances": instances})
    statuses = {outcome.status for outcome in outcomes}
    status = statuses.pop() if len(statuses) == 1 and 0 not in statuses else 502
    return OperatorAnswer(status, {"error": sentence, "instances": instances})


def _summary(count: int, failed: Sequence[InstanceOutcome]) -> str:
    if not failed:
        return f"Done on {counted(count, 'instance')}."
    reasons = "; ".join(f"{outcome.sibling.name}: {outcome.why}" for outcome in failed)
    return f"Done on {count - len(failed)} of {counted(count, 'instance')}. Not done on {reasons}."


def told_by(outcome: InstanceOutcome, version: str) -> dict[str, Any]:
    """How one instance is, for `/api/status?all`; `version` is that of this one."""
    status = outcome.content if outcome.done else None
    theirs = "" if status is None else str(status.get("version", ""))[:40]
    differs = bool(theirs) and theirs != version
    return {
        "name": outcome.sibling.name,
        "endpoint": outcome.sibling.endpoint,
        "own": outcome.own,
        "answered": status is not None,
        "why": outcome.why,
        "remark": f"it is version {theirs}, and this one is {version}" if differs else "",
        "ago": round(outcome.ago, 3),
        "status": status,
    }
