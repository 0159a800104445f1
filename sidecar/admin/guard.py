"""Who may ask the operator's listener: from which networks, under which names, and from which pages.

A browser is what has to be kept from harm here: a page of another site can make it send requests (CSRF), and can make
its own name lead to this address (DNS rebinding). Pure; passwords are in `sidecar.admin.credentials`.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from sidecar.admin.operator_answer import Inquiry, OperatorAnswer
from sidecar.config.operator import Operator
from sidecar.routing.access import is_within

PROBES = frozenset((("health",), ("ready",)))
"""Probes without a password ask for these, and anyone who can connect gets them."""
NAMELESS = PROBES | {("metrics",), ("metrics", "targets")}
"""Asked by programs under any name; a page learns nothing there that it could use."""
QUESTIONS = frozenset((("explain",), ("api", "explain")))
"""Asked by POST, although nothing is done."""


def refusal(inquiry: Inquiry, operator: Operator, machine: str) -> OperatorAnswer | None:
    """Why this is not answered, None if it may be; `machine` is the name of this host."""
    if not may_connect(inquiry.peer, operator):
        return _refusal(403, f"{inquiry.peer} is not in `operator.allow`.")
    host = inquiry.fields.get("host", "")
    if inquiry.parts not in NAMELESS and not is_own_name(host, (*operator.hosts, machine)):
        return _refusal(421, "This name is not known to lead here; if it does, add it to `operator.hosts`.")
    if inquiry.method in ("GET", "HEAD"):
        return None
    if is_foreign(inquiry):
        return _refusal(403, "Pages of other sites may not do this.")
    if operator.actions == "none" and inquiry.parts not in QUESTIONS:
        return _refusal(403, "Nothing can be done here, because `operator.actions` is `none`.")
    return None


def may_connect(peer: str, operator: Operator) -> bool:
    """Whether `operator.allow` has an address; a UNIX socket, which has none, is guarded by its mode."""
    return not peer or operator.allow is None or is_within(peer, operator.allow)


def _refusal(status: int, sentence: str) -> OperatorAnswer:
    return OperatorAnswer(status, {"error": sentence})


def is_own_name(host: str, known: Sequence[str]) -> bool:
    """Whether a Host field can only be meant for this: nobody else can make such a name lead here.

    An address, `localhost` and what is below it (RFC 6761 6.3), a name without a dot, or one of `known`, where
    `*.example.org` stands for all below.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if "." not in name or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return any(_covers(pattern.lower().rstrip("."), name) for pattern in known)
    return True


def _covers(pattern: str, name: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


def is_foreign(inquiry: Inquiry) -> bool:
    """Whether a page of another site makes the browser ask.

    Browsers say so in `Sec-Fetch-Site` (Fetch Metadata 2.3) where the connection is secure or local, and in `Origin`
    (RFC 6454 7) with everything but GET and HEAD. Programs send neither. A page of `https://h` is not one of
    `http://h`. Which of them this is a proxy that ends TLS says in X-Forwarded-Proto, or the browser itself.
    """
    fields = inquiry.fields
    site = fields.get("sec-fetch-site", "none")
    if site not in ("same-origin", "none"):
        return True
    origin = fields.get("origin")
    if origin is None:
        return False
    try:
        asking = urlsplit(origin)
    except ValueError:
        return True
    scheme = fields.get("x-forwarded-proto", "https" if inquiry.secure else "http").lower()
    same = asking.scheme == scheme or site == "same-origin"
    return not same or asking.netloc.lower() != fields.get("host", "").lower()
