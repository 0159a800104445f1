"""What the processes behind a foreign configuration are: which is main, what each serves, which streams it writes.

Concluded from what the configuration sends them, because it says nothing else of them. Knows neither proxy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from attrs import define, field, frozen

from sidecar.importing.asked import NOBODYS, Asked, Proxy, ProxyEntrance, ProxyVerdict, Server
from sidecar.importing.probes import Probe
from sidecar.routing.pools import CLIENT, EVENTS, SYNC
from sidecar.routing.workers import MAIN_SERVES
from sidecar.synapse.endpoint_rows import Endpoint
from sidecar.synapse.names import MAIN, SINGLE_WRITER_STREAMS

_MAIN_NAMES = re.compile(r"main|master|homeserver", re.IGNORECASE)
_SYNAPSE_NAMES = re.compile(r"synapse|matrix", re.IGNORECASE)
_FOREIGN = re.compile(
    r"ma1sd|mxisd|sydent|identity|element|riot|cinny|hydrogen|schildi|fluffy|well.?known|web|hook|bot|acme|letsencrypt"
    r"|certbot|turn|jitsi|livekit|lk.?jwt|(?:^|[_-])(?:mas|auth|sfu|call|rtc|admin)(?:$|[_.:-])|scan|antivirus|clamav"
    r"|matrix.media.repo|\bmmr\b|draupnir|mjolnir|synapse.?admin|sliding.?sync.?proxy|authentication|dimension|grafana|prometheus",
    re.IGNORECASE,
)
_FOREIGN_ADDRESS = re.compile(
    r"^tcp:[^:]*(?:ma1sd|mxisd|sydent|element|authentication-service|\bmas\b|livekit|draupnir|mjolnir|matrix-media-repo)"
    r"|:8090$",
    re.IGNORECASE,
)
_WORKERS = re.compile(r"client|federation|media|worker|sync|generic|stream|room|event|reader", re.IGNORECASE)
_PLAIN_WORKERS = frozenset((SYNC, "federation_send", "user_directory", "sso", "initial_sync", "sliding_sync"))
"""Pools of which a worker may serve nothing else."""
_FEW = 4
_ODD = re.compile(r"[^A-Za-z0-9_.:@+-]+")
_MEDIA = "media"


@frozen(eq=False)
class Answered:
    """A request, and what the proxy does with it when it comes from where it may."""

    probe: Probe
    entrance: ProxyEntrance
    verdict: ProxyVerdict
    closed: bool = False
    """From anywhere else it is refused."""

    @property
    def pool(self) -> str:
        """The upstream that gets it as it is, or with another prefix; empty where none does."""
        unchanged = not self.verdict.rewrites or self.verdict.prefixes
        return self.verdict.pool if self.verdict.action == "forward" and unchanged else ""

    @property
    def asked(self) -> Asked:
        """The request."""
        return self.probe.asked(self.entrance)


@frozen(kw_only=True)
class ProxiedProcess:
    """A process behind the proxy. `serves` is empty for what is no Synapse."""

    name: str
    server: Server
    serves: frozenset[str]
    writes: tuple[str, ...] = ()

    foreign: bool = False
    """By its name, by what it gets, or by its address, it is not a Synapse process."""
    media: bool = True
    """It has a media repository, if it has the resource."""
    told: bool = False
    """By Synapse's own files, and not concluded."""

    @property
    def is_main(self) -> bool:
        return self.name == MAIN

    @property
    def has_media(self) -> bool:
        """Concluded from the resource, which goes with it; a repository may be there without the resource."""
        return self.media if self.told else _MEDIA in self.serves


@frozen(kw_only=True)
class Roles:
    """Processes by name, and the names of those of each upstream, in the proxy's order."""

    main: str
    """The upstream that is the main process, empty where there is none."""
    processes: Mapping[str, ProxiedProcess]
    members: Mapping[str, tuple[str, ...]]
    writers: Mapping[str, tuple[str, ...]] = field(factory=dict)

    def serves(self, upstream: str, row: Endpoint) -> bool:
        """Whether every process of an upstream can serve an endpoint."""
        names = self.members.get(upstream, ())
        return bool(names) and all(self.process_serves(self.processes[name], row) for name in names)

    def process_serves(self, process: ProxiedProcess, row: Endpoint) -> bool:
        """Whether one process can."""
        if not _needed(process, row) & process.serves or ("media_repo" in row.needs and not process.has_media):
            return False
        return not (row.hard and row.stream) or process.name in self.writers.get(row.stream or "", (MAIN,))

    def why_not(self, upstream: str, row: Endpoint) -> str:
        """Why an upstream cannot serve an endpoint, in a few words."""
        names = self.members.get(upstream, ())
        process = next(
            (self.processes[name] for name in names if not self.process_serves(self.processes[name], row)), None
        )
        if process is None:
            return "none of its servers is known"
        if process.foreign:
            return "it is not a Synapse process"
        if not process.is_main and not row.worker_resources:
            return "only the main process can answer this; a worker answers 404"
        if "media_repo" in row.needs and not process.has_media:
            return "it has no media repository and answers 404"
        if not _needed(process, row) & process.serves:
            return f"it has no listener with the resource {' or '.join(sorted(_needed(process, row)))} and answers 404"
        writers = ", ".join(self.writers.get(row.stream or "", (MAIN,)))
        return f"only a writer of {row.stream} can answer this ({writers}); any other process answers 500"


def _is_opaque(rows: Sequence[Endpoint], media: int) -> bool:
    """Whether what an upstream gets may as well be for another program: an authentication service, a scanner, a bot.

    `media` is how many endpoints of media there are altogether.
    """
    if not any(row.worker_resources for row in rows) or all(row.path[0] == ".well-known" for row in rows):
        return True
    if all("not_mas" in row.needs for row in rows):
        return True
    if all("media_repo" in row.needs for row in rows):
        return len(rows) * 2 < media and all(row.path[0] != "_synapse" for row in rows)
    plain = any(row.group in _PLAIN_WORKERS or row.stream for row in rows)
    return len({row.name for row in rows}) < _FEW and not plain


def _needed(process: ProxiedProcess, row: Endpoint) -> frozenset[str]:
    return row.resources if process.is_main else row.worker_resources


def answers(
    proxy: Proxy, asked: Iterable[Probe], entrance: Callable[[Probe], ProxyEntrance], sources: Sequence[str]
) -> Iterator[Answered]:
    """What becomes of each request from the first of the sources; where that one is refused, from the others."""
    for probe in asked:
        where = entrance(probe)
        verdict, *others = (proxy.verdict(probe.asked(where, source)) for source in sources)
        inside = next((other for other in others if other.action == "forward"), None)
        closed = verdict.action == "refuse" and inside is not None
        yield Answered(probe, where, inside if closed and inside is not None else verdict, closed)


def roles(proxy: Proxy, plain: Iterable[Answered], home: ProxyEntrance) -> Roles:
    """What can be concluded from where plain requests go; `home` is where clients find the homeserver."""
    sent: dict[str, list[Endpoint]] = {}
    for each in plain:
        if each.pool:
            sent.setdefault(each.pool, []).append(each.probe.row)
    rest = proxy.verdict(home.asked("GET", NOBODYS))
    return _Conclusion(proxy, sent, rest.pool if rest.action == "forward" else "").roles()


@define(eq=False)
class _Conclusion:
    proxy: Proxy
    sent: Mapping[str, Sequence[Endpoint]]
    rest: str
    """The upstream of what is nobody's, which gets what the file forgot, too; empty where there is none."""
    _chosen: list[str] = field(factory=list)

    def roles(self) -> Roles:
        main, names = self._main(), self._names()
        members = {
            upstream: tuple(dict.fromkeys(names[_identity(server)] for server in known.servers if server.address))
            for upstream, known in self.proxy.upstreams.items()
        }
        writers = self._writers(main, members)
        media = self._media(main)
        processes: dict[str, ProxiedProcess] = {}
        for upstream, known in self.proxy.upstreams.items():
            for server in filter(_identity, known.servers):
                name = names[_identity(server)]
                before = processes.get(name)
                serves = self._serves(upstream, has_media=upstream == media) | (before.serves if before else set())
                if name == MAIN:
                    serves = MAIN_SERVES - ({_MEDIA} if media is not None else set())
                processes[name] = ProxiedProcess(
                    name=name,
                    server=server,
                    serves=frozenset(serves),
                    writes=tuple(stream for stream, writing in writers.items() if name in writing),
                    foreign=name != MAIN and self._is_foreign(upstream) and (before is None or before.foreign),
                )
        return Roles(main=main, processes=processes, members=members, writers=writers)

    def _is_foreign(self, upstream: str) -> bool:
        """Whether it may be another program. Its lines then stay routes, which is right for both."""
        rows = self.sent.get(upstream, ())
        if upstream == self._main():
            return False
        if _FOREIGN.search(upstream) or self._is_elsewhere(upstream):
            return True
        if upstream == self.rest and all(row.path[0] != "_matrix" for row in rows):
            return True
        if not rows:
            return not _WORKERS.search(upstream)
        return _is_opaque(rows, sum("media_repo" in row.needs for known in self.sent.values() for row in known))

    def _is_elsewhere(self, upstream: str) -> bool:
        """Its servers' addresses are those of another program."""
        servers = self.proxy.upstreams[upstream].servers if upstream in self.proxy.upstreams else ()
        known = [server.address for server in servers if server.address]
        return bool(known) and all(_FOREIGN_ADDRESS.search(address) for address in known)

    def _main(self) -> str:
        """The upstream with most evidence: what only main has, the admin API, what is left, its name."""
        if not self._chosen:
            scores = {upstream: self._evidence(upstream) for upstream in self.sent}
            found = max(scores, key=lambda upstream: scores[upstream], default="")
            self._chosen.append(found)
        return self._chosen[0]

    def _evidence(self, upstream: str) -> float:
        rows = self.sent[upstream]
        alone = sum(not row.worker_resources for known in self.sent.values() for row in known)
        share = sum(not row.worker_resources for row in rows) / alone if alone else 0.0
        admin = any(row.path[:2] == ("_synapse", "admin") for row in rows)
        foreign = (
            _FOREIGN.search(upstream) or self._is_elsewhere(upstream) or all(row.path[0] != "_matrix" for row in rows)
        )
        named = 2 * bool(_MAIN_NAMES.search(upstream)) + bool(_SYNAPSE_NAMES.search(upstream))
        return 3 * share + 2 * admin + (upstream == self.rest) + named - 10 * bool(foreign)

    def _names(self) -> dict[str, str]:
        """A name for each server, by its address: that of the proxy, or the part of the address that differs."""
        servers = {
            _identity(server): server
            for known in self.proxy.upstreams.values()
            for server in known.servers
            if server.address
        }
        main = self.proxy.upstreams.get(self._main())
        stems = {identity: _stem(server) for identity, server in servers.items()}
        common = _common_prefix([stem for stem in stems.values() if "/" not in stem])
        names: dict[str, str] = {}
        for identity, stem in stems.items():
            short = _ODD.sub("_", stem[len(common) :] if len(stems) > 1 else stem).strip("_.:@+-") or "worker"
            short = f"worker{short}" if short.isdigit() else short
            short = short if short not in (MAIN, "master") else f"{short}_worker"
            names[identity] = short if short not in names.values() else f"{short}_{len(names)}"
        first = next((server for server in main.servers if server.address), None) if main is not None else None
        if first is not None:
            names[_identity(first)] = MAIN
        return names

    def _media(self, main: str) -> str | None:
        """The upstream that is there for media: most of what it gets needs the repository."""
        for upstream, rows in self.sent.items():
            count = sum("media_repo" in row.needs for row in rows)
            if upstream != main and count * 3 > len([row for row in rows if row.worker_resources]) * 2 > 0:
                return upstream
        return None

    def _serves(self, upstream: str, *, has_media: bool) -> frozenset[str]:
        found: set[str] = set()
        if self._is_foreign(upstream):
            return frozenset()
        if upstream not in self.sent:
            return frozenset(word for word in ("client", "federation", _MEDIA) if word in upstream.lower())
        for row in self.sent[upstream]:
            if "media_repo" not in row.needs:
                found |= {"client", "federation"} & row.worker_resources
            elif has_media:
                found.add(_MEDIA)
        return frozenset(found)

    def _writers(self, main: str, members: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Who gets what belongs to a stream, where that can be its writer."""
        client = next(iter(_counted(self.sent, lambda row: row.group == CLIENT)), "")
        writers = {}
        for stream in dict.fromkeys(row.stream for rows in self.sent.values() for row in rows if row.stream):
            counted = _counted(self.sent, lambda row, stream=stream: row.stream == stream)  # type: ignore[misc]
            single = stream in SINGLE_WRITER_STREAMS
            able = [
                upstream
                for upstream in counted
                if (len(members.get(upstream, ())) == 1 or (members.get(upstream) and not single))
                and not self._is_foreign(upstream)
            ]
            upstream = next(iter(able), main)
            hard = any(row.hard for row in self.sent[upstream] if row.stream == stream)
            if upstream != main and stream != EVENTS and (hard or upstream != client):
                writers[stream] = members[upstream]
        return writers


def _counted(sent: Mapping[str, Sequence[Endpoint]], which: Callable[[Endpoint], bool]) -> list[str]:
    """The upstreams that get such endpoints, those with most of them first."""
    counts = {upstream: sum(which(row) for row in rows) for upstream, rows in sent.items()}
    return sorted((upstream for upstream, count in counts.items() if count), key=lambda upstream: -counts[upstream])


def _identity(server: Server) -> str:
    """What tells servers apart; empty where it cannot be told, and they are left out."""
    return server.address


def _stem(server: Server) -> str:
    """What a server is called: by the proxy where it names servers, else the file of its socket, else its address."""
    if server.address.removeprefix("unix:") != server.name.removeprefix("unix:") and ":" not in server.name:
        return server.name
    last = server.name.rpartition("/")[2] if "/" in server.name else server.name
    return last.removesuffix(".sock").removesuffix(".socket")


def _common_prefix(stems: Sequence[str]) -> str:
    """What all begin with, up to the last sign that divides words."""
    first, last = min(stems, default=""), max(stems, default="")
    length = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    common = first[:length]
    cut = max(common.rfind(sign) for sign in "_-.:") + 1
    return common[:cut] if len(stems) > 1 else ""
