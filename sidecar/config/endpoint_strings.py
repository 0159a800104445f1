"""The grammar of Twisted's endpoint strings, as far as a configuration file needs it.

Splits, checks and makes paths absolute. It opens nothing and does not ask Twisted: whether a port is free or a
plugin knows another kind of endpoint shows at the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from attrs import frozen

from sidecar.errors import nearest_name
from sidecar.synapse.listeners import escape

_PART = re.compile(r"(?:\\.|[^:\\])*", re.DOTALL)
_NAMED = re.compile(r"((?:\\.|[^=\\])*)=(.*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_PORT = re.compile(r"\d{1,5}", re.ASCII)
_CHECKS = {
    "port": (_PORT, "a port number"),
    "backlog": (_PORT, "a number"),
    "index": (_PORT, "a number"),
    "timeout": (re.compile(r"\d{1,5}", re.ASCII), "a number of seconds"),
    "mode": (re.compile(r"[0-7]{3,4}", re.ASCII), "an octal file mode such as `660`"),
    "lockfile": (re.compile(r"[01]"), "`0` or `1`"),
    "domain": (re.compile(r"INET|INET6|UNIX"), "`INET`, `INET6` or `UNIX`"),
}


@frozen
class Form:
    """One kind of endpoint: its parameters in order (any may be given by name), and which of them are needed."""

    parameters: tuple[str, ...]
    needed: tuple[str, ...]
    example: str
    paths: tuple[str, ...] = ()


SERVER: Mapping[str, Form] = {
    "tcp": Form(("port", "interface", "backlog"), ("port",), "tcp:8008:interface=127.0.0.1"),
    "tcp6": Form(("port", "interface", "backlog"), ("port",), "tcp6:8008"),
    "ssl": Form(
        ("port", "privateKey", "certKey", "sslmethod", "interface", "backlog", "extraCertChain", "dhParameters"),
        ("port", "privateKey"),
        "ssl:8448:privateKey=/etc/ssl/private/example.pem",
        ("privateKey", "certKey", "extraCertChain"),
    ),
    "unix": Form(
        ("address", "mode", "backlog", "lockfile"),
        ("address",),
        "unix:/run/matrix-sidecar/http.sock:mode=660",
        ("address",),
    ),
    "systemd": Form(
        ("domain", "index", "name", "privateKey", "certKey", "extraCertChain"),
        ("domain",),
        "systemd:domain=INET:name=http",
        ("privateKey", "certKey", "extraCertChain"),
    ),
}
_NOT_TAKEN = {
    "sslmethod": "TLS 1.2 and 1.3 are spoken, and nothing older; leave `sslmethod` out",
    "dhParameters": "keys are agreed on with elliptic curves; leave `dhParameters` out",
}
_HTTP2 = "http2:"
_ANNOUNCED = "haproxy:"

CLIENT: Mapping[str, Form] = {
    "unix": Form(("path", "timeout", "lockfile"), ("path",), "unix:/run/matrix-synapse/sync1.sock", ("path",)),
    "tcp": Form(("host", "port", "timeout", "bindAddress"), ("host", "port"), "tcp:10.0.0.2:8083"),
}
SIBLING: Mapping[str, Form] = {
    **CLIENT,
    "tls": Form(
        ("host", "port", "timeout", "bindAddress", "trustRoots"),
        ("host", "port"),
        "tls:gateway2.example.org:9600",
        ("trustRoots",),
    ),
}
"""Where the operator's listener of another instance is."""


@frozen
class EndpointError(Exception):
    """An endpoint string that cannot work."""

    message: str


@frozen
class KeyFiles:
    """Where a private key and its certificates are, in PEM; one file may hold both."""

    key: str
    certificate: str
    chain: str = ""
    """Further certificates of the chain; those in `certificate` behind the first belong to it, too."""


@frozen
class ListenAddress:
    """An endpoint string taken apart: what Twisted listens on, and what stands between that and HTTP."""

    address: str
    """An endpoint string of Twisted's for plain octets."""
    announced: bool = False
    """`haproxy:` stands before it: here connections begin with a header of the PROXY protocol."""
    tls: KeyFiles | None = None
    http2: bool = False
    """`http2:` stands before it: clients may speak HTTP/2."""


def entrance(text: str) -> ListenAddress:
    """Take a server endpoint string apart that `server_endpoint` has checked."""
    bare = _bare(text)
    before = text[: len(text) - len(bare)]
    http2, announced = _HTTP2 in before, _ANNOUNCED in before
    if is_foreign(bare):
        return ListenAddress(bare, announced, http2=http2)
    kind, parts = _split(bare)
    values = _parameters(parts, SERVER[kind].parameters)
    files = [values.pop(name, "") for name in ("privateKey", "certKey", "extraCertChain")]
    if not files[0]:
        return ListenAddress(bare, announced, http2=http2)
    plain = "tcp" if kind == "ssl" else kind
    address = ":".join((plain, *_written(values, SERVER[plain])))
    return ListenAddress(address, announced, KeyFiles(files[0], files[1] or files[0], files[2]), http2)


def _bare(text: str) -> str:
    """A server endpoint string without what may stand before one of Twisted's."""
    return text.removeprefix(_HTTP2).removeprefix(_ANNOUNCED)


def server_endpoint(text: str, base: str) -> str:
    """Check a server endpoint string and make its paths absolute, seen from directory `base`.

    A kind that only a plugin of Twisted can know passes as it is.
    """
    bare = _bare(text)
    if bare.startswith((_HTTP2, _ANNOUNCED)):
        raise EndpointError(f"`{_HTTP2}` and `{_ANNOUNCED}` stand before it once each: `{_HTTP2}{_ANNOUNCED}tcp:8008`")
    return text[: len(text) - len(bare)] + (bare if is_foreign(bare) else _checked(bare, base, SERVER))


def is_foreign(text: str) -> bool:
    """Whether only a plugin of Twisted can know this kind of server endpoint."""
    prefix, colon, _ = _bare(text).partition(":")
    known = prefix in SERVER or f"{prefix}:" in (_HTTP2, _ANNOUNCED) or nearest_name(prefix, SERVER)
    return bool(colon) and prefix.isidentifier() and not known


def client_endpoint(text: str, base: str) -> str:
    """Check a client endpoint string and make its path absolute, seen from directory `base`."""
    return _checked(text, base, CLIENT)


def client_parts(text: str) -> tuple[str, Mapping[str, str]]:
    """The kind of a client endpoint string that `client_endpoint` has checked, and its parameters by name."""
    kind, parts = _split(text)
    return kind, _parameters(parts, CLIENT[kind].parameters)


def sibling_endpoint(text: str, base: str) -> str:
    """The same for the operator's listener of another instance, which may speak TLS."""
    return _checked(text, base, SIBLING)


def sibling_parts(text: str) -> tuple[str, Mapping[str, str]]:
    """As `client_parts`, of what `sibling_endpoint` has checked."""
    kind, parts = _split(text)
    return kind, _parameters(parts, SIBLING[kind].parameters)


def address_of(text: str) -> tuple[str, str] | None:
    """Where an endpoint string of either side leads, so that equal places compare equal; None where that is open.

    A path, or host and port; every name of this very host is empty.
    """
    place = place_of(text)
    if place is None or place[0] == "unix":
        return place
    host, port = place
    here = host in ("", "0.0.0.0", "::", "::1", "localhost") or host.startswith("127.")  # noqa: S104
    return ("" if here else host, port)


def place_of(text: str) -> tuple[str, str] | None:
    """As `address_of`, with the host as it is written; empty where every address of this host is meant."""
    kind, parts = _split(_bare(text))
    form = SERVER.get(kind) or CLIENT.get(kind)
    if kind not in ("tcp", "tcp6", "ssl", "unix") or form is None:
        return None
    if kind == "unix":
        values = _parameters(parts, ("path",))
        return ("unix", values.get("address") or values.get("path", ""))
    if len(parts) > 1 and "=" not in parts[1] and not parts[0].isdecimal():
        return (_unescape(parts[0]), parts[1])
    values = _parameters(parts, SERVER[kind].parameters)
    return (values.get("interface", "") or values.get("host", ""), values["port"])


def overlap(one: str, other: str) -> bool:
    """Whether two server endpoints cannot both be listened on: the same path, or a port at the same address.

    Every address of IPv4 and every one of IPv6 go together; so does a name with any address, because nobody looks it
    up here.
    """
    place, other_place = map(_listened, (one, other))
    if place is None or other_place is None:
        return one == other and not is_foreign(one)
    (host, port), (other_host, other_port) = place, other_place
    if "unix" in (host, other_host) or port != other_port:
        return place == other_place
    return port != "0" and (host == other_host or _every(host, other_host) or _every(other_host, host))


def takes_ipv4_of(six: str, four: str) -> bool:
    """Whether one server endpoint has every address of IPv6, and the other the same port of IPv4.

    Linux refuses the second of them, because a socket of every IPv6 address takes IPv4 as well: ipv6(7),
    `net.ipv6.bindv6only`, which is 0 by default. Twisted leaves that as it is.
    """
    place, other_place = map(_listened, (six, four))
    if place is None or other_place is None:
        return False
    (host, port), (other_host, other_port) = place, other_place
    return host == "::" and port == other_port != "0" and other_host != "unix" and ":" not in other_host


def _listened(text: str) -> tuple[str, str] | None:
    """`place_of` a server endpoint; `::` where it listens on every address of IPv6."""
    place = None if is_foreign(text) else place_of(text)
    is_every_six = place is not None and not place[0] and _bare(text).startswith("tcp6:")
    return ("::", place[1]) if is_every_six and place is not None else place


def _every(host: str, other: str) -> bool:
    """Whether `host` stands for every address of the family of `other`."""
    return (host in ("", "0.0.0.0") and ":" not in other) or (host == "::" and ":" in other)  # noqa: S104


def is_reached_from_afar(text: str) -> bool:
    """Whether other hosts can reach a server endpoint, as far as its string tells."""
    kind, parts = _split(_bare(text))
    if kind not in ("tcp", "tcp6", "ssl"):
        return False
    host = _parameters(parts, SERVER[kind].parameters).get("interface", "")
    return not (host in ("::1", "localhost") or host.startswith("127."))


def is_open_socket(text: str) -> bool:
    """Whether a server endpoint is a UNIX socket that everybody on this host may connect to, as Twisted makes it."""
    kind, parts = _split(_bare(text))
    return kind == "unix" and bool(int(_parameters(parts, SERVER[kind].parameters).get("mode", "666"), 8) & 0o002)


def _unescape(part: str) -> str:
    return _ESCAPED.sub(r"\1", part)


def _split(text: str) -> tuple[str, list[str]]:
    parts = []
    position = 0
    while position <= len(text):
        match = _PART.match(text, position)
        end = match.end() if match and match.end() > position else position
        if end < len(text) and text[end] != ":":
            raise EndpointError("the endpoint string ends in a lone backslash")
        parts.append(text[position:end])
        position = end + 1
    return parts[0], parts[1:]


def _parameters(parts: list[str], names: tuple[str, ...]) -> dict[str, str]:
    """Name and unescaped value of each part, in the order in which they stand."""
    found: dict[str, str] = {}
    position = 0
    for part in parts:
        named = _NAMED.fullmatch(part)
        if named:
            name, value = _unescape(named[1]), named[2]
        elif position < len(names) and (part or not position):
            name, value = names[position], part
            position += 1
        else:
            raise EndpointError(
                "it has too many parts; write each colon inside a value as `\\:`, in IPv6 for example "
                "`interface=\\:\\:1`"
            )
        if name in found:
            raise EndpointError(f"`{name}` is given twice")
        found[name] = _unescape(value)
    return found


def _checked(text: str, base: str, forms: Mapping[str, Form]) -> str:
    kind, parts = _split(text)
    form = forms.get(kind)
    if form is None:
        raise _unknown_kind(text, forms)
    values = _parameters(parts, form.parameters)
    _check_names(kind, values, form)
    for name, value in values.items():
        _check_value(name, value, form)
    for name in set(form.paths) & values.keys():
        values[name] = str(PurePosixPath(base) / values[name])
    return ":".join((kind, *_written(values, form)))


def _written(values: Mapping[str, str], form: Form) -> list[str]:
    """Needed parameters by position while that is possible, the others by name."""
    plain = form.needed if form.needed == form.parameters[: len(form.needed)] and form.parameters[0] != "domain" else ()
    named = [f"{name}={escape(value)}" for name, value in values.items() if name not in plain]
    return [escape(values[name]) for name in plain] + named


_URL = re.compile(r"https?://([^/:\s]+)(?::(\d{1,5}))?/?", re.ASCII)
_HOST_AND_PORT = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*):(\d{1,5})", re.ASCII)


def _unknown_kind(text: str, forms: Mapping[str, Form]) -> EndpointError:
    near = nearest_name(text.partition(":")[0], forms)
    example = forms[near].example if near else _meant(text, server=forms is SERVER)
    example = example or next(iter(forms.values())).example
    return EndpointError(f"it must begin with {any_of(f'{name}:' for name in forms)}; write `{example}`")


def _meant(text: str, *, server: bool) -> str:
    """The endpoint string for a path, a URL, or host and port; empty where it is none of these."""
    if text.startswith("/"):
        return f"unix:{escape(text)}"
    match = _URL.fullmatch(text) or _HOST_AND_PORT.fullmatch(text)
    if match is None:
        return ""
    host, port = match[1], match[2] or ("443" if text.startswith("https") else "80")
    return f"tcp:{port}:interface={host}" if server else f"tcp:{host}:{port}"


def any_of(names: Iterable[str]) -> str:
    """`a`, `b` or `c`."""
    *most, last = [f"`{name}`" for name in names]
    return f"{', '.join(most)} or {last}" if most else last


def _check_names(kind: str, values: Mapping[str, str], form: Form) -> None:
    for name in values:
        if name not in form.parameters:
            near = nearest_name(name, form.parameters) or form.parameters[0]
            raise EndpointError(f"`{kind}:` endpoints have no parameter `{name}`; did you mean `{near}`?")
        if name in _NOT_TAKEN:
            raise EndpointError(_NOT_TAKEN[name])
    for name in form.needed:
        if not values.get(name):
            raise EndpointError(f"it lacks the {name}; write for example `{form.example}`")
    if kind == "systemd" and ("index" in values) == ("name" in values):
        raise EndpointError(f"it needs either `index` or `name`; write for example `{form.example}`")
    if ("certKey" in values or "extraCertChain" in values) and not values.get("privateKey"):
        raise EndpointError("a certificate is of use with its key only; add `privateKey=`")


def _check_value(name: str, value: str, form: Form) -> None:
    pattern, meant = _CHECKS.get(name, (None, ""))
    if pattern is not None and (not pattern.fullmatch(value) or (name == "port" and int(value) > 65535)):
        raise EndpointError(f"its {name} must be {meant}; write for example `{form.example}`")
    if "\0" in value:
        raise EndpointError(f"its {name} contains a control character")
