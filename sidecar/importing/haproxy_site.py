"""A configuration of HAProxy, asked for what it does with a request: frontend, rules, backend, and what it sticks on.

The order is HAProxy's own: `http-request`, then `redirect`, then `use_backend` and `default_backend`, and the same
rules of the backend once more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from attrs import define, evolve, field, frozen

from sidecar.importing.asked import Asked, Place, Server, Upstream, Verdict
from sidecar.importing.haproxy_conditions import Condition, acls_of, condition
from sidecar.importing.haproxy_samples import Patterns, Sample, Sight, sample
from sidecar.importing.haproxy_words import Line, Section

_FORMAT = re.compile(r"%\[([^\]]*)\]")
_PATHS = frozenset(
    ("replace-path", "replace-pathq", "replace-uri", "set-path", "set-pathq", "set-uri", "normalize-uri")
)
_ANSWERS = frozenset(("deny", "reject", "silent-drop", "tarpit", "return", "redirect", "use-service"))


@frozen(eq=False)
class Rule:
    """A line with its condition."""

    line: Line
    condition: Condition
    args: tuple[str, ...]
    """Without the condition."""

    @property
    def kind(self) -> str:
        return self.line.keyword


@frozen(eq=False)
class Sticking:
    """`stick on` or `balance`: what is looked at."""

    sample: Sample | None
    condition: Condition
    text: str


@define(eq=False)
class Part:
    """A frontend, a backend, or a `listen` section, which is both."""

    name: str
    place: Place
    requests: tuple[Rule, ...]
    redirects: tuple[Rule, ...]
    backends: tuple[Rule, ...]
    default: Line | None
    sticking: tuple[Sticking, ...]
    ports: tuple[int, ...]


@define(eq=False)
class HaproxySite:
    """The whole of it. Implements `sidecar.importing.asked.Proxy`."""

    upstreams: Mapping[str, Upstream]
    parts: Mapping[str, Part]
    fronts: tuple[str, ...]
    """Names of frontends and `listen` sections, the one with the most rules first."""
    ports: Mapping[int, str] = field(factory=dict)
    patterns: Patterns = lambda _name: None

    def verdict(self, asked: Asked) -> Verdict:
        name = self.fronts[0] if asked.port is None and self.fronts else self.ports.get(asked.port or 0, "")
        front = self.parts.get(name)
        if front is None:
            return Verdict(action="unclear", doubts=("there is no frontend",))
        sight = Sight(asked, asked.source, self.patterns)
        verdict = self._through(front, sight)
        return evolve(verdict, doubts=tuple(dict.fromkeys((*verdict.doubts, *sight.doubts))))

    def _through(self, front: Part, sight: Sight) -> Verdict:
        answer = _answer(front, sight)
        if answer is not None:
            return answer
        line, name = self._choice(front, sight)
        back = self.parts.get(name)
        if line is None or back is None:
            return Verdict(action="refuse", status=503, place=line.place if line is not None else front.place)
        answer = _answer(back, sight) if back is not front else None
        return answer or Verdict(action="forward", pool=name, key=_key(back, sight), place=line.place)

    def _choice(self, front: Part, sight: Sight) -> tuple[Line | None, str]:
        for rule in front.backends:
            if rule.condition.holds(sight) and rule.args:
                name = filled(rule.args[0], sight)
                if name in self.parts or "%[" not in rule.args[0]:
                    return rule.line, name
        if front.default is not None:
            return front.default, front.default.args[0]
        own = Line(("listen", front.name), front.place)
        return (own, front.name) if front.name in self.upstreams else (None, "")


def _answer(part: Part, sight: Sight) -> Verdict | None:
    """What the rules of a section answer by themselves."""
    for rule in part.requests:
        verb, *rest = rule.args
        if verb in _PATHS and rule.condition.holds(sight):
            sight.doubts.append(f"the other path that `{verb}` in {rule.line.place} makes")
        elif verb.startswith("set-var(") and rule.condition.holds(sight):
            _set(verb, rest, sight)
        elif verb == "set-src" and rule.condition.holds(sight) and rest:
            sight.source = _evaluated(rest[0], sight) or sight.source
        elif verb in _ANSWERS and rule.condition.holds(sight):
            return _answered(verb, rest, rule, sight)
    for rule in part.redirects:
        if rule.condition.holds(sight):
            return _redirect(rule.args, rule, sight)
    return None


def _set(verb: str, rest: Sequence[str], sight: Sight) -> None:
    value = _evaluated(rest[0], sight) if rest else None
    if value is not None:
        sight.variables[verb[len("set-var(") :].rstrip(")").partition(",")[0]] = value


def _answered(verb: str, rest: Sequence[str], rule: Rule, sight: Sight) -> Verdict:
    if verb == "redirect":
        return _redirect(rest, rule, sight)
    options = dict(pairwise(rest))
    code = options.get("status") or options.get("deny_status") or ("200" if verb == "return" else "403")
    status = int(code) if code.isdigit() else 403
    body = filled(options.get("lf-string", ""), sight) or options.get("string", "")
    return Verdict(action="respond" if status < 400 else "refuse", status=status, body=body, place=rule.line.place)


def _redirect(args: Sequence[str], rule: Rule, sight: Sight) -> Verdict:
    options = dict(pairwise(args))
    code = options.get("code", "302")
    location = ""
    if "location" in options:
        location = filled(options["location"], sight)
    elif "prefix" in options:
        location = filled(options["prefix"], sight) + sight.asked.target
    elif "scheme" in options:
        location = f"{filled(options['scheme'], sight)}://{sight.asked.fields.get('host', '')}{sight.asked.target}"
    status = int(code) if code.isdigit() else 302
    return Verdict(action="redirect", status=status, location=location, place=rule.line.place)


def filled(text: str, sight: Sight) -> str:
    """A format string with the values of its `%[…]`."""
    return _FORMAT.sub(lambda found: _evaluated(found[1], sight) or "", text)


def _evaluated(text: str, sight: Sight) -> str | None:
    wanted = sample(text)
    if wanted is None:
        sight.doubts.append(f"`{text}` cannot be read here")
        return None
    return sight.value(wanted)


def _key(back: Part, sight: Sight) -> str | None:
    """What keeps requests on one server: the first rule that finds something stores it."""
    for sticking in back.sticking:
        value = (
            sight.value(sticking.sample) if sticking.sample is not None and sticking.condition.holds(sight) else None
        )
        if value:
            return f"{sticking.text} {value}"
    return None


def haproxy_site(parts: Sequence[Section], patterns: Patterns = lambda _name: None) -> HaproxySite:
    """The configuration that these sections make. `patterns` reads the files of `acl … -f FILE`."""
    found: dict[str, Part] = {}
    upstreams: dict[str, Upstream] = {}
    defaults: tuple[Line, ...] = ()
    fronts: list[str] = []
    for section in parts:
        if section.kind == "defaults":
            defaults = section.lines
        if section.kind not in ("frontend", "backend", "listen"):
            continue
        found[section.name] = _part(section, defaults, patterns)
        if section.kind != "backend":
            fronts.append(section.name)
        if section.kind != "frontend":
            upstream = _upstream(section, defaults)
            if upstream.servers:
                upstreams[section.name] = upstream
    fronts.sort(key=lambda name: -len(found[name].backends))
    ports = {port: name for name in fronts for port in found[name].ports}
    return HaproxySite(upstreams, found, tuple(fronts), ports, patterns)


def _part(section: Section, defaults: Iterable[Line], patterns: Patterns) -> Part:
    acls = acls_of(section.lines, patterns)

    def rules(*keywords: str) -> Iterator[Rule]:
        for line in section.having(*keywords):
            if line.args:
                yield Rule(line, condition(line.args, acls, patterns), _unconditional(line.args))

    default = [line for line in (*defaults, *section.lines) if line.keyword == "default_backend" and line.args]
    balance = [line for line in (*defaults, *section.lines) if line.keyword == "balance"]
    sticks = [rule for rule in rules("stick") if rule.args[0] in ("on", "match") and len(rule.args) > 1]
    keys = [Sticking(sample(rule.args[1]), rule.condition, f"stick on {rule.args[1]}") for rule in sticks]
    if balance:
        keys += _balanced(balance[-1].args)
    return Part(
        section.name,
        section.place,
        tuple(rules("http-request")),
        tuple(rules("redirect")),
        tuple(rules("use_backend")),
        default[-1] if default else None,
        tuple(keys),
        tuple(_ports(section.having("bind"))),
    )


def _unconditional(args: Sequence[str]) -> tuple[str, ...]:
    at = next((number for number, word in enumerate(args) if word in ("if", "unless")), len(args))
    return tuple(args[:at])


_BALANCES = {"source": "src", "uri": "path", "hash": ""}


def _balanced(args: Sequence[str]) -> list[Sticking]:
    """`balance` where it looks at the request."""
    name = args[0] if args else "roundrobin"
    if name == "url_param" and len(args) > 1:
        text = f"url_param({args[1]})"
    elif name.startswith(("hdr(", "rdp-cookie")):
        text = name
    elif name in _BALANCES:
        text = _BALANCES[name] or (args[1] if len(args) > 1 else "")
    else:
        return []
    return [Sticking(sample(text), Condition(((),)), f"balance {' '.join(args)}")]


def _ports(binds: Iterable[Line]) -> Iterator[int]:
    for line in binds:
        for address in line.args[0].split(",") if line.args else ():
            last = address.rpartition(":")[2]
            if last.isdigit():
                yield int(last)


def _upstream(section: Section, defaults: Iterable[Line]) -> Upstream:
    balance = [line for line in (*defaults, *section.lines) if line.keyword == "balance"]
    sticks = [str(line) for line in section.having("stick")]
    words = " ".join(balance[-1].args) if balance else "roundrobin"
    servers = tuple(_server(line) for line in section.having("server") if len(line.args) > 1)
    return Upstream(section.name, servers, "; ".join([f"balance {words}", *sticks]), section.place)


def _server(line: Line) -> Server:
    name, address, *options = line.args
    said = dict(pairwise(options))
    weight = said.get("weight", "1")
    # A weight is a share of 256 at most; what counts is how those of one backend compare.
    return Server(name, endpoint(address), line.place, float(weight) if weight.isdigit() else 1.0, "backup" in options)


def endpoint(address: str) -> str:
    """A Twisted client endpoint for an address of HAProxy; empty where it is none."""
    if address.startswith(("/", "unix@")):
        return f"unix:{address.removeprefix('unix@')}"
    plain = re.sub(r"^(?:ipv4|ipv6|tcp)\w*@", "", address)
    host, colon, port = plain.rpartition(":")
    if not colon or not port.isdigit() or not host:
        return ""
    escaped = host.strip("[]").replace(":", r"\:")
    return f"tcp:{escaped}:{port}"
