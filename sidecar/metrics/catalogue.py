"""Every metric of the sidecar: name, kind, labels, and what it says. `docs/metrics.md` is made from this.

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
    "pool": "Name of the pool that the request belongs to; empty where the sidecar answered by a route.",
    "worker": "Name of the Synapse process, `main` for the main process.",
    "code": "First digit of the status that the client got: `2xx`, `4xx`, …; `none` if it got no answer.",
    "reason": "How the exchange ended, as in the access log: `client_gone`, `worker_cut`, `no_worker`, …",
    "state": "What the connections are doing: `leased` (a request runs), `idle`, `connecting`.",
    "direction": "`up` towards the workers, `down` towards the clients.",
    "severity": "`warning` or `error`.",
    "served_by": "`workers` of the pool, `fallback` (others, as none of those is up), `nobody` (requests wait, and "
    "then get 503), `unmounted` (no process has the endpoint, and main answers 404).",
    "balancer": "Name below `balancers`.",
    "server": "Name of one of its servers.",
    "cause": "`address` (too many from one), `full` (too many wait), `wait` (no server in time), `unreachable`, `down` "
    "(the server went down, with `on_down: close`), `idle`, `stop`.",
    "outcome": "`written`, `dropped` (no room, the reader is too slow), `failed` (the file cannot be written).",
}
"""What the labels mean, for people."""

_ENDPOINT = ("endpoint", "pool")
_WORKER = ("worker", "pool")
_SERVER = ("balancer", "server")

REQUESTS = MetricGroup(
    "Requests",
    (
        Metric("requests", "counter", "Requests that have ended, however they did.", (*_ENDPOINT, "code")),
        Metric("requests_in_flight", "gauge", "Requests that have begun and not ended.", ("endpoint",)),
        Metric(
            "request_duration_seconds",
            "histogram",
            "From the head of a request to the end of its exchange. Long polls take as long as the client asks.",
            _ENDPOINT,
        ),
        Metric("request_bytes", "counter", "Bytes of ended requests sent to workers, heads included.", _ENDPOINT),
        Metric("response_bytes", "counter", "Bytes of their answers sent to clients, heads included.", _ENDPOINT),
        Metric(
            "failures", "counter", "Requests that did not end with the whole answer of a worker.", ("pool", "reason")
        ),
        Metric(
            "transferred_bytes", "counter", "Bytes of all requests and answers, also of running ones.", ("direction",)
        ),
    ),
)
WORKERS = MetricGroup(
    "Workers",
    (
        Metric(
            "worker_requests",
            "counter",
            "Requests that have ended, by the worker that had them last.",
            (*_WORKER, "code"),
        ),
        Metric(
            "first_byte_seconds",
            "histogram",
            "From the head of a request to the first byte of the worker's answer.",
            _WORKER,
        ),
        Metric("retries", "counter", "Times that a request was sent again, because its connection ended.", _WORKER),
        Metric(
            "affinity_moves",
            "counter",
            "Requests with an affinity key that this worker got although another one is first for that key.",
            _WORKER,
        ),
        Metric("worker_up", "gauge", "1 while the worker takes requests, 0 while it is down or stuck.", ("worker",)),
        Metric("worker_transitions", "counter", "Times that the worker was lost, or came back.", ("worker",)),
        Metric(
            "worker_slow_start",
            "gauge",
            "1 while a worker that has come back gets a part of its requests.",
            ("worker",),
        ),
        Metric("worker_draining", "gauge", "1 while an operator keeps new requests from the worker.", ("worker",)),
        Metric(
            "worker_connections", "gauge", "Connections to the worker, by what they are doing.", ("worker", "state")
        ),
        Metric("worker_queue", "gauge", "Requests in line for a connection to the worker.", ("worker",)),
        Metric("worker_queue_bytes", "gauge", "Bytes of their bodies that are held.", ("worker",)),
        Metric("queue_seconds", "histogram", "Time in line, of the requests that had to wait.", ("worker",)),
        Metric("connect_seconds", "histogram", "Time that a connection to the worker took to be made.", ("worker",)),
        Metric("connects", "counter", "Connections made to the worker.", ("worker",)),
        Metric("connect_failures", "counter", "Connections that could not be made.", ("worker",)),
        Metric("cuts", "counter", "Requests whose connection the worker ended without an answer.", ("worker",)),
        Metric(
            "misroutes",
            "counter",
            "Requests whose endpoint the worker did not know although main does. They are repeated on main.",
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
            "Workers of the pool, and those that Synapse's files name for it but whose address is not known.",
            ("pool",),
        ),
        Metric("pool_workers_sharing", "gauge", "Those that share its keys while all are up.", ("pool",)),
        Metric("pool_workers_up", "gauge", "Those that take requests, and are not drained.", ("pool",)),
        Metric(
            "pool_endpoints",
            "gauge",
            "Endpoint rows of the pool that clients can reach, by who gets their requests now.",
            ("pool", "served_by"),
        ),
        Metric("pool_running", "gauge", "Requests of the pool that a worker has.", ("pool",)),
        Metric(
            "pool_queue",
            "gauge",
            "Requests of the pool that wait, wherever: for their turn, for a worker, or until their user is known.",
            ("pool",),
        ),
        Metric(
            "pool_admitted",
            "gauge",
            "Requests that have had their turn in the pool: those that run, and those that wait for a worker.",
            ("pool",),
        ),
        Metric("pool_concurrency", "gauge", "How many may have it at once.", ("pool",)),
        Metric("turn_seconds", "histogram", "Time in which requests waited for their turn.", ("pool",)),
    ),
)
CLIENTS = MetricGroup(
    "Clients",
    (
        Metric("client_connections", "gauge", "Client connections that are open."),
        Metric(
            "client_connections_limit",
            "gauge",
            "How many may be open: limits.connections, or what the limit of open files leaves room for.",
        ),
        Metric("client_connections_accepted", "counter", "Client connections accepted."),
        Metric("client_connections_refused", "counter", "Client connections beyond limits.connections_per_address."),
        Metric("requests_begun", "counter", "Requests whose head was read, and was well-formed."),
        Metric(
            "requests_refused",
            "counter",
            "Requests refused by the sidecar: malformed, too large, or closed by `access` or a route.",
        ),
        Metric("requests_failed", "counter", "Exchanges that ended in an error of the sidecar, or in a cut."),
        Metric("requests_waited", "counter", "Requests that had to wait for a connection to a worker."),
        Metric("requests_parked", "gauge", "Requests that wait, for their turn or for a worker."),
        Metric("requests_coalesced", "counter", "Long polls that waited for a moment first (`pools.NAME.coalesce`)."),
        Metric("requests_shed", "counter", "Requests answered 429, or 503 to other servers, because too many waited."),
        Metric("requests_fallen_back", "counter", "Requests given to a worker outside of their pool."),
        Metric("requests_falling_back", "gauge", "Those of them that main is serving (limits.fallback)."),
        Metric("requests_replaying", "gauge", "Requests that are being sent a second time (limits.replays)."),
        Metric("requests_abandoned", "counter", "Requests whose client went away before the end of the answer."),
        Metric("answers_compressed", "counter", "Answers that the sidecar compressed (compress)."),
        Metric("answers_compressing", "gauge", "Those of them that are not over (limits.compressing)."),
        Metric("answers_uncompressed_bytes", "counter", "Bytes of their content, as workers sent it."),
        Metric("answers_compressed_bytes", "counter", "Bytes of their content, as clients were sent it."),
    ),
)
TOKENS = MetricGroup(
    "Tokens that do not name their user",
    (
        Metric("tokens_known", "counter", "Requests with such a token, whose user was remembered."),
        Metric("tokens_asked", "counter", "Calls to Synapse's `whoami` to find the user of such a token."),
        Metric("tokens_learned", "counter", "Users learned from answers that pass through."),
        Metric("tokens_refused", "counter", "Questions to which the answer was that the token is nobody's."),
        Metric("tokens_failed", "counter", "Questions without a usable answer."),
        Metric("tokens_late", "counter", "Requests that went on by their token because the answer took too long."),
        Metric("tokens_unasked", "counter", "Requests that went on by their token because nothing could be asked."),
        Metric("caller_seconds", "histogram", "Time in which requests waited for the answer whose their token is."),
    ),
)
PROCESS = MetricGroup(
    "The sidecar itself",
    (
        Metric("ready", "gauge", "1 where `/ready` answers 200."),
        Metric("stopping", "gauge", "1 from the beginning of a stop."),
        Metric("maintenance", "gauge", "1 while clients are answered 503, because of maintenance."),
        Metric(
            "build_info",
            "gauge",
            "Always 1. The labels are the versions of the sidecar, of Python and Twisted, and of the Synapse "
            "release whose endpoints are in use.",
            ("version", "python", "twisted", "endpoints"),
        ),
        Metric("config_problems", "gauge", "What `matrix-sidecar check` finds in the files in force.", ("severity",)),
        Metric("reload_successful", "gauge", "0 where the last reload was refused and the one before is in force."),
        Metric("reload_timestamp_seconds", "gauge", "When the files in force were read, since 1970."),
        Metric("log_lines", "counter", "Lines of the access log.", ("outcome",)),
    ),
)
BALANCERS = MetricGroup(
    "Balancers",
    (
        Metric("balancer_connections", "gauge", "Clients that are connected.", ("balancer",)),
        Metric("balancer_connections_limit", "gauge", "How many may be; more wait in the kernel.", ("balancer",)),
        Metric("balancer_queue", "gauge", "Clients that wait for a server.", ("balancer",)),
        Metric("balancer_accepted", "counter", "Clients that have come.", ("balancer",)),
        Metric("balancer_cuts", "counter", "Clients whose connection the sidecar ended itself.", ("balancer", "cause")),
        Metric("balancer_server_up", "gauge", "1 while the server counts as up.", _SERVER),
        Metric("balancer_server_draining", "gauge", "1 while new connections are kept from it.", _SERVER),
        Metric("balancer_server_transitions", "counter", "Times that it went up or down.", _SERVER),
        Metric("balancer_server_checks", "counter", "Checks of it.", _SERVER),
        Metric("balancer_server_checks_failed", "counter", "Those that did not pass.", _SERVER),
        Metric("balancer_server_connections", "gauge", "Connections to it, and those being made.", _SERVER),
        Metric("balancer_server_connects", "counter", "Connections made to it.", _SERVER),
        Metric("balancer_server_connect_failures", "counter", "Connections that could not be made.", _SERVER),
        Metric("balancer_server_bytes", "counter", "Bytes to it, and from it.", (*_SERVER, "direction")),
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
"""Fields of `telemetry.Counters` that are told as they are, by the name of their metric."""
