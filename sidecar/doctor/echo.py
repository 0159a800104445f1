"""What the sidecar received of a request, as its canary tells it, and what that says of the proxy in front. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from sidecar.doctor.findings import Finding, error, fine, warning
from sidecar.wire.forwarded import Address, parse_address

CLAIMED = "198.51.100.77"
"""The address that `doctor` claims to have: one that is nobody's (RFC 5737)."""


@frozen(kw_only=True)
class Echo:
    """A request as it came to the sidecar."""

    target: str
    client: str
    """The address that the sidecar takes for the client's."""
    scheme: str = "http"
    """That which the sidecar believes the client to have used."""
    fields: Mapping[str, Sequence[str]] = field(factory=dict)
    """Values of the fields that are told, by their names in lower case."""
    server: str = ""
    """`Server` of the answer, which the proxy in front may have set."""

    def elements(self, name: str) -> list[str]:
        """The elements of a list in all lines of a field."""
        return [part.strip() for value in self.fields.get(name, ()) for part in value.split(",") if part.strip()]


PROBES = (
    ("a slash within an id (%2F)", "/a%2Fb"),
    ("two slashes in a row", "/a//b"),
    ("an encoded exclamation mark (%21)", "/%21a"),
    ("a bare exclamation mark", "/!a"),
    ("a lowercase escape (%2f)", "/a%2fb%c3%bc"),
    ("an encoded percent sign (%25)", "/a%2525b"),
    ("an encoded number sign (%23)", "/%23a%3Ab"),
    ("an encoded question mark (%3F)", "/a%3Fb"),
    ("an encoded backslash (%5C)", "/a%5Cb"),
    ("a semicolon", "/a;b=c"),
    ("escapes in the query", "/a?q=a%2Fb%20c&r=%7E~&e=&f"),
    ("a question mark with nothing after it", "/a?"),
)
"""What is tried, for people, and the end of a target that tries it."""
TOGETHER = ("/a%2Fb//%21a!%2fx%c3%bc/a%2525b/%23a%3Ab/a%3Fb/a%5Cb/a;b=c?q=a%2Fb%20c&r=%7E~&e=&f", "/a?")
"""All of them."""


def changed_targets(changes: Sequence[tuple[str, str, str]], server: str) -> Finding:
    """What became of targets: what was tried with each, the end of it as it was sent, and as it came.

    `server` is what the proxy in front calls itself.
    """
    told = "; ".join(f"{what}: `{sent}` arrives as `{came}`" for what, sent, came in changes)
    return error(
        f"The proxy in front changes paths or queries: {told}. Federation signs them as they were sent, so signatures "
        "fail, and Synapse does not find IDs with such characters.",
        mend_target(server),
    )


def stopped_targets(what: Sequence[str], told: str, server: str) -> Finding:
    """Targets that never came; `told` is how they were answered instead."""
    return error(f"The proxy in front does not forward paths with {', or '.join(what)}: {told}.", mend_target(server))


def mend_target(server: str) -> str:
    """What to write for the proxy that calls itself `server`."""
    product = server.partition("/")[0].lower()
    if product in ("nginx", "openresty"):
        return (
            "For nginx: write `proxy_pass http://127.0.0.1:8008;` with nothing after the port, not even a slash, "
            "and no `rewrite` before it."
        )
    if product == "apache":
        return "For Apache: `nocanon` on each ProxyPass, and `AllowEncodedSlashes NoDecode` in the virtual host."
    if product == "caddy":
        return "For Caddy: no `uri`, `rewrite` or `handle_path` in front of `reverse_proxy`."
    return "Let it forward the path as it came: no rewriting, no decoding, no `normalize-uri` (HAProxy)."


def judge_host(sent: str, echo: Echo) -> Finding:
    """Whether Host came as it was sent."""
    came = ", ".join(echo.fields.get("host", ()))
    if came == sent:
        return fine("The proxy in front forwards Host unchanged.")
    # Without the port it is what most proxies send, and Synapse is content.
    if came.lower() == sent.lower().rpartition(":")[0]:
        return fine("The proxy in front forwards Host without the port, which is enough.")
    return error(
        f"Host arrives as `{came}` instead of `{sent}`: single sign-on redirects in circles, and routes by host fail.",
        "Forward it: `proxy_set_header Host $host;` for nginx, `ProxyPreserveHost On` for Apache.",
    )


def judge_client(echo: Echo) -> Finding:
    """Whether a client can pretend to have another address; it claimed to be `CLAIMED`."""
    chain = echo.elements("x-forwarded-for")
    addresses = [address for address in map(parse_address, chain) if address is not None]
    client = parse_address(echo.client)
    replace = "Let it set the header to the address of its client: " + _REPLACE
    if not chain:
        return error(
            f"The proxy in front sends no X-Forwarded-For, so all clients appear with its address, {echo.client}: they "
            "share one rate limit, and sessions show the wrong address.",
            replace,
        )
    if client not in addresses:
        return error(
            f"The proxy in front has the address {echo.client}, which is not in `forwarded.trust`, so the sidecar "
            "ignores its X-Forwarded-For: all clients appear with that address.",
            f'Add it: `forwarded: {{trust: ["127.0.0.0/8", "::1", "{echo.client}"]}}`.',
        )
    if str(client) == CLAIMED:
        return _pretended(addresses, replace)
    if CLAIMED in chain:
        return fine(
            f"The client's address is {echo.client}. The sidecar ignores the address that it claims in X-Forwarded-For."
        )
    return fine(f"The client's address is {echo.client}, whatever it claims.")


_REPLACE = (
    "`proxy_set_header X-Forwarded-For $remote_addr;` for nginx, `ProxyAddHeaders Off` with `RequestHeader set "
    "X-Forwarded-For expr=%{REMOTE_ADDR}` for Apache, `http-request set-header X-Forwarded-For %[src]` for HAProxy."
)


def _pretended(addresses: Sequence[Address], mend: str) -> Finding:
    """The claim was believed: of everybody, or because the address behind it is one that may speak for others."""
    if str(addresses[-1]) == CLAIMED:
        return error(
            "Every client can pretend to have any address: the proxy in front forwards the client's X-Forwarded-For, "
            "and the sidecar trusts it. Rate limits and bans do not work.",
            mend,
        )
    return warning(
        f"The proxy in front extends X-Forwarded-For instead of replacing it, and the sidecar trusts the claim of "
        f"{addresses[-1]}, which is in `forwarded.trust`. Anyone who can connect from there can pretend to have any "
        "address; others cannot.",
        mend,
    )


def judge_scheme(echo: Echo, scheme: str, claimed: str) -> Finding:
    """Whether the sidecar knows the scheme that the client used; it claimed to use `claimed`."""
    mend = (
        "Let it set the header: `proxy_set_header X-Forwarded-Proto $scheme;` for nginx, `RequestHeader set "
        "X-Forwarded-Proto expr=%{REQUEST_SCHEME}` for Apache."
    )
    if not echo.elements("x-forwarded-proto"):
        return warning(
            "The proxy in front sends no X-Forwarded-Proto, so the scheme of a client is unknown. Synapse gets that "
            "of its `public_baseurl`.",
            mend,
        )
    if echo.scheme == scheme:
        return fine(f"The scheme is {scheme}, whatever a client claims.")
    if echo.scheme == claimed:
        return warning(
            "The proxy in front does not set X-Forwarded-Proto: the sidecar sees what a client claims, usually "
            "nothing, and Synapse gets the scheme of its `public_baseurl`.",
            mend,
        )
    return warning(f"The sidecar ignores X-Forwarded-Proto: it takes {scheme} clients for {echo.scheme} clients.", mend)


def astray(where: Sequence[str], reply: str, server: str) -> Finding:
    """Requests that never came to this sidecar: how they were answered instead, and by whom."""
    below = ", ".join(where)
    if server.startswith("Synapse/"):
        return error(
            f"Requests below {below} bypass this sidecar: Synapse itself answered ({reply}).",
            "Let the proxy in front send them to the sidecar, not to a worker. If several sidecars share the port, "
            "name the operator's listener of each with --admin.",
        )
    return error(
        f"Requests below {below} do not reach the sidecar: {server or 'the proxy in front'} answered {reply}.",
        "Let the proxy in front forward /_matrix and /_synapse/client.",
    )
