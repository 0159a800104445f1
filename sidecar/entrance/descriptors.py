"""How many client connections the process can hold: each may need a second descriptor, towards a worker.

Without descriptors, accepted connections would be lost; if accepting stops before, they wait in the kernel's queue.
"""

from __future__ import annotations

import os
import resource

from sidecar.observe.telemetry import logger

RESERVE = 256
"""Descriptors kept for listeners, logs, pipes, the operator and a reload."""
KEPT = 128
"""Descriptors that clients never get: for more connections to workers."""

_MANY = 1 << 20

_log = logger("sidecar")


def connection_ceiling(wanted: int, beside: int = 0) -> int:
    """`wanted` client connections, or as many as the limit of open files allows; raises the soft limit to the hard one.

    `beside`: other connections that need as many descriptors.

    Logs if it is fewer than `wanted`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * (wanted + beside) + RESERVE
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        if allowed > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    ceiling = max(1, (soft - RESERVE) // 2 - beside)
    _log.warn(
        "limits.connections is {wanted}, but {soft} open files allow {ceiling} client connections; "
        "set LimitNOFILE={needed} in the unit, or `ulimit -n {needed}`, or a lower limits.connections",
        wanted=wanted,
        soft=soft,
        ceiling=ceiling,
        needed=needed,
    )
    return ceiling


def descriptors_left(any_open: int) -> int:
    """How many clients can be accepted now without taking the last descriptors; `any_open` is an open one.

    POSIX always takes the lowest free descriptor next; near the limit, its number shows how many are left.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MANY
    try:
        lowest = os.dup(any_open)
    except OSError:
        return 0
    os.close(lowest)
    return soft - lowest - min(KEPT, soft // 4)
