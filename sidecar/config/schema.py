"""What `sidecar.yaml` can say, as frozen values with their defaults.

The sentence in each field's metadata is its documentation: `docs/configuration.md` is made from this module.
Durations are seconds (`float`), sizes are bytes (`int`); the loader converts `10s` and `50M`. Nothing here
opens a file or a socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network

from attrs import field, frozen

from sidecar.config import kinds
from sidecar.config.authored import FieldValue, Location, Prefix
from sidecar.config.balancers import Balancer as Balancer
from sidecar.config.compression import Compress
from sidecar.config.kinds import Count, CountOrZero, Duration, DurationOrZero, Size, doc
from sidecar.config.kinds import Network as Network
from sidecar.config.limits import Limits as Limits
from sidecar.config.limits import Timeouts as Timeouts
from sidecar.config.log import Log as Log
from sidecar.config.operator import Operator as Operator
from sidecar.config.rollout import Rollout as Rollout
from sidecar.config.services import ServiceUrl
from sidecar.config.shares import HealthPath
from sidecar.config.tokens import Tokens as Tokens
from sidecar.config.wildcards import Wildcard
from sidecar.document import Document
from sidecar.errors import Problem

LOOPBACK: tuple[kinds.Addresses, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@frozen(kw_only=True)
class Forwarded:
    """`forwarded:`. Which peers may set the client's address and scheme."""

    trust: tuple[kinds.Addresses, ...] = field(
        default=LOOPBACK,
        metadata=doc(
            "Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted. Peers on "
            "UNIX sockets are always trusted. The client's address is the rightmost one in X-Forwarded-For that "
            "is not in this list."
        ),
    )
    hops: kinds.Count = field(
        default=16,
        metadata=doc(
            "Maximum number of addresses that are read from X-Forwarded-For, from its end. A client can write "
            "thousands in front of those that your proxies add."
        ),
    )
    proto: kinds.Scheme | None = field(
        default=None,
        metadata=doc(
            "X-Forwarded-Proto for Synapse, if no trusted peer sends one. Absent: the listener's scheme, for a "
            "peer that is not trusted. For a trusted peer, the scheme of Synapse's `public_baseurl`, or no "
            "header if that is unknown."
        ),
    )
    proxy_protocol: tuple[kinds.Addresses, ...] = field(
        default=(),
        metadata=doc(
            "Addresses or networks of load balancers that must begin each connection with a PROXY protocol "
            "header, version 1 or 2. The address in it then counts as the peer's address. Other peers must not "
            "send one. If entries of `listen` begin with `haproxy:`, this applies only to them. Otherwise it "
            "applies to all entries."
        ),
    )


@frozen(kw_only=True)
class Access:
    """`access:`. Who may reach Synapse's administrative paths. By default nobody may."""

    admin: tuple[kinds.Addresses, ...] = field(default=(), metadata=doc("Networks that may reach /_synapse/admin."))
    mas: tuple[kinds.Addresses, ...] | None = field(
        default=None,
        metadata=doc(
            "Networks that may reach /_synapse/mas. Only MAS needs it. Absent: this host, if MAS listens on "
            "loopback or a UNIX socket. Otherwise nobody."
        ),
    )
    metrics: tuple[kinds.Addresses, ...] = field(default=(), metadata=doc("Networks that may reach /_synapse/metrics."))


@frozen(kw_only=True)
class Worker:
    """`workers.NAME:`. Workers that you list yourself, alone or in addition to those in Synapse's files."""

    endpoint: kinds.ClientEndpoint | None = field(
        default=None,
        metadata=doc(
            "Where the worker listens, as a Twisted client endpoint string: `unix:/run/synapse/sync1.sock` or "
            "`tcp:host:port`. Required unless Synapse's own configuration names the worker."
        ),
    )
    serves: tuple[kinds.Resource, ...] | None = field(
        default=None,
        metadata=doc("Resources of its listener. Absent: those in Synapse's files, or all of them."),
    )
    writes: tuple[kinds.Stream, ...] | None = field(
        default=None, metadata=doc("Streams that the worker writes: typing, to_device, receipts, events, …")
    )
    weight: kinds.Weight = field(
        default=1.0,
        metadata=doc("Its share of the keys, compared with the other workers of its pool. 0 removes it from the pool."),
    )
    maximum: Count | None = field(
        default=None,
        metadata=doc(
            "Maximum number of requests that the worker gets at the same time, long polls included. More wait "
            "in its queue. Absent: limits.worker_connections."
        ),
    )
    health: HealthPath = field(
        default="/health",
        metadata=doc(
            "Path for health checks. Any status below 500 means that the worker is up. `false`: for a service "
            "without such a path, which counts as up while it accepts connections."
        ),
    )


@frozen(kw_only=True)
class Pool:
    """`pools.NAME:`. Which workers serve a kind of request, and how the sidecar chooses one of them."""

    workers: tuple[kinds.Glob, ...] | None = field(
        default=None,
        metadata=doc("Names of workers, or globs such as `sync*`. Absent: all workers that can serve it."),
    )
    affinity: kinds.Affinity | None = field(
        default=None,
        metadata=doc(
            "Requests with the same user, room and so on go to the same worker. Absent: each endpoint has its "
            "own affinity."
        ),
    )
    fallback: tuple[kinds.Name, ...] | None = field(
        default=None,
        metadata=doc("Pools that take over when all workers of this one are down, in order."),
    )
    request_body: Size | None = field(
        default=None, metadata=doc("Largest request body in this pool. Absent: limits.request_body.")
    )
    answer: Duration | None = field(default=None, metadata=doc("Overrides timeouts.answer for this pool."))
    wait: DurationOrZero | None = field(
        default=None, metadata=doc("Overrides timeouts.wait and timeouts.wait_federation for this pool.")
    )
    concurrency: Count | None = field(
        default=None,
        metadata=doc(
            "Maximum number of requests that are served at the same time, for each worker that shares the keys. "
            "Absent: limits.concurrency, or limits.initial_syncs for the pool initial_sync."
        ),
    )
    waiting: CountOrZero | None = field(
        default=None,
        metadata=doc(
            "Maximum number of requests that wait for their turn in this pool. More are refused. Absent: "
            "limits.waiting."
        ),
    )
    spread: Count | None = field(
        default=None,
        metadata=doc(
            "How many of the workers share the keys. The others are spares, which replace workers that are "
            "down. Absent: for sync, half of the workers, rounded up, or all that `workers` names. For "
            "initial_sync and sliding_sync, as many as for sync. For other pools, all workers. Every worker "
            "with syncs loads every event in its users' rooms, so fewer workers mean less load on Synapse. This "
            "does not apply to events, because each room has its own event persister."
        ),
    )
    coalesce: DurationOrZero | None = field(
        default=None,
        metadata=doc(
            "How long a long poll (a GET or POST with `timeout`) waits before it goes to its worker, if the "
            "same client's previous one came less than 2.5 times this long ago. Whatever happens meanwhile then "
            "comes in one answer instead of several. If many clients come at once, as in a large room, the poll "
            "waits at most two or three times as long. The first news after a pause never waits. 0: off. "
            "Absent: 100ms for sync, the value of sync for sliding_sync, otherwise 0."
        ),
    )
    bounded: kinds.Factor | None = field(
        default=None,
        metadata=doc(
            "A number above 1. If a worker runs more than this many times the average number of requests, its "
            "keys go to the next candidate. Only workers that share the keys count. Absent: off, because this "
            "moves keys."
        ),
    )
    strip_prefix: Prefix | None = field(
        default=None,
        metadata=doc(
            "Prefix that is removed from the path, for a service that expects another path. Do not use it for "
            "Synapse's workers, because their paths are signed."
        ),
    )
    add_prefix: Prefix | None = field(
        default=None,
        metadata=doc(
            "Prefix that is added to the path, after strip_prefix is removed. Do not use it for Synapse's "
            "workers either."
        ),
    )
    sorry: Sorry | None = field(
        default=None,
        metadata=doc(
            "Page that browsers get if no worker of this pool answers. Absent: a Matrix error, as clients expect it."
        ),
    )


@frozen(kw_only=True)
class Sorry:
    """`sorry:` of a pool. It is sent with the status of the failure: 429, 502, 503 or 504."""

    body: kinds.Text = field(metadata=doc("Body of the page."))
    type: FieldValue = field(default="text/html; charset=utf-8", metadata=doc("Content-Type of the page."))


@frozen(kw_only=True)
class Route:
    """One entry of `routes:`. A route matches if all of its conditions match.

    Give it exactly one of `pool`, `respond`, `redirect`, `refuse` and `table`.
    """

    host: tuple[kinds.Host, ...] | None = field(
        default=None,
        metadata=doc("Host names. `*.example.org` matches all names below it. Port and case do not matter."),
    )
    method: tuple[kinds.Method, ...] | None = field(default=None, metadata=doc("Methods."))
    path: kinds.PathPattern | None = field(
        default=None,
        metadata=doc("A path. `{name}` stands for exactly one segment, and `**` at the end for the rest."),
    )
    query: Mapping[kinds.Line, kinds.Line | None] | None = field(
        default=None, metadata=doc("Query parameters: a name and a value. With the value null, any value matches.")
    )
    header: Mapping[kinds.FieldName, kinds.Line | None] | None = field(
        default=None, metadata=doc("Headers: a name and a value. With the value null, any value matches.")
    )
    header_like: Mapping[kinds.FieldName, Wildcard] | None = field(
        default=None,
        metadata=doc(
            "Headers: a name and a pattern for the whole value, in which `*` stands for any text. Case does not "
            'matter: `User-Agent: "*element*"`.'
        ),
    )
    source: tuple[kinds.Addresses, ...] | None = field(
        default=None, metadata=doc("Networks that contain the client's address.")
    )
    scheme: kinds.Scheme | None = field(
        default=None,
        metadata=doc(
            "`http` or `https`: the value of X-Forwarded-Proto that Synapse gets. If clients connect directly, "
            "this is the scheme of the listener. If the scheme is unknown, the route does not match."
        ),
    )
    pool: kinds.Name | None = field(default=None, metadata=doc("Forward to this pool."))
    respond: Respond | None = field(default=None, metadata=doc("Answer with this fixed response."))
    redirect: Redirect | None = field(default=None, metadata=doc("Answer with this redirect."))
    refuse: kinds.RefusalStatus | None = field(
        default=None, metadata=doc("Refuse with this status and a Matrix error.")
    )
    compress: kinds.Flag | None = field(
        default=None,
        metadata=doc(
            "`false`: answers of `pool` are not compressed. `true`: they are compressed, even for other "
            "homeservers. Absent: the section `compress` decides."
        ),
    )
    table: kinds.Flag | None = field(
        default=None,
        metadata=doc(
            "`true`: use the endpoint table and skip the routes below. Use it for exceptions to a route that "
            "matches everything."
        ),
    )


@frozen(kw_only=True)
class Respond:
    """`respond:` of a route."""

    status: kinds.FixedStatus = field(default=200, metadata=doc("Status of the response."))
    body: kinds.Text = field(default="", metadata=doc("Its body."))
    headers: Mapping[kinds.FieldName, FieldValue] = field(
        factory=dict, metadata=doc("Its headers. Content-Length and CORS headers are added.")
    )


@frozen(kw_only=True)
class Redirect:
    """`redirect:` of a route."""

    to: Location = field(
        metadata=doc(
            "Target of the redirect. `{target}` stands for the request target as received, and `{host}` for the "
            "Host header without its port. If you use `{host}`, requests without a Host header are refused. "
            "Write a host or the beginning of a path in front of `{target}`."
        )
    )
    status: kinds.RedirectStatus = field(default=302, metadata=doc("301, 302, 303, 307 or 308."))


@frozen(kw_only=True)
class Synapse:
    """`synapse:`. Where Synapse's own configuration is."""

    config: tuple[kinds.Path, ...] = field(
        default=(),
        metadata=doc("homeserver.yaml and conf.d: files or directories. The sidecar merges them as Synapse does."),
    )
    workers: tuple[kinds.Path, ...] = field(
        default=(), metadata=doc("Worker files, or directories of worker files. Each overrides keys of synapse.config.")
    )
    version: kinds.Version | None = field(
        default=None,
        metadata=doc(
            "Synapse release whose endpoint table is used. Absent: the sidecar asks the main process. If that "
            "does not answer, it uses the newest release that it knows."
        ),
    )
    mas: ServiceUrl | None = field(
        default=None,
        metadata=doc(
            "Where the Matrix Authentication Service (MAS) listens, as `http://HOST:PORT` or `unix:/PATH`. "
            "/login, /logout and /refresh go there. Absent: `matrix_authentication_service.endpoint` in Synapse's "
            "files, if enabled. `false`: no MAS."
        ),
    )


@frozen(kw_only=True)
class Settings:
    """The whole of `sidecar.yaml`."""

    listen: tuple[kinds.ServerEndpoint, ...] = field(
        default=("tcp:8008:interface=127.0.0.1", "tcp:8008:interface=\\:\\:1"),
        metadata=doc(
            "A Twisted server endpoint string, or a list of them. `ssl:` is for TLS, and a reload reads its "
            "files again. With `haproxy:` in front, peers in forwarded.proxy_protocol must use the PROXY "
            "protocol. With `http2:` in front of both, clients can use HTTP/2 too."
        ),
    )
    admin: kinds.ServerEndpoint | None = field(
        default=None,
        metadata=doc("Endpoint of the operator's listener, never on the public port. Absent: no such listener."),
    )
    operator: Operator = field(factory=Operator, metadata=doc("Who may use the operator's listener, and what for."))
    synapse: Synapse = field(factory=Synapse, metadata=doc("Where Synapse's own configuration is."))
    workers: Mapping[kinds.Name, Worker] = field(factory=dict, metadata=doc("Workers that you list yourself."))
    pools: Mapping[kinds.Name, Pool] = field(factory=dict, metadata=doc("Pools that differ from the built-in ones."))
    routes: tuple[Route, ...] = field(
        default=(), metadata=doc("Your own routes. They come before the endpoint table, and the first match wins.")
    )
    compress: Compress | None = field(
        default=None,
        metadata=doc(
            "Compresses answers to clients, but never media, and never what a worker has already compressed. "
            "Absent: no answer is changed."
        ),
    )
    balancers: Mapping[kinds.Name, Balancer] = field(
        factory=dict, metadata=doc("TCP load balancers for other services, such as PostgreSQL or LDAP.")
    )
    forwarded: Forwarded = field(
        factory=Forwarded, metadata=doc("Which peers may set the client's address and scheme.")
    )
    access: Access = field(factory=Access, metadata=doc("Who may reach the administrative paths."))
    limits: Limits = field(
        factory=Limits, metadata=doc("Limits for everything that a client or a worker could make grow.")
    )
    timeouts: Timeouts = field(factory=Timeouts, metadata=doc("Deadlines."))
    tokens: Tokens = field(
        factory=Tokens, metadata=doc("How the sidecar finds the user of a token that does not name its user.")
    )
    log: Log = field(factory=Log, metadata=doc("What is written to the log."))
    rollout: Rollout = field(factory=Rollout, metadata=doc("How `matrix-sidecar rollout` restarts Synapse."))
    include: tuple[kinds.Included, ...] = field(
        default=(),
        metadata=doc(
            "Other files with keys of this page, or patterns with `*`, `?` and `[…]` for several, relative to the "
            "file that names them."
        ),
    )
    source: Document = field(default=Document(""), eq=False, repr=False, metadata={})
    """The file, to place what is found wrong later; no key."""
    warnings: tuple[Problem, ...] = field(default=(), eq=False, metadata={})
    """What was found odd in the file, but does not hinder; no key."""

    @property
    def path(self) -> str:
        """The file that this was read from, empty where it was made in memory."""
        return self.source.file
