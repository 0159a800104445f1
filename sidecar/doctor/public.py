"""Where clients connect to, and what can be seen there without the sidecar's help. Blocks."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from attrs import frozen

from sidecar.doctor.findings import Finding, error, fine, warning
from sidecar.doctor.raw_request import Reply, ServerAddress, SilenceError, ask
from sidecar.plurals import counted

CLOSED = ("/_synapse/admin/v1/server_version", "/_synapse/replication/doctor", "/_synapse/metrics")
"""What should not be reached from outside."""
_REDIRECTS = (301, 302, 303, 307, 308)


@frozen(kw_only=True)
class Public:
    """A public address."""

    url: str
    place: ServerAddress
    scheme: str

    @classmethod
    def of(cls, url: str, connect_to: str = "", ca: str | None = None) -> Public:
        """For a URL; `connect_to`: address and port instead of those that it names; `ca`: a file of certificates.

        Raises ValueError with a sentence.
        """
        url = url if "://" in url else f"https://{url}"
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not a public URL; write for example https://matrix.example.org")
        tls = ssl.create_default_context(cafile=ca) if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        address, to = "", port
        if connect_to:
            other = urlsplit(f"//{connect_to}")
            if not other.hostname:
                raise ValueError(f"{connect_to!r} is not an address; write for example 127.0.0.1:8443")
            address, to = other.hostname, other.port or port
        place = ServerAddress(host=parts.hostname, address=address, port=to, named_port=port, tls=tls)
        return cls(url=url.rstrip("/"), place=place, scheme=parts.scheme)


def examine_answer(place: ServerAddress) -> Iterator[Finding]:
    """Whether Matrix answers there, to pages of all origins. Raises SilenceError."""
    reply = ask(place, "GET", "/_matrix/client/versions", (("Origin", "https://client.invalid"),))
    if reply.status != 200 or "versions" not in reply.values:
        yield error(
            f"/_matrix/client/versions answers {told(reply)} instead of Matrix's versions.",
            "Let the proxy in front forward /_matrix and /_synapse/client to the sidecar.",
        )
        return
    origins = reply.all("Access-Control-Allow-Origin")
    if origins == ["*"]:
        yield fine(f"{place} answers as Matrix, in {1000 * reply.seconds:.0f} ms, with CORS for all origins.")
    else:
        yield error(
            f"Access-Control-Allow-Origin arrives {counted(len(origins), 'time')}, but browsers accept it only once: "
            "web clients fail.",
            "Synapse sets it. Remove `add_header` or similar lines from the proxy in front.",
        )


def examine_closed(place: ServerAddress) -> Finding:
    """Whether what is for administrators and for Synapse itself is out of reach."""
    reached = []
    for path in CLOSED:
        try:
            reply = ask(place, "GET", path)
        except SilenceError:
            continue
        if reply.by_synapse:
            reached.append(f"{path} ({reply.told()})")
    if reached:
        return warning(
            f"These paths of Synapse can be reached from here: {', '.join(reached)}.",
            "Below /_synapse, let the proxy in front forward only /_synapse/client, or restrict `access`.",
        )
    return fine("/_synapse/admin, /_synapse/replication and /_synapse/metrics cannot be reached from here.")


def examine_plain(host: str, port: int) -> Finding:
    """Whether http leads to https, and nowhere else."""
    place = ServerAddress(host=host, port=port)
    try:
        reply = ask(place, "GET", "/_matrix/client/versions")
    except SilenceError:
        return fine(f"No server answers plain HTTP at {place}.")
    if reply.status in _REDIRECTS and reply.get("Location").startswith("https://"):
        return fine("http redirects to https.")
    if "versions" in reply.values:
        mend = "Redirect it to https, or close it."
        return warning(f"{place} serves Matrix without TLS: others can read tokens on the way.", mend)
    return fine(f"{place} does not serve Matrix without TLS ({told(reply)}).")


def told(reply: Reply) -> str:
    """An answer in few words, with who gave it."""
    server = reply.get("Server")
    return f"{reply.told()} by {server}" if server else reply.told()
