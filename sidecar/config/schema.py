"""What `sidecar.yaml` can say, as frozen values with their defaults.

The sentence in each field's metadata is its documentation: `docs/configuration.md` is made from this module.
Durations are seconds (`float`), sizes are bytes (`int`); the loader converts `10s` and `50M`. Nothing here
opens a file or a socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from attrs import field, frozen

from sidecar.config import kinds
from sidecar.config.kinds import Count, CountOrZero, Duration, DurationOrZero, Size, SizeOrZero
from sidecar.config.kinds import Network as Network
from sidecar.config.units import KIB, MIB
from sidecar.document import Document
from sidecar.errors import Problem


def _doc(text: str) -> dict[str, Any]:
    return {"doc": text}


@frozen(kw_only=True)
class Limits:
    """`limits:`. Every quantity that a peer could grow has a bound here."""

    request_target: Size = field(
        default=12 * KIB,
        metadata=_doc("Longest request-target; a longer one is answered 414. RFC 9112 3: at least 8000."),
    )
    request_head: Size = field(
        default=16_000,
        metadata=_doc(
            "Largest request head, with the lines that the sidecar adds; a larger one is answered 431. Synapse "
            "refuses request line and fields of more than 16384 bytes without saying why."
        ),
    )
    request_fields: Count = field(default=200, metadata=_doc("Most field lines in a request; more are answered 431."))
    request_body: Size = field(
        default=50 * MIB,
        metadata=_doc(
            "Largest request body, answered 413 before it is read. Synapse itself cuts the connection without an "
            "answer at max_upload_size on media processes (50M unless configured) and at 13107200 elsewhere."
        ),
    )
    response_head: Size = field(
        default=64 * KIB, metadata=_doc("Largest response head from a worker; a larger one becomes a 502.")
    )
    response_fields: Count = field(default=200, metadata=_doc("Most field lines in a response; more become a 502."))
    chunk_line: Size = field(
        default=1 * KIB, metadata=_doc("Longest chunk-size line, with its extensions, either way.")
    )
    chunk_extensions: SizeOrZero = field(
        default=16 * KIB, metadata=_doc("Most bytes of chunk extensions in one message, either way.")
    )
    trailers: SizeOrZero = field(default=8 * KIB, metadata=_doc("Largest trailer section, either way."))
    interim_responses: CountOrZero = field(
        default=20, metadata=_doc("Most 1xx responses before the final one; more become a 502.")
    )
    pipelined: Size = field(
        default=64 * KIB,
        metadata=_doc(
            "Bytes read ahead from a client while its previous request is being answered; beyond that the client "
            "is not read. The same bound holds for what waits to be written in either direction."
        ),
    )
    connections: Count = field(
        default=10_000,
        metadata=_doc("Client connections at once; more wait in the kernel's queue."),
    )
    connections_per_address: Count = field(
        default=1_000,
        metadata=_doc(
            "Client connections at once from one address; more are answered 503 and closed. Addresses in "
            "forwarded.trust are exempt, because they speak for many."
        ),
    )
    worker_connections: Count = field(
        default=8_192,
        metadata=_doc("Connections to one worker at once. Every long poll holds one for as long as it waits."),
    )
    worker_idle: CountOrZero = field(default=64, metadata=_doc("Idle connections kept to one worker."))
    worker_connecting: Count = field(
        default=32,
        metadata=_doc(
            "Connections to one worker that may be in the act of connecting at once. Synapse listens with a "
            "backlog of 50, and on a UNIX socket the 52nd fails at once."
        ),
    )
    waiting: CountOrZero = field(
        default=1_000, metadata=_doc("Requests that may wait in line for one worker; more are answered 503.")
    )
    linger: SizeOrZero = field(
        default=16 * MIB,
        metadata=_doc("Bytes of a refused request that are read and discarded so that the client sees the reply."),
    )


@frozen(kw_only=True)
class Timeouts:
    """`timeouts:`. Every moment that can pass has a name here."""

    head: Duration = field(
        default=10.0,
        metadata=_doc("From the first byte of a request to the end of its head; then 408. A total, not per byte."),
    )
    idle: Duration = field(
        default=75.0, metadata=_doc("A client connection without a request; then closed without a word.")
    )
    body: Duration = field(
        default=30.0, metadata=_doc("Without a byte of a request body that was announced; then 408.")
    )
    connect: Duration = field(default=2.0, metadata=_doc("For one attempt to connect to a worker."))
    wait: DurationOrZero = field(
        default=10.0,
        metadata=_doc(
            "In line for a worker that is restarting or busy; then 503 with Retry-After. A Synapse worker restarts "
            "in two to five seconds."
        ),
    )
    answer: Duration = field(
        default=900.0,
        metadata=_doc(
            "From the end of a request to the first byte of its answer; then 504. An initial sync of a large "
            "account takes many minutes in which Synapse says nothing."
        ),
    )
    answer_body: Duration = field(
        default=120.0,
        metadata=_doc("Without a byte of an answer that has begun; then the connection is cut."),
    )
    stall: Duration = field(
        default=60.0, metadata=_doc("A client that takes none of the bytes that wait for it; then reset.")
    )
    linger: DurationOrZero = field(
        default=2.0, metadata=_doc("Reading on after a refusal, so that the client sees the reply.")
    )
    tunnel: Duration = field(default=600.0, metadata=_doc("An upgraded connection on which no byte moves."))
    worker_idle: Duration = field(
        default=30.0,
        metadata=_doc(
            "An unused connection to a worker. Synapse before 1.140 closes them after 60 s; staying well below "
            "avoids the race."
        ),
    )
    drain: DurationOrZero = field(
        default=60.0,
        metadata=_doc("Running exchanges when the sidecar stops; long polls of 30 s end by themselves in it."),
    )


LOOPBACK: tuple[kinds.Addresses, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@frozen(kw_only=True)
class Forwarded:
    """`forwarded:`. Whose word about the client's address and scheme is taken."""

    trust: tuple[kinds.Addresses, ...] = field(
        default=LOOPBACK,
        metadata=_doc(
            "Peers whose X-Forwarded-For and X-Forwarded-Proto are believed, as addresses or networks. UNIX peers "
            "always are. The client is the rightmost address in X-Forwarded-For that is not in this list."
        ),
    )
    proto: kinds.Scheme | None = field(
        default=None,
        metadata=_doc("X-Forwarded-Proto where no trusted peer said otherwise; absent: the listener's scheme."),
    )


@frozen(kw_only=True)
class Access:
    """`access:`. Who may reach what Synapse does not mean for everybody; default nobody."""

    admin: tuple[kinds.Addresses, ...] = field(default=(), metadata=_doc("Networks that may reach /_synapse/admin."))
    mas: tuple[kinds.Addresses, ...] = field(
        default=(), metadata=_doc("Networks that may reach /_synapse/mas; only MAS itself needs it.")
    )
    metrics: tuple[kinds.Addresses, ...] = field(
        default=(), metadata=_doc("Networks that may reach /_synapse/metrics.")
    )


@frozen(kw_only=True)
class Log:
    """`log:`. What is written, and how much of it."""

    level: kinds.Level = field(default="info", metadata=_doc("Least important level that is written."))
    access: kinds.Flag = field(default=False, metadata=_doc("One line for each exchange."))


@frozen(kw_only=True)
class Worker:
    """`workers.NAME:`. Explicit topology, alone or on top of the one read from Synapse."""

    endpoint: kinds.ClientEndpoint | None = field(
        default=None,
        metadata=_doc(
            "Where the worker listens: a Twisted client endpoint string, `unix:/run/synapse/sync1.sock` or "
            "`tcp:host:port`. Required unless Synapse's own configuration names the worker."
        ),
    )
    serves: tuple[kinds.Resource, ...] | None = field(
        default=None,
        metadata=_doc("Resources of its listener; absent: those in Synapse's files, else all that there are."),
    )
    writes: tuple[kinds.Stream, ...] | None = field(
        default=None, metadata=_doc("Streams that it writes: typing, to_device, receipts, events, …")
    )
    weight: kinds.Weight = field(
        default=1.0, metadata=_doc("Its share of keys compared with the others of its pool; 0 takes it out.")
    )


@frozen(kw_only=True)
class Pool:
    """`pools.NAME:`. Which workers take a kind of request, and how one of them is chosen."""

    workers: tuple[kinds.Glob, ...] | None = field(
        default=None,
        metadata=_doc("Names of workers, or globs such as `sync*`; absent: all that can serve it."),
    )
    affinity: kinds.Affinity | None = field(
        default=None, metadata=_doc("What is kept on one worker; absent: what each endpoint needs.")
    )
    fallback: tuple[kinds.Name, ...] | None = field(
        default=None,
        metadata=_doc("Pools that take the request when every worker of this one is down, in order."),
    )
    request_body: Size | None = field(
        default=None, metadata=_doc("Largest request body in this pool; absent: limits.request_body.")
    )
    answer: Duration | None = field(default=None, metadata=_doc("timeouts.answer for this pool."))
    bounded: kinds.Factor | None = field(
        default=None,
        metadata=_doc(
            "Above 1: a worker with more than this many times the mean of requests in flight passes a key to its "
            "next candidate. Off by default, because it moves keys."
        ),
    )


@frozen(kw_only=True)
class Route:
    """One entry of `routes:`. All conditions given must hold; exactly one of the outcomes is given."""

    host: tuple[kinds.Host, ...] | None = field(
        default=None,
        metadata=_doc("Host names, `*.example.org` for all below; compared without port and case."),
    )
    method: tuple[kinds.Method, ...] | None = field(default=None, metadata=_doc("Methods."))
    path: kinds.PathPattern | None = field(
        default=None,
        metadata=_doc("A path of literal segments, `{name}` for exactly one segment, and a last `**` for any rest."),
    )
    query: Mapping[kinds.Line, kinds.Line | None] | None = field(
        default=None, metadata=_doc("Query parameters: name and value, or name and null for «present».")
    )
    header: Mapping[kinds.FieldName, kinds.Line | None] | None = field(
        default=None, metadata=_doc("Field lines: name and value, or name and null for «present».")
    )
    source: tuple[kinds.Addresses, ...] | None = field(default=None, metadata=_doc("Networks of the client's address."))
    pool: kinds.Name | None = field(default=None, metadata=_doc("Forward to this pool."))
    respond: Respond | None = field(default=None, metadata=_doc("Answer with this fixed response."))
    redirect: Redirect | None = field(default=None, metadata=_doc("Answer with this redirect."))
    refuse: kinds.RefusalStatus | None = field(
        default=None, metadata=_doc("Refuse with this status and a Matrix error.")
    )


@frozen(kw_only=True)
class Respond:
    """`respond:` of a route."""

    status: kinds.FixedStatus = field(default=200, metadata=_doc("Status of the response."))
    body: kinds.Text = field(default="", metadata=_doc("Its content."))
    headers: Mapping[kinds.FieldName, kinds.Line] = field(
        factory=dict, metadata=_doc("Its fields; Content-Length and CORS are added.")
    )


@frozen(kw_only=True)
class Redirect:
    """`redirect:` of a route."""

    to: kinds.Line = field(metadata=_doc("Location; `{target}` stands for the request-target as received."))
    status: kinds.RedirectStatus = field(default=302, metadata=_doc("301, 302, 303, 307 or 308."))


@frozen(kw_only=True)
class Synapse:
    """`synapse:`. Where Synapse's own configuration is."""

    config: tuple[kinds.Path, ...] = field(
        default=(),
        metadata=_doc("homeserver.yaml and conf.d: files or directories, merged as Synapse merges them."),
    )
    workers: tuple[kinds.Path, ...] = field(
        default=(), metadata=_doc("Worker files, or directories of them; each merges over synapse.config.")
    )
    version: kinds.Version | None = field(
        default=None,
        metadata=_doc(
            "Synapse release whose endpoint table is used; absent: asked from the running main process, else the "
            "newest known."
        ),
    )


@frozen(kw_only=True)
class Settings:
    """The whole of `sidecar.yaml`."""

    listen: tuple[kinds.ServerEndpoint, ...] = field(
        default=("tcp:8008:interface=127.0.0.1",),
        metadata=_doc("A Twisted server endpoint string, or a list of them."),
    )
    admin: kinds.ServerEndpoint | None = field(
        default=None,
        metadata=_doc("Endpoint of the operator's listener; never on the public port. Absent: there is none."),
    )
    synapse: Synapse = field(factory=Synapse, metadata=_doc("Where Synapse's own configuration is."))
    workers: Mapping[kinds.Name, Worker] = field(factory=dict, metadata=_doc("Explicit topology."))
    pools: Mapping[kinds.Name, Pool] = field(factory=dict, metadata=_doc("Pools that differ from the built-in ones."))
    routes: tuple[Route, ...] = field(
        default=(), metadata=_doc("Own routes, first match wins, tried before the endpoint table.")
    )
    forwarded: Forwarded = field(factory=Forwarded, metadata=_doc("Whose word about the client is taken."))
    access: Access = field(factory=Access, metadata=_doc("Who may reach the administrative paths."))
    limits: Limits = field(factory=Limits, metadata=_doc("Bounds on everything that a peer could grow."))
    timeouts: Timeouts = field(factory=Timeouts, metadata=_doc("Deadlines."))
    log: Log = field(factory=Log, metadata=_doc("What is written to the log."))
    source: Document = field(default=Document(""), eq=False, repr=False, metadata={})
    """The file, to place what is found wrong later; no key."""
    warnings: tuple[Problem, ...] = field(default=(), eq=False, metadata={})
    """What was found odd in the file, but does not hinder; no key."""

    @property
    def path(self) -> str:
        """The file that this was read from, empty where it was made in memory."""
        return self.source.file
