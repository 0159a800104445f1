"""What the processes of a homeserver have used so far, and what Synapse says of itself."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import frozen
from end_to_end.children import ask

from benchmarks.processes import tree, usage

_TICK = os.sysconf("SC_CLK_TCK")
_SAMPLE = re.compile(r"^(synapse_\w+)\{([^}]*)\} (\S+)$", re.M)
_LABEL = re.compile(r'\b(name|servlet)="([^"]*)"')
_KINDS = {
    "synapse_storage_query_time_count": ("queries", 1),
    "synapse_util_caches_cache": ("misses", 1),
    "synapse_util_caches_cache_hits": ("misses", -1),
    "synapse_http_server_response_count_total": ("requests", 1),
    "synapse_http_server_response_count": ("requests", 1),
    "synapse_http_server_response_ru_utime_seconds_total": ("seconds", 1),
    "synapse_http_server_response_ru_stime_seconds_total": ("seconds", 1),
    "synapse_background_process_ru_utime_seconds_total": ("background", 1),
    "synapse_background_process_ru_stime_seconds_total": ("background", 1),
}


@frozen
class Told:
    """Sums over all processes of what Synapse says of itself: by kind, and in it by cache, servlet or process.

    Kinds are `queries`, `misses` of caches, `requests`, and `seconds` of processor time in them and in the
    `background`.
    """

    numbers: Mapping[tuple[str, str], float]

    def since(self, before: Told) -> Told:
        """What was added after `before`."""
        added = {key: value - before.numbers.get(key, 0.0) for key, value in self.numbers.items()}
        return Told({key: value for key, value in added.items() if value})

    def of(self, kind: str) -> Mapping[str, float]:
        """The numbers of this kind, the largest first."""
        found = [(name, value) for (what, name), value in self.numbers.items() if what == kind]
        return dict(sorted(found, key=lambda item: -item[1]))

    @property
    def hops(self) -> float:
        """Requests of one process of Synapse to another."""
        return sum(count for name, count in self.of("requests").items() if name.startswith("Replication"))


def told(texts: Iterable[str]) -> Told:
    """Read what `/_synapse/metrics` of each process says."""
    numbers: Counter[tuple[str, str]] = Counter()
    for text in texts:
        for metric, labels, value in _SAMPLE.findall(text):
            if metric in _KINDS:
                kind, sign = _KINDS[metric]
                name = _LABEL.search(labels)
                numbers[kind, name[2] if name else ""] += sign * float(value)  # type: ignore[assignment]
    return Told(dict(numbers))


def scraped(sockets: Iterable[Path]) -> Told:
    """Ask each process."""
    return told(ask(path, "GET", "/_synapse/metrics", patience=60)[1].decode() for path in sockets)


def spent(pid: int) -> float:
    """Seconds of processor time of this process and all below it, of those that have ended as well."""
    while True:
        try:
            return usage(pid).total + sum(map(_of_ended, tree(pid)))
        except (FileNotFoundError, ProcessLookupError):
            if not Path(f"/proc/{pid}").exists():
                raise
            # One below it has ended meanwhile; its parent has its time now.


def _of_ended(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / _TICK
