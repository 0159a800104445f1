"""One request and its response: what happened goes in, what to do comes out.

The only writer of the progress of a message. Decides what goes on, what is kept so that it can be sent again, and
whether each connection may carry another message afterwards. Whether something is sent again says
`sidecar.exchange.retries`. Reads no clock, holds no connection, knows no worker.
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
    LINGER = "linger"  # close so that the client still reads what was sent
    ABORT = "abort"  # reset, so that nobody takes the answer for complete


KEEP: Final = Fate.KEEP
"""Python looks a member up anew each time; this is asked with every request."""


@frozen(slots=True)
class Outcome:
    """How an exchange ended. `failure` without an answer begun is to be told to the client."""

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

    The request passes through the states *received so far* and `received`; the response through *none*, `begun`
    (an octet of it came) and `passed` (an octet of the final one went to the client). A replay is possible as long
    as everything passed on is kept, and only while the response is *none*.
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
        """`raw_head` is what goes upstream; `replayable`: safe to send twice, or not; None: as its method says.

        `close` ends the client's connection after this exchange; `replay_limit` bounds the bytes of body kept, and
        `replays` how often it is sent again.
        """
        # Not the head itself: thousands of long polls wait at once, and its fields are as large as all the rest.
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
        """What is changed on the way; `verbatim`: nothing is, and the client can have all as it comes."""
        self.coder: Coder | None = None
        """What the content of the answer passes."""
        self.uncompressed = 0
        """Bytes of content that the answer had before that."""

    def change(self, changing: Changing, most: int) -> None:
        """Change this of the exchange, as far as the request's head has at most `most` bytes then."""
        self.changing = changing
        self.verbatim = False
        self.raw_head = changing.request(self.raw_head, most)

    # The request.

    def receive_body(self, octets: bytes) -> bytes:
        """Take a part of the request body; return what to send upstream now (nothing while there is no lease)."""
        if self.cut:
            return b""
        if not self._leased:
            self._keep(octets)
            return b""
        if self._kept + len(octets) <= self._replay_limit:
            self._keep(octets)
        else:
            # Too much to keep: from here on this request cannot be sent again.
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
        """A worker's connection is there; return what to send first on it."""
        self.attempts += 1
        self._leased = True
        if self._body is None:
            return self.raw_head
        octets = b"".join([self.raw_head, *self._body])
        if self._kept > self._replay_limit:
            self._body = None
        return octets

    def mark_sent(self) -> None:
        """Octets of the request have left for the worker."""
        self.sent = True

    def bypass(self) -> None:
        """The rest of the body goes to the worker without passing here, so this request cannot be sent again."""
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
        """All of the request has come, and is kept, so that it could be given to somebody else."""
        return self.received and self._kept <= self._replay_limit

    # The response.

    def begin_answer(self) -> None:
        """The first octet of an answer is here."""
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

        `request_sent`: every octet of the request has left for the worker. If not, this answer is early: the rest of
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
        """The content has passed its stage, or will not any more."""
        coder = self.coder
        assert coder is not None
        self.coder = None
        self.uncompressed = coder.taken
        return coder

    def pass_whole(self, head: ResponseHead, whole: bytes) -> bytes:
        """What the client gets of a final response that is here as a whole, to a request that has been sent.

        Nothing, and nothing has happened, unless all of the request has come, nothing of an answer, and both
        connections go on as they are; else nothing of the exchange is left to do, not even to `finish` it.
        """
        if self.begun or self.close or not (self.verbatim and self.received and head.persistent):
            return b""
        self.begun = self.passed = True
        self.response = head
        return whole if head.unchanged else head.relayed(whole)

    # The end.

    def close_afterwards(self) -> None:
        """The client's connection ends with this exchange, whatever it asked for."""
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
        """What has answered is not to be heard; the request is sent again as if it had not been."""
        self.begun = False
        self.sent = False
        self._leased = False
        self._interim = 0

    def withdraw(self) -> None:
        """The worker that has the request is not to answer it: another one will, and this attempt does not count."""
        self.begin_anew()
        self.attempts -= 1

    def fail(self, failure: Failure) -> Outcome:
        """The exchange cannot go on: a reply where nothing was answered yet, else a visible cut."""
        if failure in (Failure.CLIENT_GONE, Failure.CLIENT_STALLED) or self.passed:
            return Outcome(Fate.ABORT, False, failure)
        return Outcome(Fate.LINGER, False, failure, reply=True)
