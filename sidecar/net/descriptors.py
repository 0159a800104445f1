"""How many client connections the process can hold: each may need a second descriptor, towards a worker.

Running out of descriptors would lose connections that were accepted; stopping to accept before leaves them in the
kernel's queue. Knows nothing of what is connected.
"""

from __future__ import annotations

import resource

from sidecar.telemetry import logger

RESERVE = 256
"""Descriptors kept for listeners, logs, pipes, the operator and a reload."""

_log = logger("sidecar")


def connection_ceiling(wanted: int) -> int:
    """`wanted` client connections, or as many as the limit of open files allows; raises the soft limit to the hard one.

    Says so in the log where it is fewer than `wanted`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + RESERVE
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        if allowed > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    ceiling = max(1, (soft - RESERVE) // 2)
    _log.warn(
        "limits.connections is {wanted}, but {soft} open files allow {ceiling} client connections; "
        "set LimitNOFILE={needed} in the unit, or `ulimit -n {needed}`, or a lower limits.connections",
        wanted=wanted,
        soft=soft,
        ceiling=ceiling,
        needed=needed,
    )
    return ceiling
