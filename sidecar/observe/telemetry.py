"""What is counted and what is logged. Counters are plain integers, read by whoever asks. Knows no transports."""

from __future__ import annotations

from attrs import define, field
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogPublisher,
)
from zope.interface import implementer


@implementer(ILogObserver)
@define
class _Sink:
    """Where everything goes that is important enough."""

    observer: ILogObserver

    def __call__(self, event: LogEvent) -> None:
        self.observer(event)


_sink = _Sink(globalLogPublisher)
_levels = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)
_observer = FilteringLogObserver(_sink, [_levels])


def logger(namespace: str) -> Logger:
    """A logger of the sidecar, which heeds `log.level`. `namespace` is `sidecar` or begins with `sidecar.`."""
    return Logger(namespace=namespace, observer=_observer)


def log_from(level: str) -> None:
    """Write what is at least as important as `level`: debug, info, warn or error."""
    _levels.setLogLevelForNamespace("sidecar", LogLevel.levelWithName(level))


def log_into(observer: ILogObserver) -> None:
    """Write to `observer` from now on, and not to Twisted's own log: inside another program, to that program's."""
    _sink.observer = observer


@define
class Counters:
    """Totals since the start; bytes where the name says so, else events."""

    connections: int = 0
    """Client connections accepted."""
    connections_open: int = 0
    connections_refused: int = 0
    """Client connections beyond the limit of their address."""
    requests: int = 0
    refused: int = 0
    """Requests answered by the sidecar itself because they were malformed, too large or closed by `access`."""
    failed: int = 0
    """Exchanges that ended in a reply of the sidecar or in a cut."""
    replayed: int = 0
    replaying: int = 0
    """Exchanges under way that are being sent a second time."""
    waited: int = 0
    """Requests that had to wait for a connection."""
    coalesced: int = 0
    """Long polls that were held back (`pools.NAME.coalesce`)."""
    parked: int = 0
    """Requests that wait at this moment: for their turn in a pool, or for a worker's connection."""
    shed: int = 0
    """Requests answered 429, or 503 to other servers, because too many waited."""
    fallen_back: int = 0
    """Requests given to a worker outside of their pool, because nobody in it was up."""
    falling_back: int = 0
    """Those of them that main is serving at this moment."""
    moved: int = 0
    """Requests with a key that did not go to the first candidate of that key."""
    misrouted: int = 0
    """Requests that a worker did not know although it should."""
    misroutes: dict[tuple[str, str], int] = field(factory=dict)
    """The same by endpoint and worker."""
    compressed: int = 0
    """Answers that were compressed."""
    compressing: int = 0
    """Those of them that are not over."""
    compressed_from: int = 0
    """Bytes of their content as workers sent it."""
    compressed_to: int = 0
    """The same as clients were sent it."""
    client_gone: int = 0
    tokens_known: int = 0
    """Requests with a token that does not name its user, who was remembered."""
    tokens_asked: int = 0
    """Calls to Synapse's `whoami` to find the user of such a token."""
    tokens_learned: int = 0
    """Users learned from answers that pass through."""
    tokens_refused: int = 0
    """Questions to which the answer was that the token is nobody's."""
    tokens_failed: int = 0
    """Questions without a usable answer."""
    tokens_late: int = 0
    """Requests that went on by their token because the answer took too long."""
    tokens_unasked: int = 0
    """Requests that went on by their token because nothing could be asked."""
    bytes_up: int = 0
    bytes_down: int = 0
