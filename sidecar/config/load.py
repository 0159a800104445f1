"""`sidecar.yaml` to `Settings`: every fault of the file at once, each with its line.

cattrs picks the hook for each annotation of the schema; the hooks gather faults with the path of each, and the path
finds the line in the document. What needs other files (names of workers) is checked in `references`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_args, get_origin

import attrs
from cattrs import Converter

from sidecar.config.balancers import BalancerFault, balancer_faults
from sidecar.config.endpoint_strings import (
    any_of,
    entrance,
    is_foreign,
    is_open_socket,
    is_reached_from_afar,
    overlap,
    takes_ipv4_of,
)
from sidecar.config.including import read_with_includes
from sidecar.config.kinds import Kind, RefusedError, shown
from sidecar.config.rollout import rollout_faults
from sidecar.config.schema import Forwarded, Route, Settings
from sidecar.config.siblings import sibling_faults, sibling_oddities
from sidecar.document import Document, KeyPath, dotted, plain_value
from sidecar.errors import ConfigError, Problem, Severity, nearest_name

Fault = tuple[KeyPath, str]
Section = TypeVar("Section")

_OUTCOMES = ("pool", "respond", "redirect", "refuse", "table")
_FRAMING = frozenset(("connection", "content-length", "keep-alive", "trailer", "transfer-encoding", "upgrade"))
_SYNAPSE_HEAD = 16384
_SYNAPSE_BACKLOG = 50


def load_settings(path: str, *, inside: bool = False) -> Settings:
    """Read a configuration file, and what it includes, with the variables of the environment.

    Raises ConfigError with all that is wrong in them; `Settings.warnings` has the rest. `inside`: the sidecar runs
    inside Synapse, which knows its files, so that none need be named.
    """
    return settle(read_with_includes(os.path.abspath(path), os.environ), inside=inside)


def settle(document: Document, *, inside: bool = False) -> Settings:
    """The settings that a document holds; pure. Raises ConfigError."""
    if document.value is None and not document.usable:
        raise _failure(document.problems)
    try:
        settings: Settings = _SettingsReader(document).structured(document.value, Settings)
        faults = list(_contradictions(settings, inside=inside))
    except _FaultyError as faulty:
        settings, faults = Settings(), faulty.faults
    found = _sorted(document, (document.problem(*fault) for fault in faults))
    wrong = {path for path, _ in faults}
    odd = [document.problem(*fault, Severity.WARNING) for fault in _oddities(settings) if fault[0] not in wrong]
    if found or not document.usable:
        raise _failure((*document.problems, *found, *odd))
    return attrs.evolve(settings, source=document, warnings=(*document.problems, *odd))


def read_part(document: Document, path: KeyPath, value: Any, section: type[Section]) -> Section:
    """The `value` at `path` of a document whose other parts are not ours. Raises ConfigError."""
    try:
        read: Section = _SettingsReader(document, list(path)).structured(value, section)
    except _FaultyError as faulty:
        problems = [document.problem((*path, *fault), message) for fault, message in faulty.faults]
        raise _failure(tuple(sorted(problems, key=lambda problem: problem.line))) from None
    return read


def _sorted(document: Document, problems: Iterable[Problem]) -> list[Problem]:
    """In the order of the files and their lines, without what follows from a fault of the same place."""
    order = {part.file: number for number, part in enumerate(document.files)}
    known = {(each.file, each.line, each.key) for each in document.problems if each.severity is Severity.ERROR}
    new = (each for each in problems if (each.file, each.line, each.key) not in known)
    return sorted(new, key=lambda problem: (order[problem.file], problem.line))


def _failure(problems: tuple[Problem, ...]) -> ConfigError:
    return ConfigError(problems)


def kind_of(annotation: Any) -> Kind | None:
    """The kind that an annotation of the schema carries."""
    return next((extra for extra in getattr(annotation, "__metadata__", ()) if isinstance(extra, Kind)), None)


def keys_of(section: type) -> dict[str, attrs.Attribute[Any]]:
    """The keys that a section of the file can have, with their annotations resolved."""
    attrs.resolve_types(section)
    return {name: key for name, key in attrs.fields_dict(section).items() if "doc" in key.metadata}


class _FaultyError(Exception):
    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults)
        self.faults = faults


Part = tuple[Hashable, Callable[[], Any]]


class _SettingsReader:
    """Structures a document by hooks of cattrs that raise nothing but _FaultyError. Knows where it is reading."""

    def __init__(self, document: Document, path: list[Hashable] | None = None) -> None:
        self._document = document
        self._path = path or []
        self._converter = Converter()
        self._converter.register_structure_hook_func(lambda wanted: kind_of(wanted) is not None, self._read_kind)
        for suits, hook in ((_is_list, _read_list), (_is_mapping, _read_mapping), (attrs.has, _read_section)):
            self._converter.register_structure_hook_func(suits, self._bound(hook))

    def structured(self, value: Any, wanted: Any) -> Any:
        """The value as the schema wants it."""
        return self._converter.structure(value, wanted)

    def later(self, value: Any, wanted: Any) -> Callable[[], Any]:
        """A part for `gather`."""
        return lambda: self._converter.structure(value, wanted)

    def gather(self, parts: Iterable[Part]) -> list[Any]:
        """Read each part; raises _FaultyError with the faults of all, each under the key of its part."""
        values: list[Any] = []
        faults: list[Fault] = []
        for key, read in parts:
            self._path.append(key)
            try:
                values.append(read())
            except _FaultyError as faulty:
                faults.extend(((key, *path), message) for path, message in faulty.faults)
            finally:
                self._path.pop()
        if faults:
            raise _FaultyError(faults)
        return values

    def name(self, name: Any, wanted: Any) -> Callable[[], Any]:
        """A part for `gather`: the key of an entry, which no variable makes."""
        kind = kind_of(wanted)
        return lambda: self._read(kind, name) if kind else name

    def _bound(self, hook: Callable[[Any, Any, _SettingsReader], Any]) -> Callable[[Any, Any], Any]:
        return lambda value, wanted: hook(value, wanted, self)

    def _read_kind(self, value: Any, annotation: Any) -> Any:
        kind = kind_of(annotation)
        if kind is None:
            return value
        origin, path = self._document.origin(tuple(self._path))
        written = origin.written.get(path)
        return (
            self._read(kind, value) if written is None or value is None else self._read_variable(kind, value, written)
        )

    def _read(self, kind: Kind, value: Any) -> Any:
        """Relative paths are seen from the directory of the file in which they stand."""
        origin, _ = self._document.origin(tuple(self._path))
        try:
            return kind.read(value, os.path.dirname(origin.file))
        except RefusedError as refused:
            raise _FaultyError([((), str(refused))]) from None

    def _read_variable(self, kind: Kind, text: str, written: str) -> Any:
        """What a variable holds is text, or what YAML makes of it. It is not repeated, because it may be a secret."""
        for value in (text, plain_value(text)):
            try:
                return self._read(kind, value)
            except _FaultyError:
                continue
        message = f"what the environment gives for {shown(written)} does not fit; it must be {kind.described}"
        raise _FaultyError([((), message)])


def _is_list(wanted: Any) -> bool:
    return get_origin(wanted) is tuple


def _is_mapping(wanted: Any) -> bool:
    return get_origin(wanted) is get_origin(Mapping[str, str])


def _read_list(value: Any, wanted: Any, reader: _SettingsReader) -> tuple[Any, ...]:
    item = get_args(wanted)[0]
    if isinstance(value, list):
        return tuple(reader.gather((index, reader.later(part, item)) for index, part in enumerate(value)))
    if kind_of(item) is None:
        raise _FaultyError([((), f"must be a list, each item beginning with `- `, not {_described(value)}")])
    return (reader.structured(value, item),)


def _read_mapping(value: Any, wanted: Any, reader: _SettingsReader) -> dict[Any, Any]:
    key_kind, value_kind = get_args(wanted)
    if not isinstance(value, dict):
        raise _FaultyError([((), f"must be a mapping, each entry beginning with `NAME:`, not {_described(value)}")])
    names = [(key, reader.name(key, key_kind)) for key in value]
    parts = [(key, reader.later(part, value_kind)) for key, part in value.items()]
    read = reader.gather((*names, *parts))
    return dict(zip(read, read[len(names) :], strict=False))


def _read_section(value: Any, section: type, reader: _SettingsReader) -> Any:
    """Keys without a value count as absent, so that all lines of a section can be commented out."""
    keys = keys_of(section)
    short: Mapping[str, Mapping[str, Any]] = getattr(section, "SHORT", {})
    if isinstance(value, str) and value in short:
        return section(**short[value])
    if value is not None and not isinstance(value, dict):
        words = f"{any_of(short)}, or " if short else ""
        raise _FaultyError(
            [((), f"must be {words}a mapping with keys such as `{_example(keys)}`, not {_described(value)}")]
        )
    given = {key: part for key, part in (value or {}).items() if part is not None or key not in keys}
    parts = [(key, _later_key(reader, key, part, keys)) for key, part in given.items()]
    missing = [name for name, key in keys.items() if key.default is attrs.NOTHING and name not in given]
    parts += [(name, _refusal("the key is missing; it has no default")) for name in missing]
    return section(**dict(zip(given, reader.gather(parts), strict=False)))


def _example(keys: Mapping[str, attrs.Attribute[Any]]) -> str:
    """The first key of a section, with a value where that is a single one."""
    name, key = next(iter(keys.items()))
    kind = next((found for each in (key.type, *get_args(key.type)) if (found := kind_of(each)) is not None), None)
    return f"{name}:" if kind is None else f"{name}: {kind.example}"


def _later_key(
    reader: _SettingsReader, key: Any, value: Any, keys: Mapping[str, attrs.Attribute[Any]]
) -> Callable[[], Any]:
    if key in keys:
        return reader.later(value, keys[key].type)
    if not isinstance(key, str):
        return _refusal("YAML does not read this key as text; put it in quotes")
    near = nearest_name(key, keys)
    return _refusal(f"unknown key; did you mean `{near}`?" if near else f"unknown key; known are {any_of(keys)}")


def _refusal(message: str) -> Callable[[], Any]:
    def refuse() -> Any:
        raise _FaultyError([((), message)])

    return refuse


def _described(value: Any) -> str:
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else "a single value"


def _contradictions(settings: Settings, *, inside: bool) -> Iterator[Fault]:
    """What no key alone shows to be wrong."""
    if inside:
        pass  # Synapse's files are known without being named
    elif settings.synapse.workers and not settings.synapse.config:
        yield ("synapse", "workers"), "worker files merge over homeserver.yaml; name it in `synapse.config` as well"
    elif not settings.synapse.config and not settings.workers:
        yield (), "there is nothing to forward to; name Synapse's files in `synapse.config`, or workers in `workers`"
    if not settings.listen:
        yield ("listen",), "the list is empty; write for example `tcp:8008:interface=127.0.0.1`"
    for index, endpoint in enumerate(settings.listen):
        if _is_unheeded(endpoint, settings.forwarded):
            yield (
                ("listen", index),
                "no peer may send the PROXY protocol here; name the load balancers in `forwarded.proxy_protocol`",
            )
    yield from _taken_twice(settings)
    if settings.admin is not None and entrance(settings.admin).announced:
        yield ("admin",), "the operator's listener does not know the PROXY protocol; leave `haproxy:` out"
    if settings.admin is not None and entrance(settings.admin).http2:
        yield ("admin",), "the operator's listener speaks HTTP/1.1 only; leave `http2:` out"
    if settings.operator.password_hash is not None and settings.operator.password_file is not None:
        yield ("operator", "password_file"), "there is a password_hash as well; leave one of them out"
    yield from sibling_faults(settings.operator)
    for name, worker in settings.workers.items():
        if worker.endpoint is None and not settings.synapse.config and not inside:
            yield ("workers", name), "the key `endpoint` is missing; write for example `unix:/run/synapse/sync1.sock`"
    yield from rollout_faults(settings.rollout)
    for index, route in enumerate(settings.routes):
        yield from ((("routes", index, *path), message) for path, message in _route_faults(route))
        if route.compress and settings.compress is None:
            yield ("routes", index, "compress"), "there is no `compress`, which says how; write `compress: {}` as well"
    yield from _of_balancers(settings, Severity.ERROR)


def _taken_twice(settings: Settings) -> Iterator[Fault]:
    """Listeners that cannot both have their port."""
    taken: list[tuple[str, str]] = []
    places = [(("listen", index), each) for index, each in enumerate(settings.listen)]
    for path, endpoint in [*places, *([] if settings.admin is None else [(("admin",), settings.admin)])]:
        other = next((name for name, known in taken if overlap(known, endpoint)), None)
        if other is not None and path == ("admin",):
            yield path, f"`{other}` has this address already; give the operator's listener a port of its own"
        elif other is not None:
            yield path, f"`{other}` has this address already; remove one of them, or write another port"
        taken.append((dotted(path), endpoint))


def _of_both_families(settings: Settings) -> Iterator[Fault]:
    """A warning, because `net.ipv6.bindv6only` is not ours to read here."""
    for index, six in enumerate(settings.listen):
        for four in settings.listen:
            if takes_ipv4_of(six, four):
                message = f"on Linux it takes IPv4 too, unless net.ipv6.bindv6only is 1, so that `{four}` cannot listen"
                yield ("listen", index), f"{message}; leave that out"


def _of_balancers(settings: Settings, severity: Severity) -> Iterator[Fault]:
    taken = dict.fromkeys(settings.listen, "listen") | ({} if settings.admin is None else {settings.admin: "admin"})
    found: Iterator[BalancerFault] = balancer_faults(settings.balancers, taken)
    return ((path, message) for path, message, how in found if how is severity)


def _is_unheeded(endpoint: str, forwarded: Forwarded) -> bool:
    """The PROXY protocol is expected, but of no peer; those of a UNIX socket are always believed."""
    door = entrance(endpoint)
    local = door.address.startswith(("unix:", "systemd:domain=UNIX"))
    return door.announced and not local and not forwarded.proxy_protocol


def _route_faults(route: Route) -> Iterator[Fault]:
    outcomes = [outcome for outcome in _OUTCOMES if getattr(route, outcome) is not None]
    if len(outcomes) != 1:
        given = f"not both {' and '.join(f'`{name}`' for name in outcomes)}" if outcomes else "and it has none"
        yield (), f"a route needs exactly one of {any_of(_OUTCOMES)}, {given}"
    if route.compress is not None and route.pool is None:
        yield ("compress",), "only what a pool answers is compressed; leave it out"
    if route.table is False:
        yield (
            ("table",),
            "a route that does not go on with the table needs another outcome; write `true`, or leave it out",
        )
    for name in route.respond.headers if route.respond else ():
        if name.lower() in _FRAMING:
            yield ("respond", "headers", name), "the sidecar sets this field itself; leave it out"
    if route.redirect and route.redirect.status not in (301, 302, 303, 307, 308):
        yield ("redirect", "status"), "must be 301, 302, 303, 307 or 308"
    if route.respond and route.respond.body and route.respond.status in (204, 304):
        yield ("respond", "body"), f"a response with status {route.respond.status} has no body; use status 200"


def _oddities(settings: Settings) -> Iterator[Fault]:
    """What works, but hardly as meant."""
    limits = settings.limits
    if limits.worker_connecting >= _SYNAPSE_BACKLOG:
        yield (
            ("limits", "worker_connecting"),
            f"Synapse's queue holds {_SYNAPSE_BACKLOG}; beyond it connecting to a UNIX socket fails: stay below",
        )
    if limits.request_head > _SYNAPSE_HEAD:
        yield (
            ("limits", "request_head"),
            f"Synapse closes the connection without an answer at more than {_SYNAPSE_HEAD} bytes of head: stay below",
        )
    if limits.request_target > limits.request_head:
        yield ("limits", "request_target"), "is larger than limits.request_head, so it is never reached"
    yield from _of_both_families(settings)
    yield from _of_balancers(settings, Severity.WARNING)
    yield from _operator_oddities(settings)
    yield from _access_oddities(settings)
    if settings.tokens.deadline > settings.tokens.patience:
        yield (
            ("tokens", "deadline"),
            "is longer than tokens.patience, after which a question is given up: it never passes",
        )
    for index, endpoint in enumerate((*settings.listen, settings.admin or "")):
        if is_foreign(endpoint):
            path: KeyPath = ("listen", index) if index < len(settings.listen) else ("admin",)
            yield path, "Twisted itself has no such kind of endpoint; a plugin must bring it"
    for index, route in enumerate(settings.routes[:-1]):
        conditions = (route.host, route.method, route.path, route.query, route.header, route.source, route.scheme)
        if not (any(conditions) or route.header_like):
            yield ("routes", index), "a route without conditions takes every request; the ones below are never reached"


def _access_oddities(settings: Settings) -> Iterator[Fault]:
    """Who may send any address in X-Forwarded-For may take any address that `access` lets in."""
    everybody = next((number for number, each in enumerate(settings.forwarded.trust) if each.prefixlen <= 1), None)
    granted = [name for name in ("admin", "mas", "metrics") if getattr(settings.access, name)]
    if everybody is not None and granted:
        yield (
            ("forwarded", "trust", everybody),
            f"any client can claim an address of access.{granted[0]}, because this trusts everybody; "
            "name only your proxies",
        )


def _operator_oddities(settings: Settings) -> Iterator[Fault]:
    operator, plain = settings.operator, Settings().operator
    guarded = operator.password_hash is not None or operator.password_file is not None
    if settings.admin is not None and not guarded and operator.actions != "none" and is_open_socket(settings.admin):
        yield (
            ("admin",),
            "every user on this host can drain workers through this socket; write `:mode=660` after it, or "
            "`operator.password_file`",
        )
    if settings.admin is None:
        if operator != plain:
            yield ("operator",), "says who may use the operator's listener, but there is none; write `admin`"
    elif settings.admin not in settings.listen and is_reached_from_afar(settings.admin):
        if not guarded and operator.allow is None:
            yield (
                ("admin",),
                "anyone who can connect can drain workers; write `operator.allow` or `operator.password_file`, or "
                "`interface=127.0.0.1`",
            )
        elif guarded and not settings.admin.startswith("ssl:"):
            yield ("admin",), "the password crosses the network unencrypted; let a proxy with TLS stand in front"
    yield from sibling_oddities(operator)
