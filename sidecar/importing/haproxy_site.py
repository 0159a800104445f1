"""A configuration of HAProxy, asked for what it does with a request: frontend, rules, backend, and what it sticks on.

The order is HAProxy's own: `http-request`, then `redirect`, then `use_backend` and `default_backend`, and the same
rules of the backend once more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from attrs import define, evolve, field

from sidecar.importing.asked import OTHER_HOST, Asked, ProxyEntrance, ProxyPool, ProxyVerdict
from sidecar.importing.haproxy_conditions import Condition, acls_of, condition
from sidecar.importing.haproxy_parts import ConditionalLine, Part, Sticking, hosts_of
from sidecar.importing.haproxy_samples import Patterns, Sight, sample
from sidecar.importing.haproxy_upstreams import upstream_of
from sidecar.importing.haproxy_words import Line, Section
from sidecar.importing.prefixes import Prefixes, of_places, of_replacement

_FORMAT = re.compile(r"%\[([^\]]*)\]")
_PATHS = frozenset(
    ("replace-path", "replace-pathq", "replace-uri", "set-path", "set-pathq", "set-uri", "normalize-uri")
)
_STRIPPED = re.compile(r"%\[path,regsub\(\^((?:/[\w.~-]+)+)/,/\)\]", re.ASCII)
_DENIED = {"tarpit": "500", "auth": "401"}
_ANSWERS = frozenset(("deny", "reject", "silent-drop", "tarpit", "return", "redirect", "use-service", "auth"))


@define(eq=False)
class HaproxySite:
    """The whole of it. Implements `sidecar.importing.asked.Proxy`."""

    upstreams: Mapping[str, ProxyPool]
    backs: Mapping[str, Part]
    """Backends and `listen` sections. A frontend may have the name of a backend."""
    fronts: Mapping[str, Part]
    """Frontends and `listen` sections, the one with the most rules first."""
    ports: Mapping[int, str] = field(factory=dict)
    patterns: Patterns = lambda _name: None

    @property
    def entrances(self) -> Sequence[ProxyEntrance]:
        found: dict[ProxyEntrance, None] = {}
        for name, front in self.fronts.items():
            for port, tls in (front.ports or {0: False}).items():
                if not front.ports or self.ports.get(port) == name:
                    names = hosts_of(front)
                    bare = [
                        host for host in names if host.partition(":")[0] == host or host.partition(":")[0] not in names
                    ]
                    found |= dict.fromkeys(ProxyEntrance(host, port, tls) for host in bare)
                    found[ProxyEntrance(OTHER_HOST, port, tls, named=False)] = None
        return tuple(found)

    def sight(self, asked: Asked) -> Sight:
        """What rules see of a request."""
        return Sight(
            asked,
            asked.source,
            self.patterns,
            {name: len(self.upstreams[name].servers) if name in self.upstreams else 0 for name in self.backs},
        )

    def verdict(self, asked: Asked) -> ProxyVerdict:
        name = self.ports.get(asked.port, "") if asked.port else next(iter(self.fronts), "")
        front = self.fronts.get(name)
        if front is None:
            return ProxyVerdict(action="unclear", doubts=("there is no frontend",))
        sight = self.sight(asked)
        verdict = self._through(front, sight)
        return evolve(verdict, doubts=tuple(dict.fromkeys((*verdict.doubts, *sight.doubts))))

    def _through(self, front: Part, sight: Sight) -> ProxyVerdict:
        answer = _answer(front, sight)
        if answer is not None:
            return answer
        line, name = self._choice(front, sight)
        verdict = self.beyond(name, sight, beside=front)
        return evolve(verdict, place=verdict.place or (line.place if line is not None else front.place))

    def beyond(self, name: str, sight: Sight, beside: Part | None = None) -> ProxyVerdict:
        """What becomes of a request that is sent to a backend. `beside`: a part whose rules were asked already."""
        back = self.backs.get(name)
        if back is None:
            if name:
                sight.doubts.append(f"no file has the backend `{name}`")
            return ProxyVerdict(action="refuse", status=503)
        answer = _answer(back, sight) if back is not beside else None
        if answer is not None or name not in self.upstreams:
            return answer or ProxyVerdict(action="refuse", status=503)
        key = _key(back, sight)
        return ProxyVerdict(action="forward", pool=name, key=key, rewrites=sight.rewrites, prefixes=sight.prefixes)

    def _choice(self, front: Part, sight: Sight) -> tuple[Line | None, str]:
        for rule in front.backends:
            if rule.condition.holds(sight) and rule.args:
                name = filled(rule.args[0], sight)
                if name in self.backs or "%[" not in rule.args[0]:
                    return rule.line, name
        if front.default is not None:
            return front.default, front.default.args[0]
        own = Line(("listen", front.name), front.place)
        return (own, front.name) if self.is_own_pool(front) else (None, "")

    def is_own_pool(self, front: Part) -> bool:
        """Whether it is a `listen` section with servers."""
        return self.backs.get(front.name) is front and front.name in self.upstreams


def _answer(part: Part, sight: Sight) -> ProxyVerdict | None:
    """What the rules of a section answer by themselves."""
    for rule in part.requests:
        verb, *rest = rule.args
        if verb in _PATHS and rule.condition.holds(sight):
            prefixes = prefixes_of(rule.args)
            if prefixes is not None and f"{prefixes[0]}/" not in sight.asked.path:
                continue
            sight.rewrite(prefixes, f"`{verb}` in {rule.line.place} changes the path")
        elif verb.startswith("set-var(") and rule.condition.holds(sight):
            _set(verb, rest, sight)
        elif verb == "set-src" and rule.condition.holds(sight) and rest:
            sight.come_from(_evaluated(rest[0], sight) or sight.source)
        elif verb in _ANSWERS and rule.condition.holds(sight):
            return answered(verb, rest, rule, sight)
    for rule in part.redirects:
        if rule.condition.holds(sight):
            return redirected(rule.args, rule, sight)
    return None


def prefixes_of(args: Sequence[str]) -> Prefixes | None:
    """What a rule that changes the path takes from its beginning and puts there; None where it does more."""
    match args:
        case ["replace-path" | "replace-pathq", expression, replacement]:
            return of_replacement(expression, replacement)
        case ["set-path", value] if (found := _STRIPPED.fullmatch(value)) is not None:
            return of_places(f"{found[1]}/", "/")
    return None


def _set(verb: str, rest: Sequence[str], sight: Sight) -> None:
    value = _evaluated(rest[0], sight) if rest else None
    if value is not None:
        sight.variables[verb[len("set-var(") :].rstrip(")").partition(",")[0]] = value


def answered(verb: str, rest: Sequence[str], rule: ConditionalLine, sight: Sight) -> ProxyVerdict:
    """What a rule that answers by itself answers."""
    if verb == "redirect":
        return redirected(rest, rule, sight)
    if verb == "use-service":
        return ProxyVerdict(action="respond", status=200, body="…", place=rule.line.place)
    options = dict(pairwise(rest))
    code = options.get("status") or options.get("deny_status") or ("200" if verb == "return" else _DENIED.get(verb, ""))
    status = int(code) if code.isdigit() and 200 <= int(code) < 600 else 403
    body = filled(options.get("lf-string", ""), sight) or options.get("string", "")
    if {"file", "lf-file", "errorfile", "errorfiles"} & set(options):
        sight.doubts.append(f"the response of {rule.line.place} is in a file")
    headers = {"Content-Type": options["content-type"]} if "content-type" in options else {}
    headers |= {one: filled(two, sight) for word, one, two in zip(rest, rest[1:], rest[2:]) if word == "hdr"}  # noqa: B905
    return ProxyVerdict(
        action="respond" if status < 400 else "refuse",
        status=status,
        body=body,
        headers={name: value for name, value in headers.items() if not name.lower().startswith("access-control-")},
        place=rule.line.place,
    )


def redirected(args: Sequence[str], rule: ConditionalLine, sight: Sight) -> ProxyVerdict:
    """What a rule that redirects answers."""
    options = dict(pairwise(args))
    code = options.get("code", "302")
    location = ""
    if "location" in options:
        location = filled(options["location"], sight)
    elif "prefix" in options:
        location = filled(options["prefix"], sight) + sight.asked.target
    elif "scheme" in options:
        location = f"{filled(options['scheme'], sight)}://{sight.asked.fields.get('host', '')}{sight.asked.target}"
    status = int(code) if code in ("301", "302", "303", "307", "308") else 302
    return ProxyVerdict(action="redirect", status=status, location=location, place=rule.line.place)


def filled(text: str, sight: Sight) -> str:
    """A format string with the values of its `%[…]`."""
    return _FORMAT.sub(lambda found: _evaluated(found[1], sight) or "", text)


def _evaluated(text: str, sight: Sight) -> str | None:
    wanted = sample(text)
    if wanted is None:
        sight.doubts.append(f"import cannot read `{text}`")
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
    backs: dict[str, Part] = {}
    fronts: dict[str, Part] = {}
    upstreams: dict[str, ProxyPool] = {}
    defaults: dict[str, tuple[Line, ...]] = {}
    for section in parts:
        if section.kind == "defaults":
            # The last one holds for what names none.
            defaults[section.name] = defaults[""] = section.lines
        if section.kind not in ("frontend", "backend", "listen"):
            continue
        before = defaults.get(section.origin, defaults.get("", ()))
        part = _part(section, before, patterns)
        if section.kind != "backend" and part.is_http:
            fronts[section.name] = part
        if section.kind != "frontend":
            backs[section.name] = part
            upstream = upstream_of(section, before)
            if upstream.servers:
                upstreams[section.name] = upstream
    # Those that only show the operator something forward nothing.
    site = HaproxySite(upstreams, backs, fronts, patterns=patterns)
    leading = {name: part for name, part in fronts.items() if _leads_anywhere(part, site)} or fronts
    site.fronts = dict(sorted(leading.items(), key=lambda each: -len(each[1].backends)))
    site.ports = {port: name for name, part in reversed(site.fronts.items()) for port in part.ports}
    return site


def _leads_anywhere(part: Part, site: HaproxySite) -> bool:
    return bool(part.backends or part.default or part.redirects or site.is_own_pool(part)) or any(
        rule.args[:1] and rule.args[0] in ("redirect", "return", "deny") for rule in part.requests
    )


def _part(section: Section, defaults: Sequence[Line], patterns: Patterns) -> Part:
    acls = acls_of((*defaults, *section.lines), patterns)
    everything = (*defaults, *section.lines)

    def rules(*keywords: str) -> Iterator[ConditionalLine]:
        for line in everything:
            if line.keyword in keywords and unconditional(line.args):
                yield ConditionalLine(line, condition(line.args, acls, patterns), unconditional(line.args))

    default = [line for line in everything if line.keyword == "default_backend" and line.args]
    balance = [line for line in everything if line.keyword == "balance"]
    modes = [line.args[0] for line in everything if line.keyword == "mode" and line.args]
    sticks = [rule for rule in rules("stick") if rule.args[:1] and rule.args[0] in ("on", "match")]
    keys = [
        Sticking(sample(rule.args[1]), rule.condition, f"stick on {rule.args[1]}")
        for rule in sticks
        if len(rule.args) > 1
    ]
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
        dict(_ports(section.having("bind"))),
        modes[-1:] != ["tcp"],
    )


def unconditional(args: Sequence[str]) -> tuple[str, ...]:
    """The words of a rule without its condition."""
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


def _ports(binds: Iterable[Line]) -> Iterator[tuple[int, bool]]:
    for line in binds:
        for address in line.args[0].split(",") if line.args else ():
            last = address.rpartition(":")[2]
            if last.isdigit() and not address.startswith("quic"):
                yield int(last), "ssl" in line.args
