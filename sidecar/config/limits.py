"""`limits:` and `timeouts:`, as frozen values with their defaults and the reasons for them.

Durations are seconds (`float`), sizes are bytes (`int`). A part of the schema of its own, because it is the longest.
"""

from __future__ import annotations

from attrs import field, frozen

from sidecar.config.amounts import KIB, MIB
from sidecar.config.kinds import Count, CountOrZero, Duration, DurationOrZero, Size, SizeOrZero, doc
from sidecar.config.shares import Share


@frozen(kw_only=True)
class Limits:
    """`limits:`. Everything that a client or a worker could make grow has a limit."""

    request_target: Size = field(
        default=12 * KIB,
        metadata=doc(
            "Longest request target. A longer one is answered 414. RFC 9112 section 3 asks for at least 8000 bytes."
        ),
    )
    request_head: Size = field(
        default=16_000,
        metadata=doc(
            "Largest request head, including the headers that the sidecar adds. A larger one is answered 431. "
            "Synapse refuses a request line and headers of more than 16384 bytes without a reason."
        ),
    )
    request_rate: CountOrZero = field(
        default=250,
        metadata=doc(
            "Bytes per second that a request body must reach on average once timeouts.body has passed. A slower "
            "one is answered 408, because a client that sends one byte now and then would keep a worker busy "
            "forever. 0: no minimum."
        ),
    )
    request_fields: Count = field(
        default=200, metadata=doc("Maximum number of header lines in a request. More are answered 431.")
    )
    request_body: Size = field(
        default=50 * MIB,
        metadata=doc(
            "Largest request body. A larger one is answered 413 before it is read. Without this limit, Synapse "
            "closes the connection without an answer: at max_upload_size (default 50M) on media processes, at "
            "13107200 bytes elsewhere."
        ),
    )
    response_head: Size = field(
        default=64 * KIB, metadata=doc("Largest response head from a worker. A larger one becomes a 502.")
    )
    response_fields: Count = field(
        default=200, metadata=doc("Maximum number of header lines in a response. More become a 502.")
    )
    connection_options: Count = field(
        default=32,
        metadata=doc(
            "Maximum number of options in the Connection header of a request or a response. Each option names a "
            "header that is not forwarded. A request with more is answered 431, and a response with more "
            "becomes a 502."
        ),
    )
    path_segments: Count = field(
        default=64,
        metadata=doc(
            "Maximum number of segments in a path that might lead below /_synapse, depending on how it is "
            "decoded. The sidecar checks each of them. More are answered 400."
        ),
    )
    chunk_line: Size = field(
        default=1 * KIB, metadata=doc("Longest chunk-size line, with its extensions, in requests and responses.")
    )
    chunk_extensions: SizeOrZero = field(
        default=16 * KIB, metadata=doc("Maximum number of bytes of chunk extensions in one request or response.")
    )
    trailers: SizeOrZero = field(default=8 * KIB, metadata=doc("Largest trailer section of a request or a response."))
    interim_responses: CountOrZero = field(
        default=20, metadata=doc("Maximum number of 1xx responses before the final one. More become a 502.")
    )
    pipelined: Size = field(
        default=64 * KIB,
        metadata=doc(
            "Bytes that the sidecar reads ahead from a client while it answers that client's previous request. "
            "After that, it stops reading. The same limit applies to bytes that wait to be written, in both "
            "directions."
        ),
    )
    compressing: CountOrZero = field(
        default=256,
        metadata=doc(
            "Maximum number of answers that are compressed at the same time. Each takes 268 KiB until the "
            "client has all of it. More are sent uncompressed."
        ),
    )
    connections: Count = field(
        default=10_000,
        metadata=doc("Maximum number of client connections. More wait in the kernel's queue."),
    )
    connections_per_address: Count = field(
        default=1_000,
        metadata=doc(
            "Maximum number of client connections from one address, or from one IPv6 /64. More are answered 503 "
            "and closed. Addresses in forwarded.trust are exempt, because they forward the requests of many "
            "clients."
        ),
    )
    http2_streams: Count = field(
        default=100,
        metadata=doc(
            "Maximum number of simultaneous requests on one HTTP/2 connection. If a client opens more, the "
            "connection is closed."
        ),
    )
    http2_window: Size = field(
        default=256 * KIB,
        metadata=doc(
            "Bytes of the body of one HTTP/2 request that the sidecar holds until the worker takes them. This "
            "limits the speed of one upload to this many bytes per round trip. A value below 64K counts as 64K."
        ),
    )
    http2_connection_window: Size = field(
        default=MIB, metadata=doc("The same limit for all request bodies of one HTTP/2 connection together.")
    )
    http2_idle_frames: Count = field(
        default=1_000,
        metadata=doc(
            "HTTP/2 frames per minute that carry no request and no data (SETTINGS, PING, PRIORITY, RST_STREAM, "
            "WINDOW_UPDATE, CONTINUATION, empty DATA). Each request adds two to this allowance, and each 4 KiB "
            "of answers adds one. If a client sends more, the connection is closed."
        ),
    )
    http2_resets: Count = field(
        default=200,
        metadata=doc(
            "HTTP/2 requests per minute that the client cancels before they are answered. Each answered request "
            "adds one to this allowance. If a client cancels more, the connection is closed."
        ),
    )
    proxy_header: SizeOrZero = field(
        default=2 * KIB,
        metadata=doc(
            "Bytes of a PROXY protocol header of version 2 after its first 16 bytes: the addresses, and "
            "anything else that the load balancer sends. With a longer header, the connection is closed. In "
            "version 1, the line has at most 107 bytes."
        ),
    )
    worker_connections: Count = field(
        default=8_192,
        metadata=doc("Maximum number of connections to one worker. Every long poll uses one for as long as it waits."),
    )
    worker_idle: CountOrZero = field(
        default=64, metadata=doc("Maximum number of idle connections that are kept open to one worker.")
    )
    worker_connecting: Count = field(
        default=32,
        metadata=doc(
            "Maximum number of connections to one worker that are being opened at the same time. Synapse "
            "listens with a backlog of 50, and on a UNIX socket the 52nd attempt fails immediately."
        ),
    )
    lookups: Count = field(
        default=8,
        metadata=doc("Maximum number of simultaneous name lookups. Each takes a thread. More wait until one ends."),
    )
    replay_body: SizeOrZero = field(
        default=64 * KIB,
        metadata=doc(
            "Bytes of a request body that are kept until its answer begins, so that the request can be retried. "
            "A request with a larger body is not retried."
        ),
    )
    replays: CountOrZero = field(
        default=10_000,
        metadata=doc(
            "Maximum number of requests that are being retried at the same time, because their worker closed "
            "the connection without an answer. More are answered 502. It should be as large as the number of "
            "long polls: when a worker restarts, all of its long polls are retried."
        ),
    )
    replays_each: CountOrZero = field(
        default=4,
        metadata=doc(
            "Maximum number of retries of one request. A request that crashes its worker must not crash all of "
            "them, but a long poll may live through two or three restarts."
        ),
    )
    waiting: CountOrZero = field(
        default=8_192,
        metadata=doc(
            "Maximum number of requests that wait in the queue of one worker. More are answered 429, or 503 if "
            "another server sent them. As large as worker_connections, because all long polls of a worker wait "
            "when it restarts."
        ),
    )
    waiting_total: CountOrZero = field(
        default=10_000,
        metadata=doc("Maximum number of requests that wait in all queues together. More are answered the same."),
    )
    waiting_bytes: SizeOrZero = field(
        default=32 * MIB,
        metadata=doc(
            "Bytes of request bodies that may wait in the queue of one worker. After that, requests with a body "
            "are answered the same. If a body has begun to arrive, the sidecar stops reading it until the "
            "request's turn comes."
        ),
    )
    waiting_bytes_total: SizeOrZero = field(
        default=128 * MIB, metadata=doc("Bytes of request bodies that may wait in all queues together.")
    )
    concurrency: Count = field(
        default=8_192,
        metadata=doc(
            "Maximum number of requests of one pool that are served at the same time, for each worker that "
            "shares its keys. More wait for their turn. pools.NAME.concurrency overrides this for one pool."
        ),
    )
    initial_syncs: Count = field(
        default=256,
        metadata=doc(
            "The same limit for the pool initial_sync. A worker computes one initial sync at a time, and each "
            "uses much memory meanwhile. Users who are already syncing should not have to wait for them."
        ),
    )
    key_share: Share = field(
        default=0.5,
        metadata=doc(
            "Largest part of a worker's `concurrency` that one user, room, server or address can take in a "
            "pool. Its other requests wait, and take turns with those of others. A user or server is counted "
            "separately for each address, because only Synapse can verify its name."
        ),
    )
    address_share: Share = field(
        default=0.75,
        metadata=doc(
            "Largest part of a pool's `concurrency` and of its queue that one address can take, whichever users "
            "its requests claim to come from. An IPv6 /64 counts as one address. Addresses in forwarded.trust "
            "are exempt, because they forward the requests of many clients."
        ),
    )
    fallback: CountOrZero = field(
        default=200,
        metadata=doc(
            "Maximum number of requests that main serves at the same time because every worker of their pool is "
            "down. More wait for the worker. The load of many workers must not take main down."
        ),
    )
    health_failures: Count = field(
        default=3,
        metadata=doc(
            "Number of health checks in a row that a worker must fail before it counts as stuck. They count "
            "only if the worker answers no other request either."
        ),
    )
    linger: SizeOrZero = field(
        default=16 * MIB,
        metadata=doc(
            "Bytes of a refused request that the sidecar reads and discards, so that the client receives the answer."
        ),
    )


@frozen(kw_only=True)
class Timeouts:
    """`timeouts:`. Everything that waits has a timeout."""

    head: Duration = field(
        default=10.0,
        metadata=doc(
            "From the first byte of a request to the end of its head. Then the request is answered 408. This is "
            "a total, not a time per byte."
        ),
    )
    idle: Duration = field(
        default=75.0, metadata=doc("How long a client connection may stay open without a request. Then it is closed.")
    )
    proxy_header: Duration = field(
        default=5.0,
        metadata=doc(
            "From the start of a connection from a peer in forwarded.proxy_protocol to the end of its PROXY "
            "header. Then the connection is reset."
        ),
    )
    handshake: Duration = field(
        default=10.0,
        metadata=doc("From the start of a TLS connection to the end of its handshake. Then the connection is reset."),
    )
    body: Duration = field(
        default=30.0,
        metadata=doc("How long a client may pause in the middle of a request body. Then the request is answered 408."),
    )
    connect: Duration = field(default=2.0, metadata=doc("Timeout of one attempt to connect to a worker."))
    resolve: Duration = field(
        default=2.0,
        metadata=doc(
            "How long the system's resolver may take to look up a name. Then the sidecar uses the last known "
            "addresses. If there are none, the attempt to connect fails."
        ),
    )
    resolve_interval: Duration = field(
        default=5.0,
        metadata=doc(
            "How often the sidecar looks up the name of a worker again, in addition to the lookup for each new "
            "connection. It closes idle connections to addresses that the name no longer has."
        ),
    )
    resolve_hold: DurationOrZero = field(
        default=30.0,
        metadata=doc(
            "How long the last known addresses of a name stay in use while the resolver does not answer or says "
            "that the name does not exist (HAProxy: `hold nx`, `hold timeout`)."
        ),
    )
    wait: DurationOrZero = field(
        default=30.0,
        metadata=doc(
            "How long a request waits for a worker that is restarting or busy. Then it is answered 503 with "
            "Retry-After. A Synapse worker restarts in two to five seconds, or fifteen on a busy machine. "
            "pools.NAME.wait overrides this for one pool."
        ),
    )
    wait_federation: DurationOrZero = field(
        default=45.0,
        metadata=doc(
            "The same timeout for requests of other servers. Another server waits 60 s for an answer. After a "
            "few failures, it sends nothing for ten minutes, and longer each time."
        ),
    )
    health: Duration = field(default=5.0, metadata=doc("How long a worker may take to answer a health check."))
    health_interval: DurationOrZero = field(
        default=10.0,
        metadata=doc(
            "A worker that has sent no answer for this long gets a health check. The interval varies by up to a "
            "fifth. 0: only workers that are down get health checks."
        ),
    )
    slow_start: DurationOrZero = field(
        default=10.0,
        metadata=doc(
            "After a worker comes back up, how long until it gets its full share again, if others can do its "
            "work meanwhile. Its caches are cold. 0: it gets its full share immediately."
        ),
    )
    answer: Duration = field(
        default=900.0,
        metadata=doc(
            "From the end of a request to the first byte of its answer. Then the request is answered 504. "
            "Synapse needs many minutes for the initial sync of a large account, and sends nothing meanwhile."
        ),
    )
    answer_body: Duration = field(
        default=120.0,
        metadata=doc("How long a worker may pause in the middle of an answer. Then the connection is closed."),
    )
    stall: Duration = field(
        default=60.0,
        metadata=doc(
            "How long a client may take none of the bytes that are ready for it. Then the connection is reset."
        ),
    )
    linger: DurationOrZero = field(
        default=2.0,
        metadata=doc(
            "How long the sidecar keeps reading after it refuses a request, so that the client receives the answer."
        ),
    )
    tunnel: Duration = field(
        default=600.0,
        metadata=doc("How long an upgraded connection, such as a WebSocket, may be silent. Then it is closed."),
    )
    worker_idle: Duration = field(
        default=30.0,
        metadata=doc(
            "How long an unused connection to a worker stays open. Synapse before 1.140 closes idle connections "
            "after 60 s. A shorter time avoids a race between the two."
        ),
    )
    drain: DurationOrZero = field(
        default=60.0,
        metadata=doc(
            "How long running requests may take to end when the sidecar stops. This is enough for long polls of 30 s."
        ),
    )
