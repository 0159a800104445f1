"""One request and its response: events go in, what to do comes out.

Nothing else changes the progress of a message. Decides what goes on, what is kept so that it can be sent again, and
whether each connection can be used afterwards. `sidecar.exchange.retries` decides whether something is sent again.
Reads no clock, holds no connection, knows no worker.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import frozen

from sidecar.errors import Fault, WireError
from sidecar.exchange.changing import Changing
from sidecar.exchange.coding import Coder
from sidecar.exchange.failures import Failure
from sidecar.exchange.retries import IDEMPOTENT
from sidecar.wire.framing import TUNNEL, UNTIL_CLOSE
from sidecar.wire.head import RequestHead, ResponseHead


class Fate(Enum):
    """What becomes of the client's connection after an exchange."""

    KEEP = "keep"
    LINGER = "linger"  # close so that the client can still read what was sent
    ABORT = "abort"  # reset, so that the client does not take a cut answer for a complete one


KEEP: Final = Fate.KEEP
"""Faster than the attribute of the enumeration, and every request needs it."""


@frozen(slots=True)
class Outcome:
    """How an exchange ended. `reply`: nothing of an answer was sent, so the client gets a reply about `failure`."""

    client: Fate
    reuse_upstream: bool
    failure: Failure | None = None
    reply: bool = False


_KEEP_BOTH = Outcome(Fate.KEEP, True)
_KEEP_DOWNSTREAM = Outcome(Fate.KEEP, False)
_KEEP_UPSTREAM = Outcome(Fate.LINGER, True)
_KEEP_NONE = Outcome(Fate.LINGER, False)


class Exchange:
    """One request with its responses.

    The request is first being received, then `received`. The response is first *none*, then `begun` (a byte of it
    came), then `passed` (a byte of the final one went to the client). A replay is possible only while everything that
    was passed on is kept, and the response is *none*.
    """

    __slots__ = (
        *("_body", "_interim", "_kept", "_leased", "_replay_limit", "_upgrade", "attempts", "begun"),
        *(
            "changing",
            "close",
            "coder",
            "cut",
            "http11",
            "idempotent",
            "length",
            "method",
            "passed",
            "preflight",
            "raw_head",
        ),
        *("received", "replayed", "replays", "response", "sent", "tunnel", "uncompressed", "verbatim"),
    )

    def __init__(
        self,
        head: RequestHead,
        raw_head: bytes,
        replayable: bool | None = None,
        close: bool = False,
        replay_limit: int = 65536,
        replays: int = 1,
    ) -> None:
        """`raw_head` goes to the worker; `replayable`: safe to send twice, or not; None: depends on its method.

        `close` ends the client's connection after this exchange; `replay_limit` bounds the bytes of body kept, and
        `replays` how often it is sent again.
        """
        # Keep no reference to the head: thousands of long polls wait at once, and its fields are as large as all the
        # rest.
        self.method = method = head.method
        self.http11 = self.verbatim = head.http11
        self.length = head.length
        self.preflight = method == b"OPTIONS" and head.fields.get(b"access-control-request-method") is not None
        self._upgrade = head.upgrade
        self.raw_head = raw_head
        """The head that goes to a worker."""
        self.idempotent = method in IDEMPOTENT if replayable is None else replayable
        self._replay_limit = replay_limit
        self.replays = replays
        self._interim = 0
        self._body: list[bytes] | None = None
        self._kept = 0
        self.close = close or not head.persistent
        self.attempts = 0
        self._leased = False
        self.received = head.length == 0
        self.replayed = False
        self.sent = False
        self.begun = False
        self.passed = False
        self.cut = False
        self.tunnel = False
        self.response: ResponseHead | None = None
        self.changing: Changing | None = None
        """What is changed on the way; `verbatim`: nothing is, and the client takes the answer as it comes."""
        self.coder: Coder | None = None
        """Compresses the content of the answer."""
        self.uncompressed = 0
        """Bytes of content before compression."""

    def change(self, changing: Changing, most: int) -> None:
        """Apply these changes; `most`: the largest head of the request in bytes."""
        self.changing = changing
        self.verbatim = False
        self.raw_head = changing.request(self.raw_head, most)

    # The request.

    def receive_body(self, octets: bytes) -> bytes:
        """Take a part of the request body; return what to send to the worker now (nothing without a lease)."""
        if self.cut:
            return b""
        if not self._leased:
            self._keep(octets)
            return b""
        if self._kept + len(octets) <= self._replay_limit:
            self._keep(octets)
        else:
            # Too much to keep: this request cannot be sent again.
            self._kept = self._replay_limit + 1
            self._body = None
        return octets

    def receive_end(self) -> None:
        """All of the request is here."""
        self.received = True

    def _keep(self, octets: bytes) -> None:
        if self._body is None:
            self._body = []
        self._body.append(octets)
        self._kept += len(octets)

    @property
    def target(self) -> bytes:
        """The request-target, as it goes on."""
        return self.raw_head.split(b" ", 2)[1]

    @property
    def waiting_bytes(self) -> int:
        """Bytes of body that wait for a lease."""
        return 0 if self._leased else self._kept

    def start(self) -> bytes:
        """A connection to a worker is leased; return what to send on it first."""
        self.attempts += 1
        self._leased = True
        if self._body is None:
            return self.raw_head
        octets = b"".join([self.raw_head, *self._body])
        if self._kept > self._replay_limit:
            self._body = None
        return octets

    def mark_sent(self) -> None:
        """Bytes of the request have been sent to the worker."""
        self.sent = True

    def bypass(self) -> None:
        """The kernel moves the rest of the body, so this request cannot be sent again."""
        self._kept = self._replay_limit + 1
        self._body = None

    def lease_lost(self) -> None:
        """The worker's connection is gone and a replay will follow; until then the body waits again."""
        self.replayed = True
        self._leased = False

    @property
    def kept(self) -> bool:
        """All of the request that has come is kept."""
        return self._kept <= self._replay_limit

    @property
    def whole(self) -> bool:
        """All of the request has come and is kept, so another worker can get it."""
        return self.received and self._kept <= self._replay_limit

    # The response.

    def begin_answer(self) -> None:
        """The first byte of an answer is here."""
        self.begun = True

    def pass_interim(self, head: ResponseHead, most: int) -> bytes:
        """What the client gets of an interim response; raises WireError beyond `most` of them (RFC 9110 15.2)."""
        self._interim += 1
        if self._interim > most:
            raise WireError(Fault.SYNTAX, "too many interim responses", "RFC 9110 15.2")
        if not self.http11:
            return b""
        return head.passed_on(close=False, decoded=False)

    def pass_final(self, head: ResponseHead, *, request_sent: bool) -> bytes:
        """What the client gets of the head of a final response.

        `request_sent`: every byte of the request has been sent to the worker. If not, this answer is early: the rest of
        the request is not wanted, and both connections end with this exchange (R-68). Raises WireError for a 101
        that was not asked for.
        """
        length = head.length
        if length == TUNNEL:
            if self._upgrade is None or not self.received:
                raise WireError(Fault.SYNTAX, "a 101 that nobody asked for", "RFC 9110 15.2.2")
            switched = head.switched(self._upgrade)
        self.response = head
        self.passed = True
        if length == TUNNEL:
            self.tunnel = True
            return switched
        if not (self.received and request_sent):
            self.cut = True
        if length == UNTIL_CLOSE or self.cut:
            self.close = True
        if self.changing is not None:
            octets, self.coder = self.changing.answer(head, close=self.close, decoded=not self.http11)
            return octets
        return head.passed_on(close=self.close, decoded=not self.http11)

    def end_coding(self) -> Coder:
        """The content is complete, or will not be."""
        coder = self.coder
        assert coder is not None
        self.coder = None
        self.uncompressed = coder.taken
        return coder

    def pass_whole(self, head: ResponseHead, whole: bytes) -> bytes:
        """What the client gets of a complete final response to a request that has been sent.

        Empty, with nothing changed, unless all of the request has come, nothing of an answer was passed, and both
        connections stay open. Otherwise the exchange is over; `finish` need not be called.
        """
        if self.begun or self.close or not (self.verbatim and self.received and head.persistent):
            return b""
        self.begun = self.passed = True
        self.response = head
        return whole if head.unchanged else head.relayed(whole)

    # The end.

    def close_afterwards(self) -> None:
        """Close the client's connection after this exchange, whatever it asked for."""
        self.close = True

    def finish(self) -> Outcome:
        """The response is complete."""
        response = self.response
        assert response is not None
        reuse = response.persistent and not self.cut and self.http11 and not self.tunnel
        if self.close:
            return _KEEP_UPSTREAM if reuse else _KEEP_NONE
        return _KEEP_BOTH if reuse else _KEEP_DOWNSTREAM

    def begin_anew(self) -> None:
        """Ignore what has come of an answer, and send the request again from the beginning."""
        self.begun = False
        self.sent = False
        self._leased = False
        self._interim = 0

    def withdraw(self) -> None:
        """Take the request from its worker and give it to another one; this attempt does not count."""
        self.begin_anew()
        self.attempts -= 1

    def fail(self, failure: Failure) -> Outcome:
        """The exchange cannot go on: reply if nothing of an answer was passed, else cut the connection."""
        if failure in (Failure.CLIENT_GONE, Failure.CLIENT_STALLED) or self.passed:
            return Outcome(Fate.ABORT, False, failure)
        return Outcome(Fate.LINGER, False, failure, reply=True)
