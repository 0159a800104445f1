"""Every metric of the sidecar: name, kind, labels, and help text. `docs/metrics.md` is made from this.

Labels have values of the endpoint table, of the configuration and of closed lists in the code only, so the number of
series is bounded by what the operator wrote, whatever clients send. Knows no values.
"""

from __future__ import annotations

from typing import Literal

from attrs import frozen

PREFIX = "matrix_sidecar_"

Kind = Literal["counter", "gauge", "histogram"]


@frozen
class Metric:
    """One family of series."""

    name: str
    """Without `PREFIX`, and without the `_total` that Prometheus' counters end with."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """As Prometheus has it; a histogram's series are this with `_bucket`, `_sum` and `_count`."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


@frozen
class MetricGroup:
    """Metrics that belong together."""

    title: str
    metrics: tuple[Metric, ...]


LABELS = {
    "endpoint": "Name of the endpoint in the table (`matrix-sidecar routes` lists them); never a URL.",
    "pool": "Name of the pool that the request belongs to. Empty if a route answered it.",
    "worker": "Name of the Synapse process. The main process is `main`.",
    "code": "First digit of the status that the client got: `2xx`, `4xx`, …; `none` if it got no answer.",
    "reason": "How the exchange ended, as in the access log: `client_gone`, `worker_cut`, `no_worker`, …",
    "state": "What the connections are doing: `leased` (serving a request), `idle`, `connecting`.",
    "direction": "`up`: to the workers. `down`: to the clients.",
    "severity": "`warning` or `error`.",
    "served_by": "`workers` (of the pool), `fallback` (other workers, because those of the pool are down), `nobody` "
    "(requests wait, and then get 503), `unmounted` (no process has the endpoint, and main answers 404).",
    "balancer": "Name below `balancers`.",
    "server": "Name of one of its servers.",
    "cause": "`address` (too many from one address), `full` (too many wait), `wait` (no server in time), "
    "`unreachable`, `down` (the server went down, with `on_down: close`), `idle`, `stop`.",
    "outcome": "`written`, `dropped` (the reader is too slow and the buffer is full), `failed` (the file cannot "
    "be written).",
}
"""What the labels mean, for people."""

_ENDPOINT = ("endpoint", "pool")
_WORKER = ("worker", "pool")
_SERVER = ("balancer", "server")

REQUESTS = MetricGroup(
    "Requests",
    (
        Metric("requests", "counter", "Requests that have ended, for any reason.", (*_ENDPOINT, "code")),
        Metric("requests_in_flight", "gauge", "Requests that have begun and not yet ended.", ("endpoint",)),
        Metric(
            "request_duration_seconds",
            "histogram",
            "Time from the head of a request to the end of its answer. Long polls take as long as the client asks.",
            _ENDPOINT,
        ),
        Metric(
            "request_bytes", "counter", "Bytes of ended requests that were sent to workers, heads included.", _ENDPOINT
        ),
        Metric(
            "response_bytes",
            "counter",
            "Bytes of the answers to ended requests that were sent to clients, heads included.",
            _ENDPOINT,
        ),
        Metric(
            "failures", "counter", "Requests that ended without a complete answer from a worker.", ("pool", "reason")
        ),
        Metric(
            "transferred_bytes", "counter", "Bytes of all requests and answers, including running ones.", ("direction",)
        ),
    ),
)
WORKERS = MetricGroup(
    "Workers",
    (
        Metric(
            "worker_requests",
            "counter",
            "Requests that have ended, by the last worker that had them.",
            (*_WORKER, "code"),
        ),
        Metric(
            "first_byte_seconds",
            "histogram",
            "Time from the head of a request to the first byte of the worker's answer.",
            _WORKER,
        ),
        Metric("retries", "counter", "Retries of requests, because the connection to the worker ended.", _WORKER),
        Metric(
            "affinity_moves",
            "counter",
            "Requests that this worker got although their affinity key belongs to another worker.",
            _WORKER,
        ),
        Metric("worker_up", "gauge", "1 while the worker takes requests, 0 while it is down or stuck.", ("worker",)),
        Metric("worker_transitions", "counter", "Times that the worker went down or came up.", ("worker",)),
        Metric(
            "worker_slow_start",
            "gauge",
            "1 while a worker that has come back up gets only a part of its requests.",
            ("worker",),
        ),
        Metric("worker_draining", "gauge", "1 while the worker is drained.", ("worker",)),
        Metric(
            "worker_connections", "gauge", "Connections to the worker, by what they are doing.", ("worker", "state")
        ),
        Metric("worker_queue", "gauge", "Requests that wait for a connection to the worker.", ("worker",)),
        Metric(
            "worker_queue_bytes", "gauge", "Bytes of request bodies that are held in the worker's queue.", ("worker",)
        ),
        Metric(
            "queue_seconds",
            "histogram",
            "Time that requests waited for a connection to the worker. Only those that had to wait count.",
            ("worker",),
        ),
        Metric("connect_seconds", "histogram", "Time that it took to connect to the worker.", ("worker",)),
        Metric("connects", "counter", "Connections made to the worker.", ("worker",)),
        Metric("connect_failures", "counter", "Attempts to connect to the worker that failed.", ("worker",)),
        Metric("cuts", "counter", "Requests whose connection the worker closed without an answer.", ("worker",)),
        Metric(
            "misroutes",
            "counter",
            "Requests to an endpoint that the worker does not know, but main does. They are retried on main.",
            ("endpoint", "worker"),
        ),
    ),
)
POOLS = MetricGroup(
    "Pools",
    (
        Metric(
            "pool_workers",
            "gauge",
            "Workers of the pool. Workers that Synapse's files name for it count even if their address is unknown.",
            ("pool",),
        ),
        Metric("pool_workers_sharing", "gauge", "Workers that share the keys of the pool while all are up.", ("pool",)),
        Metric("pool_workers_up", "gauge", "Workers of the pool that are up and not drained.", ("pool",)),
        Metric(
            "pool_endpoints",
            "gauge",
            "Endpoint rows of the pool that clients can reach, by what serves them now.",
            ("pool", "served_by"),
        ),
        Metric("pool_running", "gauge", "Requests of the pool that a worker is serving.", ("pool",)),
        Metric(
            "pool_queue",
            "gauge",
            "Requests of the pool that wait: for their turn, for a worker, or for their user to be known.",
            ("pool",),
        ),
        Metric(
            "pool_admitted",
            "gauge",
            "Requests that have had their turn in the pool: running ones, and those that wait for a worker.",
            ("pool",),
        ),
        Metric(
            "pool_concurrency",
            "gauge",
            "How many requests may have had their turn at the same time (limits.concurrency).",
            ("pool",),
        ),
        Metric("turn_seconds", "histogram", "Time that requests waited for their turn in the pool.", ("pool",)),
    ),
)
CLIENTS = MetricGroup(
    "Clients",
    (
        Metric("client_connections", "gauge", "Open client connections."),
        Metric(
            "client_connections_limit",
            "gauge",
            "Maximum number of client connections: limits.connections, or fewer if the limit of open files is too low.",
        ),
        Metric("client_connections_accepted", "counter", "Client connections accepted."),
        Metric(
            "client_connections_refused",
            "counter",
            "Client connections refused because of limits.connections_per_address.",
        ),
        Metric("requests_begun", "counter", "Requests with a complete and valid head."),
        Metric(
            "requests_refused",
            "counter",
            "Requests that the sidecar refused: malformed, too large, or blocked by `access` or a route.",
        ),
        Metric(
            "requests_failed",
            "counter",
            "Requests that ended with an error from the sidecar, or with a closed connection.",
        ),
        Metric("requests_waited", "counter", "Requests that had to wait for a connection to a worker."),
        Metric("requests_parked", "gauge", "Requests that are waiting for their turn or for a worker."),
        Metric("requests_coalesced", "counter", "Long polls that were delayed a little (`pools.NAME.coalesce`)."),
        Metric("requests_shed", "counter", "Requests answered 429, or 503 to other servers, because too many waited."),
        Metric("requests_fallen_back", "counter", "Requests that went to a fallback, outside of their pool."),
        Metric("requests_falling_back", "gauge", "Requests that main is serving as a fallback (limits.fallback)."),
        Metric("requests_replaying", "gauge", "Requests that are being retried (limits.replays)."),
        Metric("requests_abandoned", "counter", "Requests whose client disconnected before the end of the answer."),
        Metric("answers_compressed", "counter", "Answers that the sidecar compressed (`compress`)."),
        Metric("answers_compressing", "gauge", "Answers that are being compressed (limits.compressing)."),
        Metric("answers_uncompressed_bytes", "counter", "Bytes of compressed answers, before compression."),
        Metric("answers_compressed_bytes", "counter", "Bytes of compressed answers, after compression."),
    ),
)
TOKENS = MetricGroup(
    "Tokens that do not name their user",
    (
        Metric("tokens_known", "counter", "Requests with such a token whose user the sidecar already knew."),
        Metric("tokens_asked", "counter", "Calls to Synapse's `whoami` to find the user of such a token."),
        Metric("tokens_learned", "counter", "Users learned from answers to clients, without a call to `whoami`."),
        Metric("tokens_refused", "counter", "Calls to `whoami` that answered that the token is unknown."),
        Metric("tokens_failed", "counter", "Calls to `whoami` without a usable answer."),
        Metric(
            "tokens_late", "counter", "Requests whose worker was chosen by their token, because `whoami` took too long."
        ),
        Metric(
            "tokens_unasked",
            "counter",
            "Requests whose worker was chosen by their token, because `whoami` could not be called.",
        ),
        Metric("caller_seconds", "histogram", "Time that requests waited for the answer of `whoami`."),
    ),
)
PROCESS = MetricGroup(
    "The sidecar itself",
    (
        Metric("ready", "gauge", "1 while `/ready` answers 200."),
        Metric("stopping", "gauge", "1 while the sidecar is stopping."),
        Metric("maintenance", "gauge", "1 while maintenance mode answers clients 503."),
        Metric(
            "build_info",
            "gauge",
            "Always 1. The labels are the versions of the sidecar, of Python and Twisted, and of the Synapse "
            "release whose endpoints are in use.",
            ("version", "python", "twisted", "endpoints"),
        ),
        Metric(
            "config_problems",
            "gauge",
            "Problems that `matrix-sidecar check` finds in the configuration in force.",
            ("severity",),
        ),
        Metric(
            "reload_successful",
            "gauge",
            "0 if the last reload was refused and the previous configuration is still in force.",
        ),
        Metric("reload_timestamp_seconds", "gauge", "UNIX time at which the configuration in force was read."),
        Metric("log_lines", "counter", "Lines of the access log.", ("outcome",)),
    ),
)
BALANCERS = MetricGroup(
    "Balancers",
    (
        Metric("balancer_connections", "gauge", "Open client connections.", ("balancer",)),
        Metric(
            "balancer_connections_limit",
            "gauge",
            "Maximum number of client connections. More wait in the kernel's queue.",
            ("balancer",),
        ),
        Metric("balancer_queue", "gauge", "Clients that wait for a server.", ("balancer",)),
        Metric("balancer_accepted", "counter", "Client connections accepted.", ("balancer",)),
        Metric("balancer_cuts", "counter", "Client connections that the sidecar closed.", ("balancer", "cause")),
        Metric("balancer_server_up", "gauge", "1 while the server is up.", _SERVER),
        Metric("balancer_server_draining", "gauge", "1 while the server is drained.", _SERVER),
        Metric("balancer_server_transitions", "counter", "Times that the server went up or down.", _SERVER),
        Metric("balancer_server_checks", "counter", "Health checks of the server.", _SERVER),
        Metric("balancer_server_checks_failed", "counter", "Health checks of the server that failed.", _SERVER),
        Metric(
            "balancer_server_connections",
            "gauge",
            "Connections to the server, including those that are being opened.",
            _SERVER,
        ),
        Metric("balancer_server_connects", "counter", "Connections made to the server.", _SERVER),
        Metric(
            "balancer_server_connect_failures", "counter", "Attempts to connect to the server that failed.", _SERVER
        ),
        Metric("balancer_server_bytes", "counter", "Bytes to and from the server.", (*_SERVER, "direction")),
    ),
)
SECTIONS = (REQUESTS, WORKERS, POOLS, CLIENTS, TOKENS, BALANCERS, PROCESS)

METRICS = {metric.name: metric for section in SECTIONS for metric in section.metrics}

COUNTERS = {
    "connections": "client_connections_accepted",
    "connections_open": "client_connections",
    "connections_refused": "client_connections_refused",
    "requests": "requests_begun",
    "refused": "requests_refused",
    "failed": "requests_failed",
    "replaying": "requests_replaying",
    "waited": "requests_waited",
    "parked": "requests_parked",
    "coalesced": "requests_coalesced",
    "shed": "requests_shed",
    "fallen_back": "requests_fallen_back",
    "falling_back": "requests_falling_back",
    "client_gone": "requests_abandoned",
    "compressed": "answers_compressed",
    "compressing": "answers_compressing",
    "compressed_from": "answers_uncompressed_bytes",
    "compressed_to": "answers_compressed_bytes",
    "tokens_known": "tokens_known",
    "tokens_asked": "tokens_asked",
    "tokens_learned": "tokens_learned",
    "tokens_refused": "tokens_refused",
    "tokens_failed": "tokens_failed",
    "tokens_late": "tokens_late",
    "tokens_unasked": "tokens_unasked",
}
"""Fields of `telemetry.Counters` that are exported unchanged, by the name of their metric."""
