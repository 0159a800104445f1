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
    """`forwarded:`. Whose word about the client's address and scheme is taken."""

    trust: tuple[kinds.Addresses, ...] = field(
        default=LOOPBACK,
        metadata=doc(
            "Peers whose X-Forwarded-For and X-Forwarded-Proto are believed, as addresses or networks. UNIX peers "
            "always are. The client is the rightmost address in X-Forwarded-For that is not in this list."
        ),
    )
    hops: kinds.Count = field(
        default=16,
        metadata=doc(
            "Elements of X-Forwarded-For that are looked at, from its end. A client can write thousands in front of "
            "those that your proxies add."
        ),
    )
    proto: kinds.Scheme | None = field(
        default=None,
        metadata=doc(
            "X-Forwarded-Proto where no trusted peer said otherwise. Absent: the listener's scheme for a peer that is "
            "not trusted; for one that is, the scheme of Synapse's `public_baseurl`, or no line where nobody knows it."
        ),
    )
    proxy_protocol: tuple[kinds.Addresses, ...] = field(
        default=(),
        metadata=doc(
            "Balancers that begin each connection with a header of the PROXY protocol, version 1 or 2, as addresses or "
            "networks. They have to, and who it names counts as the peer; nobody else's is believed. It is expected on "
            "every entry of `listen`, or only on those that begin with `haproxy:`, where there are such."
        ),
    )


@frozen(kw_only=True)
class Access:
    """`access:`. Who may reach what Synapse does not mean for everybody; default nobody."""

    admin: tuple[kinds.Addresses, ...] = field(default=(), metadata=doc("Networks that may reach /_synapse/admin."))
    mas: tuple[kinds.Addresses, ...] | None = field(
        default=None,
        metadata=doc(
            "Networks that may reach /_synapse/mas; only MAS itself needs it. Absent: this host, where MAS listens on "
            "loopback or a UNIX socket, else nobody."
        ),
    )
    metrics: tuple[kinds.Addresses, ...] = field(default=(), metadata=doc("Networks that may reach /_synapse/metrics."))


@frozen(kw_only=True)
class Worker:
    """`workers.NAME:`. Explicit topology, alone or on top of the one read from Synapse."""

    endpoint: kinds.ClientEndpoint | None = field(
        default=None,
        metadata=doc(
            "Where the worker listens: a Twisted client endpoint string, `unix:/run/synapse/sync1.sock` or "
            "`tcp:host:port`. Required unless Synapse's own configuration names the worker."
        ),
    )
    serves: tuple[kinds.Resource, ...] | None = field(
        default=None,
        metadata=doc("Resources of its listener; absent: those in Synapse's files, else all that there are."),
    )
    writes: tuple[kinds.Stream, ...] | None = field(
        default=None, metadata=doc("Streams that it writes: typing, to_device, receipts, events, …")
    )
    weight: kinds.Weight = field(
        default=1.0, metadata=doc("Its share of keys compared with the others of its pool; 0 takes it out.")
    )
    health: HealthPath = field(
        default="/health",
        metadata=doc(
            "Path at which it says that it serves, with any status below 500; `false` for what is no Synapse and has "
            "none: then it counts as well as long as it takes connections."
        ),
    )


@frozen(kw_only=True)
class Pool:
    """`pools.NAME:`. Which workers take a kind of request, and how one of them is chosen."""

    workers: tuple[kinds.Glob, ...] | None = field(
        default=None,
        metadata=doc("Names of workers, or globs such as `sync*`; absent: all that can serve it."),
    )
    affinity: kinds.Affinity | None = field(
        default=None, metadata=doc("What is kept on one worker; absent: what each endpoint needs.")
    )
    fallback: tuple[kinds.Name, ...] | None = field(
        default=None,
        metadata=doc("Pools that take the request when every worker of this one is down, in order."),
    )
    request_body: Size | None = field(
        default=None, metadata=doc("Largest request body in this pool; absent: limits.request_body.")
    )
    answer: Duration | None = field(default=None, metadata=doc("timeouts.answer for this pool."))
    wait: DurationOrZero | None = field(
        default=None, metadata=doc("timeouts.wait and timeouts.wait_federation for this pool.")
    )
    concurrency: Count | None = field(
        default=None,
        metadata=doc(
            "Requests served at once for each worker that shares the keys; absent: limits.concurrency, or "
            "limits.initial_syncs "
            "for the pool initial_sync."
        ),
    )
    waiting: CountOrZero | None = field(
        default=None,
        metadata=doc("Requests that may wait for their turn in this pool; more are shed. Absent: limits.waiting."),
    )
    spread: Count | None = field(
        default=None,
        metadata=doc(
            "How many of the workers share the keys; the others are next in rank, and replace those that are down. "
            "Absent: for sync half of the workers, rounded up, unless `workers` names them; for initial_sync and "
            "sliding_sync what sync has; else all. Every worker that holds syncs loads every event of its users' "
            "rooms, so that fewer workers cost Synapse less. No effect on events: a room belongs to its persister."
        ),
    )
    coalesce: DurationOrZero | None = field(
        default=None,
        metadata=doc(
            "How long a long poll (a GET or POST with `timeout`) waits before it goes to its worker, if the same "
            "client's last one came less than 2.5 times as long ago. What happens meanwhile then comes in one answer "
            "instead of several. A client gets nothing later than by this much, and the first news after a pause "
            "at once. 0 switches it off. Absent: 100ms for sync, what sync has for sliding_sync, else 0."
        ),
    )
    bounded: kinds.Factor | None = field(
        default=None,
        metadata=doc(
            "Above 1: a worker with more than this many times the mean of requests in flight, of those that share the "
            "keys, passes a key to its next candidate. Off by default, because it moves keys."
        ),
    )
    strip_prefix: Prefix | None = field(
        default=None,
        metadata=doc(
            "Taken from the beginning of the path, for a service that does not know below which path it is reached. "
            "Not for Synapse's own workers, whose paths are signed."
        ),
    )
    add_prefix: Prefix | None = field(
        default=None,
        metadata=doc("Put in front of the path, after strip_prefix has been taken off. For the same services."),
    )
    sorry: Sorry | None = field(
        default=None,
        metadata=doc(
            "What browsers are shown where no worker of this pool answers; absent: a Matrix error, as clients want it."
        ),
    )


@frozen(kw_only=True)
class Sorry:
    """`sorry:` of a pool. The status is the one that the failure has: 429, 502, 503 or 504."""

    body: kinds.Text = field(metadata=doc("The page."))
    type: FieldValue = field(default="text/html; charset=utf-8", metadata=doc("Its Content-Type."))


@frozen(kw_only=True)
class Route:
    """One entry of `routes:`. All conditions given must hold; exactly one of the outcomes is given."""

    host: tuple[kinds.Host, ...] | None = field(
        default=None,
        metadata=doc("Host names, `*.example.org` for all below; compared without port and case."),
    )
    method: tuple[kinds.Method, ...] | None = field(default=None, metadata=doc("Methods."))
    path: kinds.PathPattern | None = field(
        default=None,
        metadata=doc("A path of literal segments, `{name}` for exactly one segment, and a last `**` for any rest."),
    )
    query: Mapping[kinds.Line, kinds.Line | None] | None = field(
        default=None, metadata=doc("Query parameters: name and value, or name and null for «present».")
    )
    header: Mapping[kinds.FieldName, kinds.Line | None] | None = field(
        default=None, metadata=doc("Field lines: name and value, or name and null for «present».")
    )
    header_like: Mapping[kinds.FieldName, Wildcard] | None = field(
        default=None,
        metadata=doc(
            "Field lines: name and a pattern for the whole value, in which `*` stands for any text. Compared without "
            'case: `User-Agent: "*element*"`.'
        ),
    )
    source: tuple[kinds.Addresses, ...] | None = field(default=None, metadata=doc("Networks of the client's address."))
    scheme: kinds.Scheme | None = field(
        default=None,
        metadata=doc(
            "`http` or `https`, as sent to Synapse in X-Forwarded-Proto. It is that of the listener if the peer "
            "is not trusted and does not send the header. If the scheme is unknown, the condition does not match."
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
            "`false`: the answers of `pool` go as they are; `true`: they are compressed, those to other homeservers "
            "too. Absent: as `compress` has it for the endpoint."
        ),
    )
    table: kinds.Flag | None = field(
        default=None,
        metadata=doc(
            "`true`: go on with the endpoint table, past the routes below; for exceptions to one that takes all."
        ),
    )


@frozen(kw_only=True)
class Respond:
    """`respond:` of a route."""

    status: kinds.FixedStatus = field(default=200, metadata=doc("Status of the response."))
    body: kinds.Text = field(default="", metadata=doc("Its content."))
    headers: Mapping[kinds.FieldName, FieldValue] = field(
        factory=dict, metadata=doc("Its fields; Content-Length and CORS are added.")
    )


@frozen(kw_only=True)
class Redirect:
    """`redirect:` of a route."""

    to: Location = field(
        metadata=doc(
            "Location; `{target}` stands for the request-target as received, `{host}` for Host without its port. A "
            "request without Host is refused where `{host}` is needed. A host, or the beginning of a path, has to "
            "stand in front of `{target}`."
        )
    )
    status: kinds.RedirectStatus = field(default=302, metadata=doc("301, 302, 303, 307 or 308."))


@frozen(kw_only=True)
class Synapse:
    """`synapse:`. Where Synapse's own configuration is."""

    config: tuple[kinds.Path, ...] = field(
        default=(),
        metadata=doc("homeserver.yaml and conf.d: files or directories, merged as Synapse merges them."),
    )
    workers: tuple[kinds.Path, ...] = field(
        default=(), metadata=doc("Worker files, or directories of them; each merges over synapse.config.")
    )
    version: kinds.Version | None = field(
        default=None,
        metadata=doc(
            "Synapse release whose endpoint table is used; absent: asked from the running main process, else the "
            "newest known."
        ),
    )
    mas: ServiceUrl | None = field(
        default=None,
        metadata=doc(
            "Where the Matrix Authentication Service (MAS) listens, as `http://HOST:PORT` or `unix:/PATH`: /login, "
            "/logout and /refresh go there. Absent: `matrix_authentication_service.endpoint` of Synapse's files, where "
            "that is enabled; `false`: nowhere."
        ),
    )


@frozen(kw_only=True)
class Settings:
    """The whole of `sidecar.yaml`."""

    listen: tuple[kinds.ServerEndpoint, ...] = field(
        default=("tcp:8008:interface=127.0.0.1", "tcp:8008:interface=\\:\\:1"),
        metadata=doc(
            "A Twisted server endpoint string, or a list of them. `ssl:` speaks TLS; its files are read again with the "
            "rest. `haproxy:` in front expects the PROXY protocol from who is in forwarded.proxy_protocol; `http2:` in "
            "front of both takes HTTP/2 besides HTTP/1.1."
        ),
    )
    admin: kinds.ServerEndpoint | None = field(
        default=None,
        metadata=doc("Endpoint of the operator's listener; never on the public port. Absent: there is none."),
    )
    operator: Operator = field(factory=Operator, metadata=doc("Who may use the operator's listener, and what for."))
    synapse: Synapse = field(factory=Synapse, metadata=doc("Where Synapse's own configuration is."))
    workers: Mapping[kinds.Name, Worker] = field(factory=dict, metadata=doc("Explicit topology."))
    pools: Mapping[kinds.Name, Pool] = field(factory=dict, metadata=doc("Pools that differ from the built-in ones."))
    routes: tuple[Route, ...] = field(
        default=(), metadata=doc("Own routes, first match wins, tried before the endpoint table.")
    )
    compress: Compress | None = field(
        default=None,
        metadata=doc(
            "Answers to clients are compressed; absent: they pass byte for byte, as they came. Never media, nor what "
            "a worker has compressed itself."
        ),
    )
    balancers: Mapping[kinds.Name, Balancer] = field(
        factory=dict, metadata=doc("Connections of other services that are passed on, as to PostgreSQL or LDAP.")
    )
    forwarded: Forwarded = field(factory=Forwarded, metadata=doc("Whose word about the client is taken."))
    access: Access = field(factory=Access, metadata=doc("Who may reach the administrative paths."))
    limits: Limits = field(factory=Limits, metadata=doc("Bounds on everything that a peer could grow."))
    timeouts: Timeouts = field(factory=Timeouts, metadata=doc("Deadlines."))
    tokens: Tokens = field(factory=Tokens, metadata=doc("How the user is found whose token does not name one."))
    log: Log = field(factory=Log, metadata=doc("What is written to the log."))
    rollout: Rollout = field(factory=Rollout, metadata=doc("How `matrix-sidecar rollout` restarts Synapse."))
    source: Document = field(default=Document(""), eq=False, repr=False, metadata={})
    """The file, to place what is found wrong later; no key."""
    warnings: tuple[Problem, ...] = field(default=(), eq=False, metadata={})
    """What was found odd in the file, but does not hinder; no key."""

    @property
    def path(self) -> str:
        """The file that this was read from, empty where it was made in memory."""
        return self.source.file
