"""Names in `sidecar.yaml` that must mean something elsewhere: workers, pools.

Checked after the topology is known. Reads no file.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence, Set
from fnmatch import fnmatchcase

from sidecar.config.schema import Pool, Settings
from sidecar.document import KeyPath
from sidecar.errors import Problem, Severity, nearest_name
from sidecar.synapse.names import BUILT_IN_POOLS, MAIN, SINGLE_WRITER_STREAMS, WRITER_NEEDS

_NEEDS = {
    "federation": "federation",
    "federation_send": "federation",
    "media": "media",
    "quarantined_media_changes": "media",
}
_GLOB = frozenset("*?[")

Fault = tuple[KeyPath, str, Severity]


WORKERS = ("synapse", "workers")
"""Where it is said which names nothing describes, because files of workers are absent."""


def check_references(
    settings: Settings,
    workers: Mapping[str, Set[str]],
    built_in: Sequence[str] = BUILT_IN_POOLS,
    absent: Sequence[str] = (),
) -> tuple[Problem, ...]:
    """What refers to nothing.

    `workers`: the resources that each reachable process serves, by its name; `built_in`: pools that need no mention;
    `absent`: files and directories of workers that do not exist. They are the one reason for all unknown names.
    """
    unknown = _unknown(settings, workers) if absent else ()
    faults = (
        *_undescribed(unknown, absent),
        *_pools(settings, workers, built_in, unknown),
        *_routes(settings, built_in),
        *_stated(settings, workers, unknown),
    )
    return tuple(settings.source.problem(*fault) for fault in faults)


def _unknown(settings: Settings, workers: Container[str]) -> tuple[str, ...]:
    members = (name for pool in settings.pools.values() for name in pool.workers or () if _GLOB.isdisjoint(name))
    return tuple(dict.fromkeys(name for name in (*settings.workers, *members) if name not in workers))


def _undescribed(unknown: Sequence[str], absent: Sequence[str]) -> Iterator[Fault]:
    if unknown:
        verb = "do" if len(absent) > 1 else "does"
        message = f"{', '.join(absent)} {verb} not exist, so that nothing describes {', '.join(unknown)}"
        yield WORKERS, f"{message}; correct the path, or create what is missing", Severity.ERROR


def _pools(
    settings: Settings, workers: Mapping[str, Set[str]], built_in: Sequence[str], unknown: Container[str]
) -> Iterator[Fault]:
    used = {route.pool for route in settings.routes} | {
        name for pool in settings.pools.values() for name in pool.fallback or ()
    }
    for name, pool in settings.pools.items():
        if name not in built_in and name not in used:
            near = nearest_name(name, built_in)
            hint = f"did you mean `{near}`?" if near else "name it in a route or a fallback, or remove it"
            yield ("pools", name), f"nothing sends requests to this pool; {hint}", Severity.WARNING
        yield from _members(name, pool, workers, unknown)
        yield from _fallback(name, pool, settings, built_in)
        if pool.strip_prefix or pool.add_prefix:
            yield from _prefixes(name, pool, settings, workers, built_in)


def _members(name: str, pool: Pool, workers: Mapping[str, Set[str]], unknown: Container[str]) -> Iterator[Fault]:
    for index, pattern in enumerate(pool.workers or ()):
        path = ("pools", name, "workers", index)
        matching = [worker for worker in workers if fnmatchcase(worker, pattern)]
        if not matching and pattern not in unknown:
            is_glob = not _GLOB.isdisjoint(pattern)
            yield path, _no_worker(pattern, workers, is_glob), Severity.WARNING if is_glob else Severity.ERROR
        resource = _NEEDS.get(name, "")
        for worker in matching:
            if resource and worker != MAIN and resource not in workers[worker]:
                message = (
                    f"`{worker}` has no listener with the resource `{resource}` and would answer 404; add it there"
                )
                yield path, message, Severity.ERROR


def _no_worker(pattern: str, workers: Mapping[str, Set[str]], is_glob: bool) -> str:
    near = nearest_name(pattern, workers)
    hint = f"did you mean `{near}`?" if near else f"known are {', '.join(workers) or 'none'}"
    return f"no worker {'matches' if is_glob else 'has the name'} `{pattern}`; {hint}"


def _fallback(name: str, pool: Pool, settings: Settings, built_in: Sequence[str]) -> Iterator[Fault]:
    for index, other in enumerate(pool.fallback or ()):
        path = ("pools", name, "fallback", index)
        if other == name:
            yield path, "a pool cannot be its own fallback; remove it", Severity.ERROR
        elif other not in settings.pools and other not in built_in:
            yield path, _no_pool(other, settings, built_in), Severity.ERROR


def _prefixes(
    name: str, pool: Pool, settings: Settings, workers: Mapping[str, Set[str]], built_in: Sequence[str]
) -> Iterator[Fault]:
    """Other servers sign the path of a request as they send it, and Synapse verifies that as it comes."""
    key = "strip_prefix" if pool.strip_prefix else "add_prefix"
    path = ("pools", name, key)
    if name in built_in:
        message = (
            "requests to Synapse are signed with their path, so the path cannot be changed; use a pool of your own"
        )
        yield path, message, Severity.ERROR
        return
    for worker in workers:
        if workers[worker] and (pool.workers is None or any(fnmatchcase(worker, each) for each in pool.workers)):
            message = (
                f"`{worker}` is a Synapse worker, whose requests are signed with their path; if it is another service, "
                f"write `serves: []` under `workers.{worker}`"
            )
            yield path, message, Severity.ERROR
    for other in pool.fallback or ():
        substitute = settings.pools.get(other, Pool())
        if (substitute.strip_prefix, substitute.add_prefix) != (pool.strip_prefix, pool.add_prefix):
            message = f"the pool `{other}` of its fallback does not change paths alike; give it the same prefixes"
            yield ("pools", name, "fallback"), message, Severity.ERROR


def _no_pool(name: str, settings: Settings, built_in: Sequence[str]) -> str:
    near = nearest_name(name, (*settings.pools, *built_in))
    return f"there is no pool `{name}`; " + (f"did you mean `{near}`?" if near else "describe it under `pools`")


def _routes(settings: Settings, built_in: Sequence[str]) -> Iterator[Fault]:
    for index, route in enumerate(settings.routes):
        if route.pool and route.pool not in settings.pools and route.pool not in built_in:
            yield ("routes", index, "pool"), _no_pool(route.pool, settings, built_in), Severity.ERROR


def _stated(settings: Settings, workers: Mapping[str, Set[str]], unknown: Container[str]) -> Iterator[Fault]:
    writers: dict[str, str] = {}
    for name, worker in settings.workers.items():
        path = ("workers", name)
        if name in unknown:
            continue
        if name not in workers:
            known = nearest_name(name, workers)
            hint = f"did you mean `{known}`?" if known else "write its `endpoint`"
            yield path, f"Synapse's files give no worker of this name a listener for requests; {hint}", Severity.ERROR
        for stream in worker.writes or ():
            needed = WRITER_NEEDS.get(stream, "")
            if needed and name != MAIN and needed not in workers.get(name, ()):
                message = (
                    f"requests for `{stream}` fail anywhere else, and `{name}` does not serve `{needed}`; add it there"
                )
                yield (*path, "writes"), message, Severity.ERROR
            if stream in SINGLE_WRITER_STREAMS and writers.setdefault(stream, name) != name:
                message = (
                    f"`{stream}` has one writer, and `{writers[stream]}` is stated as that; leave it out here or there"
                )
                yield (*path, "writes"), message, Severity.ERROR
