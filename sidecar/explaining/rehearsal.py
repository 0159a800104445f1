"""Requests that nobody sent, treated as the running sidecar would treat them: read, judged, decided.

A request of text becomes the octets that a client would send, and goes through the same reader, the same rule about
the client's address and the same decision. Opens nothing; knows neither files nor terminals.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from attrs import define, field, frozen

from sidecar.config.endpoint_strings import entrance
from sidecar.errors import Fault, WireError
from sidecar.exchange.failures import Failure
from sidecar.exchange.replies import STATUS_OF_FAULT
from sidecar.loading.deployment import Deployment
from sidecar.routing.compile import UNKNOWN
from sidecar.routing.decide import decide
from sidecar.routing.decision import Decision
from sidecar.wire.forwarded import ForwardedPolicy, parse_address
from sidecar.wire.grammar import ABSOLUTE_FORM
from sidecar.wire.head import RequestHead
from sidecar.wire.reader import ReaderLimits, RequestReader

HOST = "localhost"
"""Assumed where a request names no host, because without one it would be refused."""
_ADDED = 512
"""More octets than the sidecar ever adds to a head."""


@define
class RequestText:
    """A request in text. `headers` are in their order; `peer` is the other end of its connection, empty for UNIX."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]] = ()
    peer: str = "127.0.0.1"


@frozen
class Heard:
    """What the sidecar made of it. `head` is None where it is no request; `client` is the address that counts."""

    head: RequestHead | None
    client: str
    scheme: str
    decision: Decision


@lru_cache(4096)
def is_peer(text: str) -> bool:
    """Whether the other end of a connection can be this: an address, or nothing for a UNIX socket."""
    return not text or parse_address(text) is not None


@define(eq=False)
class Rehearsal:
    """The sidecar of a deployment, without connections."""

    deployment: Deployment
    scheme: str = field(init=False)
    """Assumed where X-Forwarded-Proto does not say: https, if that can be spoken to us at all."""
    policy: ForwardedPolicy = field(init=False)
    limits: ReaderLimits = field(init=False)
    _reader: RequestReader = field(init=False)

    def __attrs_post_init__(self) -> None:
        settings = self.deployment.settings
        limits = settings.limits
        self.scheme = "https" if any(entrance(text).tls for text in settings.listen) else "http"
        forwarded, public = settings.forwarded, self.deployment.topology.public_scheme
        self.policy = ForwardedPolicy(forwarded.trust, forwarded.proto, public=public, hops=forwarded.hops)
        self.limits = ReaderLimits(
            head=limits.request_head,
            target=limits.request_target,
            fields=limits.request_fields,
            options=limits.connection_options,
        )
        self._reader = RequestReader(self.limits)

    def hear(self, asked: RequestText) -> Heard:
        """Take a request; never raises, whatever it is."""
        try:
            raw = _head(asked)
            head = self._read(raw)
        except WireError as error:
            return Heard(None, "", self.scheme, _refusal(STATUS_OF_FAULT[error.fault], str(error)))
        client, scheme, forwarded = self.policy.client(asked.peer, self.scheme, head.fields)
        decision = decide(head.method, head.origin, head.fields, client, self.deployment.plan, scheme)
        if decision.action == "forward" and (head.length > 0 or len(raw) + _ADDED > self.limits.head):
            decision = self._too_large(head, forwarded, decision) or decision
        return Heard(head, client, scheme, decision)

    def _read(self, raw: bytes) -> RequestHead:
        """A head as the running sidecar reads it, of which nothing may be left for the next; raises WireError."""
        head = self._reader.whole(raw)
        if head is not None:
            self._reader.go_on()
            return head
        event = RequestReader(self.limits).feed(raw)[0]
        assert isinstance(event, RequestHead)
        return event

    def _too_large(self, head: RequestHead, forwarded: bytes, decision: Decision) -> Decision | None:
        """The refusal of what no worker would take, as `sidecar.relay.passage` has it before it asks for one."""
        limits = self.deployment.settings.limits
        most = decision.body_limit or limits.request_body
        if head.length > most:
            reason = f"the body is announced with {head.length} bytes, and {most} are the most here"
            return _refusal(Failure.BODY_TOO_LARGE.status or 0, reason)
        if len(head.passed_on(forwarded)) > limits.request_head:
            reason = f"with the lines that the sidecar adds the head is larger than {limits.request_head} bytes"
            return _refusal(Failure.HEAD_TOO_LARGE.status or 0, reason)
        return None


def _head(asked: RequestText) -> bytes:
    """The head that a client of HTTP/1.1 would send; raises WireError where a part would not stay in its line."""
    headers = asked.headers
    if "host" not in [name.lower() for name, _ in headers]:
        headers = [("Host", _host(asked.target)), *headers]
    lines = [f"{asked.method} {asked.target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers], "\r\n"]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) or text.count("\r") != len(lines):
        raise WireError(Fault.SYNTAX, "a CR or LF inside the request", "RFC 9112 2.2")
    return text.encode("utf-8", "surrogatepass")


def _host(target: str) -> str:
    """What a client puts into Host: the authority of an absolute-form target (RFC 9112 3.2.2)."""
    if target[:1] == "/":
        return HOST
    match = ABSOLUTE_FORM.fullmatch(target.encode("utf-8", "surrogatepass"))
    return HOST if match is None else match[1].decode("latin-1")


def _refusal(status: int, reason: str) -> Decision:
    return Decision("refuse", UNKNOWN, "", status=status, reason=reason)
