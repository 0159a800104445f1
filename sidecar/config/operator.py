"""`operator:`, as frozen values with their defaults: who may use the operator's listener, and what for.

A part of the schema of its own, like the limits. Opens no file: the password is read by whoever starts.
"""

from __future__ import annotations

from attrs import field, frozen

from sidecar.config import kinds
from sidecar.config.amounts import KIB, MIB
from sidecar.config.kinds import Count, CountOrZero, Duration, Size, doc

MOST_SIBLINGS = 16
"""Entries of `operator.siblings`; each is asked every second while somebody looks."""


@frozen(kw_only=True)
class Operator:
    """`operator:`. Who may use the operator's listener (`admin`), and what for."""

    actions: kinds.Actions = field(
        default="api",
        metadata=doc(
            "`api`: the API and `matrix-sidecar top` can drain workers. `page`: buttons on the status page can "
            "too. `none`: nobody can, and `doctor` cannot test the proxy in front."
        ),
    )
    allow: tuple[kinds.Addresses, ...] | None = field(
        default=None,
        metadata=doc(
            "Networks that may connect to it. Other connections are closed immediately. Absent: all networks. "
            "The mode of a UNIX socket protects it instead."
        ),
    )
    hosts: tuple[kinds.Host, ...] = field(
        default=(),
        metadata=doc(
            "Host names that browsers may use for it, in addition to addresses, `localhost`, names without a "
            "dot, and the name of the machine. Requests for other names are answered 421, because a foreign "
            "site can point its own name here (DNS rebinding)."
        ),
    )
    user: kinds.UserName = field(default="operator", metadata=doc("User name for the password."))
    password_hash: kinds.PasswordHash | None = field(
        default=None,
        metadata=doc(
            "Requires a password (HTTP Basic) for everything except /health and /ready. `matrix-sidecar password` "
            "prints the hash. Without it and without password_file, no password is needed."
        ),
    )
    password_file: kinds.Path | None = field(
        default=None,
        metadata=doc("A file with the password or its hash in the first line. Use either this or password_hash."),
    )
    attempts: Count = field(
        default=30,
        metadata=doc(
            "Maximum number of wrong passwords per minute, from all clients together. Further attempts are "
            "answered 429."
        ),
    )
    connections: Count = field(
        default=100,
        metadata=doc(
            "Maximum number of connections to the operator's listener. If one more comes in, the connection "
            "that has been idle the longest is closed."
        ),
    )
    head: Duration = field(
        default=10.0,
        metadata=doc(
            "How long a whole request may take, from the start of the connection, or from its first byte if it "
            "is a later request. Then the connection is closed."
        ),
    )
    events: Count = field(
        default=200,
        metadata=doc(
            "How many of the newest events are kept for the page, `top` and `/api/status`: workers that went down "
            "or came up, drains, reloads, and so on."
        ),
    )
    history: Duration = field(
        default=3600.0,
        metadata=doc(
            "How long the rates, times and queues of the sidecar, each worker and each pool are kept, with a "
            "point every 15 s. A point takes 24 bytes."
        ),
    )
    hottest: CountOrZero = field(
        default=64,
        metadata=doc(
            "How many users, rooms, servers and addresses are counted, to find those with the most requests. "
            "They are kept as hashes. With 64, any user with more than 1/64 of the requests is in the list. 0: "
            "none."
        ),
    )
    request: Size = field(
        default=64 * KIB,
        metadata=doc("Largest request body on the operator's listener. A larger one is answered 413."),
    )
    siblings: tuple[kinds.SiblingEndpoint, ...] = field(
        default=(),
        metadata=doc(
            "Operator's listeners of the other instances, at most 16: `unix:`, `tcp:` or `tls:`. For your own "
            "CA, `trustRoots=` names a directory with certificates. The status page, `top`, `/api/status?all`, "
            "and a drain with `?all` then cover all instances. All instances can have the same list, because "
            "each leaves itself out."
        ),
    )
    sibling_password_file: kinds.Path | None = field(
        default=None,
        metadata=doc(
            "A file whose first line is the password that is sent to siblings, together with the name in "
            "`user`. It cannot be a hash. Absent: the password of `password_file`, if that is not a hash."
        ),
    )
    sibling_timeout: Duration = field(
        default=3.0, metadata=doc("How long a sibling may take to answer. Then it counts as down.")
    )
    sibling_answer: Size = field(
        default=4 * MIB, metadata=doc("Largest answer of a sibling, in bytes. The rest of a longer one is not read.")
    )
    remember_drains: kinds.StateFile | None = field(
        default=None,
        metadata=doc(
            "A file that keeps the drains, so that they survive a restart. A relative path starts in the state "
            "directory of the systemd unit (each instance has its own), or without systemd in the directory of "
            "this configuration file. Absent: a restart ends all drains."
        ),
    )
