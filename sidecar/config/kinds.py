"""The kinds of value that `sidecar.yaml` can hold: how each is written, read and explained.

A schema field is annotated with one of the aliases at the end. Knows no key, no file and no line; `RefusedError` says
what is wrong with a value, the loader says where.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from attrs import frozen

from sidecar.config import amounts
from sidecar.config.endpoint_strings import EndpointError, any_of, client_endpoint, server_endpoint, sibling_endpoint
from sidecar.config.passwords import UNKNOWN, parse_hash
from sidecar.errors import nearest_name
from sidecar.synapse.names import RESOURCES, STREAMS

MOST = 10**9
"""Largest number of anything that is counted."""
Network = IPv4Network | IPv6Network
AffinityKind = Literal["user", "room", "origin", "source", "session", "path", "none"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,127}", re.ASCII)
_GLOB = re.compile(r"[A-Za-z0-9_.:@+*?\[\]!-]{1,128}", re.ASCII)
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}(?:\.\d{1,4})?(?:rc\d{1,3})?", re.ASCII)
_HOST = re.compile(r"(?:\*\.)?(?:[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?|\[[0-9a-f:.]+\])", re.ASCII)
_USER = re.compile(r"[^\x00-\x1f\x7f:]{1,128}")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class RefusedError(ValueError):
    """A value that does not fit; its text says what it must be, and what to write instead."""


class NotTextError(ValueError):
    """A value that YAML does not read as text, where only text will do."""


@frozen(eq=False)
class Kind:
    """One kind of value. `read` takes what YAML gave and the directory that relative paths are seen from."""

    name: str
    example: str
    reads: Callable[[Any, str], Any]
    write: Callable[[Any], Any] = str
    json: Mapping[str, Any] = {"type": "string"}

    def read(self, value: Any, base: str) -> Any:
        """The value that is meant. Raises RefusedError."""
        try:
            return self.reads(value, base)
        except NotTextError:
            raise RefusedError(self._wrong(value, base)) from None

    def _wrong(self, value: Any, base: str) -> str:
        """What to say of a value that is no text: numbers are not repeated, because one may be a secret."""
        wanted = f"must be {self.described}"
        if value is None:
            return f"{wanted}, and is empty"
        if isinstance(value, (list, dict)):
            return f"{wanted}, not a {'list' if isinstance(value, list) else 'mapping'}"
        quoted = "on" if isinstance(value, bool) else str(value)
        try:
            self.reads(quoted, base)
        except ValueError:
            told = f"`{str(value).lower()}`" if isinstance(value, bool) else "a number"
            return f"{wanted}, not {told}"
        return f"{wanted}; YAML does not read this as text: put it in quotes"

    @property
    def described(self) -> str:
        """With its article and an example."""
        article = "" if self.name == "text" else "an " if self.name[0] in "aeiou" else "a "
        return f"{article}{self.name} such as `{self.example}`"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise NotTextError
    if "\0" in value:
        raise RefusedError("must not contain a NUL character")
    return value


def shown(value: Any) -> str:
    """A value for an error message: short, on one line."""
    text = " ".join(str(value).split())
    return f"`{text[:39]}…`" if len(text) > 40 else f"`{text}`"


def _given(value: Any) -> str:
    """A value that is no number, for an error message."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a mapping"
    return shown(str(value).lower() if isinstance(value, bool) else value)


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean «sync»?` where something known looks alike, else empty."""
    near = nearest_name(word, known)
    return f"; did you mean `{near}`?" if near else ""


def _matching(pattern: re.Pattern[str], rule: str) -> Callable[[Any, str], str]:
    def read(value: Any, _base: str) -> str:
        text = _text(value)
        if not pattern.fullmatch(text):
            raise RefusedError(f"{shown(text)} {rule}")
        return text

    return read


def choice(name: str, words: Iterable[str]) -> Kind:
    """One of `words`; the first is the example."""
    known = tuple(words)

    def read(value: Any, _base: str) -> str:
        text = _text(value)
        if text not in known:
            raise RefusedError(f"must be {any_of(known)}, not {shown(text)}{nearest(text, known)}")
        return text

    return Kind(name, known[0], read, json={"enum": list(known)})


def _read_duration(least: float) -> Callable[[Any, str], float]:
    def read(value: Any, _base: str) -> float:
        seconds = amounts.read_duration(value)
        if seconds is None:
            raise RefusedError(f"must be a duration such as `10s`, `5m`, `1h` or `250ms`, not {_given(value)}")
        if not least <= seconds <= amounts.LONGEST:
            raise RefusedError(f"must be from {amounts.write_duration(least)} to 365d, not {shown(value)}")
        return seconds

    return read


def _read_size(least: int) -> Callable[[Any, str], int]:
    def read(value: Any, _base: str) -> int:
        size = amounts.read_size(value)
        if size is None:
            raise RefusedError(f"must be a size such as `16K`, `50M` or `1G`, not {_given(value)}")
        if not least <= size < 2**63:
            raise RefusedError(f"must be at least {amounts.write_size(least)}, and less than 8 EiB")
        return size

    return read


def _read_whole(least: int, most: int, example: str) -> Callable[[Any, str], int]:
    def read(value: Any, _base: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise RefusedError(f"must be a whole number such as `{example}`, not {_given(value)}")
        if not least <= value <= most:
            bounds = f"at least {least}" if most == MOST and value < least else f"from {least} to {most}"
            raise RefusedError(f"must be {bounds}, not {shown(value)}")
        return value

    return read


def _read_fraction(least: float, allowed: str) -> Callable[[Any, str], float]:
    def read(value: Any, _base: str) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise RefusedError(f"must be a number such as `1.5`, not {_given(value)}")
        if not least <= value <= 1e6:
            raise RefusedError(f"must be {allowed}, not {shown(value)}")
        return float(value)

    return read


def _read_network(value: Any, _base: str) -> Network:
    text = _text(value)
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        wanted = ip_network(text, strict=False)
    except ValueError:
        raise RefusedError(f"{shown(text)} is no address or network; write for example `10.0.0.0/8` or `::1`") from None
    raise RefusedError(f"{shown(text)} has bits set behind the prefix length; write `{wanted}`")


def write_network(network: Network) -> str:
    """A network of one address as that address."""
    single = network.prefixlen == network.max_prefixlen
    return str(network.network_address if single else network)


def _endpoint(check: Callable[[str, str], str], example: str) -> Callable[[Any, str], str]:
    def read(value: Any, base: str) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            raise RefusedError(f"must be an endpoint string, not a number; write for example `{example}`")
        text = _text(value)
        try:
            return check(text, base)
        except EndpointError as error:
            raise RefusedError(f"{shown(text)} is no endpoint string: {error.message}") from None

    return read


def _read_path(value: Any, base: str) -> str:
    text = _text(value)
    if not text:
        raise RefusedError("must be the path of a file or directory, and is empty")
    return str(PurePosixPath(base) / text)


def _read_state_file(value: Any, _base: str) -> str:
    """What it is seen from is known to whoever starts."""
    text = _text(value)
    if not text or text.endswith("/"):
        raise RefusedError("must be the path of a file; write for example `drains.json`")
    return text


def _read_flag(value: Any, _base: str) -> bool:
    if not isinstance(value, bool):
        raise RefusedError(f"must be `true` or `false`, not {shown(value)}")
    return value


def _read_pattern(value: Any, _base: str) -> str:
    text = _text(value)
    if text.startswith("^") or text.endswith("$") or ".*" in text or "(" in text:
        raise RefusedError(
            f"{shown(text)} looks like a regular expression; write `{{name}}` for one segment and `/**` for any rest"
        )
    if not text.startswith("/") or not text.isascii() or _CONTROL.search(text) or " " in text:
        raise RefusedError(
            f"{shown(text)} is no path; it begins with `/` and holds no space: write `/_matrix/client/**`"
        )
    if "?" in text or "#" in text:
        raise RefusedError(f"{shown(text)} holds more than a path; conditions on the query go under `query`")
    *segments, last = text[1:].split("/")
    for segment in segments if last == "**" else [*segments, last]:
        if "*" in segment:
            raise RefusedError("`**` is the last segment of a path or none; write `{name}` for exactly one segment")
        if ("{" in segment or "}" in segment) and not re.fullmatch(r"\{\w+\}", segment, re.ASCII):
            raise RefusedError(f"{shown(segment)} mixes text with a parameter; `{{name}}` stands for a whole segment")
    return text


def _read_host(value: Any, _base: str) -> str:
    text = _text(value).lower()
    if not _HOST.fullmatch(text):
        raise RefusedError(
            f"{shown(text)} is no host name; write it without port: `matrix.example.org`, `*.example.org`"
        )
    return text


def read_line(value: Any, _base: str) -> str:
    """One line of text."""
    text = _text(value)
    if _CONTROL.search(text):
        raise RefusedError("must be one line without control characters")
    return text


def _read_hash(value: Any, _base: str) -> str:
    """What stands there may be the password itself, so it is never repeated."""
    if not isinstance(value, str) or parse_hash(value) is None:
        raise RefusedError("is no password hash; write what `matrix-sidecar password` prints, in quotes")
    return value


def _read_name(value: Any, _base: str) -> str:
    text = _matching(_NAME, "is no name; use letters, digits and `_ . : @ + -`, at most 128, a letter or digit first")(
        value, _base
    )
    if text == "master":
        raise RefusedError("`master` is how Synapse calls its main process; here its name is `main`")
    return text


def _read_method(value: Any, _base: str) -> str:
    text = _matching(_TOKEN, "is no method; write for example `GET`")(value, _base)
    if text != text.upper():
        raise RefusedError(f"methods are case-sensitive; write `{text.upper()}`")
    return text


def _duration(least: float) -> Kind:
    number = {"type": "number", "minimum": least}
    return Kind(
        "duration",
        "10s",
        _read_duration(least),
        amounts.write_duration,
        {"anyOf": [number, {"type": "string", "pattern": "^[0-9]+([.][0-9]+)?(ms|s|m|h|d)$"}]},
    )


def _size(least: int) -> Kind:
    number = {"type": "integer", "minimum": least}
    return Kind(
        "size",
        "16K",
        _read_size(least),
        amounts.write_size,
        {"anyOf": [number, {"type": "string", "pattern": "^[0-9]+[KMG]?$"}]},
    )


def whole(least: int, most: int = MOST, example: str = "1000", name: str = "number") -> Kind:
    """A whole number in these bounds."""
    return Kind(
        name, example, _read_whole(least, most, example), json={"type": "integer", "minimum": least, "maximum": most}
    )


def _status(least: int, example: str) -> Kind:
    return whole(least, 599, example, "status")


Duration = Annotated[float, _duration(0.001)]
DurationOrZero = Annotated[float, _duration(0)]
"""A duration that may be zero."""
Size = Annotated[int, _size(1)]
SizeOrZero = Annotated[int, _size(0)]
"""A size that may be zero."""
Count = Annotated[int, whole(1)]
CountOrZero = Annotated[int, whole(0)]
"""A number of things that may be zero."""
Weight = Annotated[
    float,
    Kind("weight", "1", _read_fraction(0, "from 0 to 1000000"), "{:g}".format, json={"type": "number", "minimum": 0}),
]
Factor = Annotated[
    float,
    Kind(
        "factor", "1.25", _read_fraction(1, "from 1 to 1000000"), "{:g}".format, json={"type": "number", "minimum": 1}
    ),
]
Addresses = Annotated[Network, Kind("network", "10.0.0.0/8", _read_network, write_network)]
ServerEndpoint = Annotated[
    str,
    Kind(
        "server endpoint",
        "tcp:8008:interface=127.0.0.1",
        _endpoint(server_endpoint, "tcp:8008:interface=127.0.0.1"),
    ),
]
ClientEndpoint = Annotated[
    str,
    Kind("client endpoint", "unix:/run/matrix-synapse/sync1.sock", _endpoint(client_endpoint, "tcp:127.0.0.1:8083")),
]
SiblingEndpoint = Annotated[
    str,
    Kind(
        "client endpoint",
        "unix:/run/matrix-sidecar-2/admin.sock",
        _endpoint(sibling_endpoint, "tls:gateway2.example.org:9600"),
    ),
]
Path = Annotated[str, Kind("path", "/etc/matrix-synapse/homeserver.yaml", _read_path)]
Included = Annotated[str, Kind("file or pattern", "conf.d/*.yaml", _read_path)]
"""Other files of ours."""
StateFile = Annotated[str, Kind("file", "drains.json", _read_state_file)]
"""A file that the sidecar itself writes."""
Flag = Annotated[bool, Kind("flag", "true", _read_flag, lambda flag: str(flag).lower(), {"type": "boolean"})]
Name = Annotated[str, Kind("name", "sync1", _read_name)]
Glob = Annotated[str, Kind("name or glob", "sync*", _matching(_GLOB, "is no worker name or glob such as `sync*`"))]
Version = Annotated[str, Kind("version", "1.163.2", _matching(_VERSION, "is no Synapse release; write `1.163.2`"))]
Host = Annotated[str, Kind("host name", "matrix.example.org", _read_host)]
Method = Annotated[str, Kind("method", "GET", _read_method)]
PathPattern = Annotated[str, Kind("path pattern", "/_matrix/client/{version}/sync", _read_pattern)]
FieldName = Annotated[str, Kind("field name", "X-Forwarded-Proto", _matching(_TOKEN, "is no field name"))]
Text = Annotated[str, Kind("text", "hello", lambda value, _base: _text(value))]
Line = Annotated[str, Kind("text", "hello", read_line)]
Affinity = Annotated[AffinityKind, choice("affinity", ("user", "room", "origin", "source", "session", "path", "none"))]
Resource = Annotated[str, choice("resource", ("client", *sorted(RESOURCES - {"client"})))]
Stream = Annotated[str, choice("stream", STREAMS)]
Scheme = Annotated[Literal["http", "https"], choice("scheme", ("http", "https"))]
Level = Annotated[Literal["debug", "info", "warn", "error"], choice("level", ("info", "debug", "warn", "error"))]
Actions = Annotated[Literal["api", "page", "none"], choice("actions", ("api", "page", "none"))]
UserName = Annotated[str, Kind("user name", "operator", _matching(_USER, "is no user name; it holds no colon"))]
PasswordHash = Annotated[str, Kind("password hash", UNKNOWN, _read_hash)]
FixedStatus = Annotated[int, _status(200, "200")]
RefusalStatus = Annotated[int, _status(400, "403")]
RedirectStatus = Annotated[int, whole(301, 308, "302", "status")]


def doc(text: str) -> dict[str, Any]:
    """Metadata of a key: the sentence from which its documentation is made."""
    return {"doc": text}
