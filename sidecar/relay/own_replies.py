"""What the sidecar answers itself: what a route says, and failures. Knows no connection and counts nothing."""

from __future__ import annotations

from sidecar.exchange.exchange import Exchange
from sidecar.exchange.failures import Failure
from sidecar.exchange.replies import authored, failure_reply, refusal, status_of
from sidecar.routing.decision import Decision


def routed_reply(decision: Decision, exchange: Exchange, *, close: bool, request_id: str) -> tuple[int, bytes]:
    """Status and bytes of what a route says: refuse, respond or redirect. `close`: the connection ends after it."""
    status = decision.status or 403
    is_head = exchange.method == b"HEAD"
    if decision.action == "refuse":
        return status, refusal(status, decision.reason, close=close, head=is_head, request_id=request_id)
    return status, authored(status, decision.headers, decision.body, close=close, head=is_head)


def reply_to_failure(failure: Failure, decision: Decision, exchange: Exchange, request_id: str) -> tuple[int, bytes]:
    """Status and bytes of the reply about a failure; the connection ends after it."""
    federation, preflight = decision.federation, exchange.preflight
    reply = failure_reply(
        failure,
        head=exchange.method == b"HEAD",
        federation=federation,
        preflight=preflight,
        page=decision.settings.sorry,
        request_id=request_id,
    )
    return status_of(failure, federation=federation, preflight=preflight), reply
