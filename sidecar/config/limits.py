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
    """`limits:`. Every quantity that a peer could grow has a bound here."""

    request_target: Size = field(
        default=12 * KIB,
        metadata=doc("Longest request-target; a longer one is answered 414. RFC 9112 3: at least 8000."),
    )
    request_head: Size = field(
        default=16_000,
        metadata=doc(
            "Largest request head, with the lines that the sidecar adds; a larger one is answered 431. Synapse "
            "refuses request line and fields of more than 16384 bytes without saying why."
        ),
    )
    request_rate: CountOrZero = field(
        default=250,
        metadata=doc(
            "Bytes a second that a request body must reach on average after its first timeouts.body; a slower one is "
            "answered 408. 0: any. A client that sends a byte now and then would hold a worker forever."
        ),
    )
    request_fields: Count = field(default=200, metadata=doc("Most field lines in a request; more are answered 431."))
    request_body: Size = field(
        default=50 * MIB,
        metadata=doc(
            "Largest request body, answered 413 before it is read. Synapse itself cuts the connection without an "
            "answer at max_upload_size on media processes (50M unless configured) and at 13107200 elsewhere."
        ),
    )
    response_head: Size = field(
        default=64 * KIB, metadata=doc("Largest response head from a worker; a larger one becomes a 502.")
    )
    response_fields: Count = field(default=200, metadata=doc("Most field lines in a response; more become a 502."))
    connection_options: Count = field(
        default=32,
        metadata=doc(
            "Most options in the Connection field, either way, each of which names a field that does not go on; a "
            "request with more is answered 431, a response becomes a 502."
        ),
    )
    path_segments: Count = field(
        default=64,
        metadata=doc(
            "Most segments in a path that may lead below /_synapse in any reading, for which each is looked at; more "
            "are answered 400."
        ),
    )
    chunk_line: Size = field(default=1 * KIB, metadata=doc("Longest chunk-size line, with its extensions, either way."))
    chunk_extensions: SizeOrZero = field(
        default=16 * KIB, metadata=doc("Most bytes of chunk extensions in one message, either way.")
    )
    trailers: SizeOrZero = field(default=8 * KIB, metadata=doc("Largest trailer section, either way."))
    interim_responses: CountOrZero = field(
        default=20, metadata=doc("Most 1xx responses before the final one; more become a 502.")
    )
    pipelined: Size = field(
        default=64 * KIB,
        metadata=doc(
            "Bytes read ahead from a client while its previous request is being answered; beyond that the client "
            "is not read. The same bound holds for what waits to be written in either direction."
        ),
    )
    compressing: CountOrZero = field(
        default=256,
        metadata=doc(
            "Answers that are being compressed at once, each of which takes 268 KiB until its client has it; more go "
            "as they are."
        ),
    )
    connections: Count = field(
        default=10_000,
        metadata=doc("Client connections at once; more wait in the kernel's queue."),
    )
    connections_per_address: Count = field(
        default=1_000,
        metadata=doc(
            "Client connections at once from one address, or from one /64 of IPv6; more are answered 503 and closed. "
            "Addresses in forwarded.trust are exempt, because they speak for many."
        ),
    )
    http2_streams: Count = field(
        default=100,
        metadata=doc("Requests at once on one connection of HTTP/2; a client that makes more ends its connection."),
    )
    http2_window: Size = field(
        default=256 * KIB,
        metadata=doc(
            "Bytes of the body of one HTTP/2 request that the sidecar keeps because its worker has not taken them yet. "
            "It bounds how fast one body can come: so many bytes in each round trip. Less than 64K counts as that."
        ),
    )
    http2_connection_window: Size = field(
        default=MIB, metadata=doc("The same of all bodies of one connection together.")
    )
    http2_idle_frames: Count = field(
        default=1_000,
        metadata=doc(
            "HTTP/2 frames in a minute that ask for nothing (SETTINGS, PING, PRIORITY, RST_STREAM, WINDOW_UPDATE, "
            "CONTINUATION, empty DATA), with two more for each request and one for each 4 KiB of answers; more end "
            "the connection."
        ),
    )
    http2_resets: Count = field(
        default=200,
        metadata=doc(
            "HTTP/2 requests in a minute that end without an answer by the client's doing, with one more for each that "
            "is answered; more end the connection."
        ),
    )
    proxy_header: SizeOrZero = field(
        default=2 * KIB,
        metadata=doc(
            "Bytes behind the first 16 of a PROXY header of version 2: addresses, and what else the balancer sends. "
            "A longer header ends its connection. In version 1 the line has at most 107."
        ),
    )
    worker_connections: Count = field(
        default=8_192,
        metadata=doc("Connections to one worker at once. Every long poll holds one for as long as it waits."),
    )
    worker_idle: CountOrZero = field(default=64, metadata=doc("Idle connections kept to one worker."))
    worker_connecting: Count = field(
        default=32,
        metadata=doc(
            "Connections to one worker that may be in the act of connecting at once. Synapse listens with a "
            "backlog of 50, and on a UNIX socket the 52nd fails at once."
        ),
    )
    lookups: Count = field(
        default=8,
        metadata=doc("Names that are looked up at once, each in a thread of its own; more wait for one to end."),
    )
    replay_body: SizeOrZero = field(
        default=64 * KIB,
        metadata=doc(
            "Bytes of a request body that are kept until its answer begins, so that the request can be sent again; one "
            "with more is sent once only."
        ),
    )
    replays: CountOrZero = field(
        default=10_000,
        metadata=doc(
            "Requests that may be under way for another time at once, because the connection to their worker ended "
            "without an answer; beyond that such a request is answered 502. As many as there may be long polls: all of "
            "a worker's are sent again when it restarts."
        ),
    )
    replays_each: CountOrZero = field(
        default=4,
        metadata=doc(
            "How often one request may be sent again. A request that kills every worker that it meets must not meet "
            "them all; a long poll may well meet two or three restarts."
        ),
    )
    waiting: CountOrZero = field(
        default=8_192,
        metadata=doc(
            "Requests that may wait in line for one worker; more are answered 429, those of other servers 503. As many "
            "as worker_connections: when a worker restarts, all of its long polls wait."
        ),
    )
    waiting_total: CountOrZero = field(
        default=10_000, metadata=doc("Requests that may wait in all lines together; more are answered the same.")
    )
    waiting_bytes: SizeOrZero = field(
        default=32 * MIB,
        metadata=doc(
            "Bytes of request bodies that may wait in line for one worker; beyond that, requests with a body are "
            "answered the same, and the rest of a body that has begun is not read until its turn."
        ),
    )
    waiting_bytes_total: SizeOrZero = field(
        default=128 * MIB, metadata=doc("Bytes of request bodies that may wait in all lines together.")
    )
    concurrency: Count = field(
        default=8_192,
        metadata=doc(
            "Requests of one pool that are served at once, for each worker that shares its keys; more wait for their "
            "turn. pools.NAME.concurrency says otherwise for one pool."
        ),
    )
    initial_syncs: Count = field(
        default=256,
        metadata=doc(
            "The same for the pool initial_sync. A worker computes one at a time, and each holds much memory while it "
            "does; people who sync already should not wait for them."
        ),
    )
    key_share: Share = field(
        default=0.5,
        metadata=doc(
            "The part of a worker's `concurrency` that one user, room, server or address may have in a pool; the rest "
            "of its requests wait, and take turns with those of the others. Users and servers count for each address "
            "apart, because their names are only checked by Synapse."
        ),
    )
    address_share: Share = field(
        default=0.75,
        metadata=doc(
            "The part of a pool's `concurrency`, and of the line at its entrance, that one address may have, whatever "
            "users its requests claim to come from. A /64 of IPv6 counts as one address. Addresses in forwarded.trust "
            "are exempt, because they speak for many."
        ),
    )
    fallback: CountOrZero = field(
        default=200,
        metadata=doc(
            "Requests that main serves at once because no worker of their pool is up; more wait for the worker. Main "
            "must not go down under what many workers did."
        ),
    )
    health_failures: Count = field(
        default=3,
        metadata=doc(
            "Questions in a row that a worker leaves unanswered, while it answers nothing else either, before it "
            "counts as stuck."
        ),
    )
    linger: SizeOrZero = field(
        default=16 * MIB,
        metadata=doc("Bytes of a refused request that are read and discarded so that the client sees the reply."),
    )


@frozen(kw_only=True)
class Timeouts:
    """`timeouts:`. Every moment that can pass has a name here."""

    head: Duration = field(
        default=10.0,
        metadata=doc("From the first byte of a request to the end of its head; then 408. A total, not per byte."),
    )
    idle: Duration = field(
        default=75.0, metadata=doc("A client connection without a request; then closed without a word.")
    )
    proxy_header: Duration = field(
        default=5.0,
        metadata=doc("From the connection of a peer in forwarded.proxy_protocol to the end of its header; then reset."),
    )
    handshake: Duration = field(
        default=10.0, metadata=doc("From the beginning of a TLS connection to the end of its handshake; then reset.")
    )
    body: Duration = field(default=30.0, metadata=doc("Without a byte of a request body that was announced; then 408."))
    connect: Duration = field(default=2.0, metadata=doc("For one attempt to connect to a worker."))
    resolve: Duration = field(
        default=2.0,
        metadata=doc(
            "For the system's resolver to give the addresses of a name; then those that it gave last hold, and the "
            "attempt fails where there are none."
        ),
    )
    resolve_interval: Duration = field(
        default=5.0,
        metadata=doc(
            "From one look at the addresses of a worker's name to the next, beside those for each new connection. "
            "Idle connections are closed where an address is not there any more."
        ),
    )
    resolve_hold: DurationOrZero = field(
        default=30.0,
        metadata=doc(
            "How long the last addresses of a name hold while the resolver does not answer, or says that there is no "
            "such name (`hold nx`, `hold timeout` of HAProxy)."
        ),
    )
    wait: DurationOrZero = field(
        default=30.0,
        metadata=doc(
            "In line for a worker that is restarting or busy; then 503 with Retry-After. A Synapse worker restarts "
            "in two to five seconds, on a busy machine in fifteen. pools.NAME.wait says otherwise for one pool."
        ),
    )
    wait_federation: DurationOrZero = field(
        default=45.0,
        metadata=doc(
            "The same for requests of other servers. They give a request 60 s, and after a few failures they leave us "
            "alone for ten minutes, and for longer each time."
        ),
    )
    health: Duration = field(default=5.0, metadata=doc("For a worker to answer when it is asked for its health."))
    health_interval: DurationOrZero = field(
        default=10.0,
        metadata=doc(
            "A worker that has answered nothing for so long is asked for its health; jittered by a fifth. 0: only one "
            "that is down is asked."
        ),
    )
    slow_start: DurationOrZero = field(
        default=10.0,
        metadata=doc(
            "From the return of a worker until it gets its whole share again, where others can do its work meanwhile: "
            "its caches are cold. 0: at once."
        ),
    )
    answer: Duration = field(
        default=900.0,
        metadata=doc(
            "From the end of a request to the first byte of its answer; then 504. An initial sync of a large "
            "account takes many minutes in which Synapse says nothing."
        ),
    )
    answer_body: Duration = field(
        default=120.0,
        metadata=doc("Without a byte of an answer that has begun; then the connection is cut."),
    )
    stall: Duration = field(
        default=60.0, metadata=doc("A client that takes none of the bytes that wait for it; then reset.")
    )
    linger: DurationOrZero = field(
        default=2.0, metadata=doc("Reading on after a refusal, so that the client sees the reply.")
    )
    tunnel: Duration = field(default=600.0, metadata=doc("An upgraded connection on which no byte moves."))
    worker_idle: Duration = field(
        default=30.0,
        metadata=doc(
            "An unused connection to a worker. Synapse before 1.140 closes them after 60 s; staying well below "
            "avoids the race."
        ),
    )
    drain: DurationOrZero = field(
        default=60.0,
        metadata=doc("Running exchanges when the sidecar stops; long polls of 30 s end by themselves in it."),
    )
