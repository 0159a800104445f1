"""Which Synapse processes there are, where they listen, what they serve and write, as Synapse's own files say.

Opens no file (`sidecar.synapse.reading` does) and judges nothing (`contradictions` does). What is stated by hand in
`sidecar.yaml` is laid on top.
Must not know how requests are distributed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from attrs import evolve, field, frozen

from sidecar.document import Document, before_the_fault
from sidecar.errors import Problem, Severity, nearest_name
from sidecar.synapse.files import Merged, merge
from sidecar.synapse.mas import stated_endpoint
from sidecar.synapse.names import MAIN, MASTER, SINGLE_WRITER_STREAMS, STREAMS
from sidecar.synapse.processes import (
    MAIN_APP,
    UPLOAD_LIMIT,
    Process,
    faulty_process,
    main_process,
    upload_limit,
    worker_process,
)

Writers = Mapping[str, tuple[str, ...]]

WORKER_SERVES = frozenset(("client", "federation", "health", "keys", "media", "openid"))
"""What a worker that is stated by hand serves unless told otherwise."""
MAIN_SERVES = WORKER_SERVES | {"consent", "metrics", "static"}
"""The same for the main process."""
WORKER_KEYS = frozenset(("worker_app", "worker_name", "worker_listeners"))
"""Keys by which a file shows that it is a worker's."""
_ONLY_MAIN: Writers = dict.fromkeys(STREAMS, (MAIN,))


class Stated(Protocol):
    """A worker as `sidecar.yaml` states it; what is None is taken from Synapse's files."""

    @property
    def endpoint(self) -> str | None: ...
    @property
    def serves(self) -> Collection[str] | None: ...
    @property
    def writes(self) -> Collection[str] | None: ...


@frozen(kw_only=True)
class Topology:
    """All that the sidecar knows of a homeserver's processes."""

    processes: tuple[Process, ...] = ()
    """Those that requests can be sent to; main first, then in the order of the files."""
    silent: tuple[Process, ...] = ()
    """Those without a listener for requests: pushers, federation senders, most event persisters."""
    writers: Writers = field(factory=lambda: _ONLY_MAIN)
    """For each stream its writers. The order of `events` matters: it decides which of them a room belongs to."""
    known: bool = False
    """Whether Synapse's own files were read; otherwise everything may exist."""
    features: frozenset[str] = frozenset()
    """What is configured of `Endpoint.needs` (see `Process.features`) on main."""
    appservices: Mapping[str, str] = field(factory=dict, repr=False)
    """For each `as_token` the user id of its sender."""
    server_name: str = ""
    public_scheme: str = ""
    """Scheme of `public_baseurl`, `https` where Synapse's files do not give one; empty where they were not read."""
    mas: str = ""
    """URL at which Synapse reaches the Matrix Authentication Service; empty where it uses none, or does not say."""
    max_upload_size: int = UPLOAD_LIMIT
    files: tuple[str, ...] = ()
    """Every file that was read."""
    named: tuple[str, ...] = ()
    """The files and directories in which Synapse's configuration was looked for."""
    shared: tuple[Document, ...] = field(default=(), repr=False)
    """What all processes read, in the order in which it is merged."""
    own: tuple[Document, ...] = field(default=(), repr=False)
    """The workers' own files."""
    registrations: tuple[Document, ...] = field(default=(), repr=False)
    """The files of application services."""
    missing: tuple[Problem, ...] = ()
    """Places of workers' files that do not exist."""
    unreadable: tuple[Problem, ...] = ()
    """Why what all processes read cannot be read: nothing that is worked out without it can be relied on."""
    problems: tuple[Problem, ...] = ()

    @property
    def media(self) -> tuple[str, ...]:
        """Workers that the files give the media repository to, reachable or not, where main has none."""
        everybody = (*self.processes, *self.silent)
        main = next((process for process in everybody if process.is_main), None)
        if main is None or main.media:
            return ()
        jobs = main.config.get("media_instance_running_background_jobs")
        names = [process.name for process in everybody if process.media]
        return tuple(dict.fromkeys([*names, jobs] if isinstance(jobs, str) and jobs not in (MAIN, MASTER) else names))


def assemble(shared: Sequence[Document], own: Sequence[Document]) -> Topology:
    """The topology that files describe which are read already: the shared ones in order, and each worker's own."""
    problems: list[Problem] = []
    usable = [document for document in own if isinstance(document.value, dict)]
    strays = [document for document in usable if WORKER_KEYS.isdisjoint(document.value)]
    problems.extend(document.problem((), _STRAY, Severity.WARNING) for document in strays)
    of_main = [document for document in usable if document.value.get("worker_app") == MAIN_APP]
    base = merge([*shared, *of_main], (*shared, *of_main, Document(""))[0].file)
    processes = [main_process(base, problems)]
    for document in usable:
        if document not in strays and document not in of_main:
            processes.append(worker_process(merge([*shared, document], document.file), problems))
    problems.extend(_repeated_names(processes))
    processes.extend(_faulty(shared, own, {process.name for process in processes}))
    problems.extend(_missing_keys(base))
    writers = read_writers(base, problems)
    server_name = base.get("server_name")
    first: dict[str, Process] = {}
    for process in processes:
        first.setdefault(process.name, process)
    return _sorted_out(
        Topology(
            writers=writers,
            known=True,
            features=processes[0].features,
            server_name=server_name if isinstance(server_name, str) else "",
            public_scheme=_public_scheme(base),
            mas=stated_endpoint(base),
            max_upload_size=upload_limit(base, []),
            files=tuple(document.file for document in (*shared, *own)),
            shared=tuple(shared),
            own=tuple(own),
            problems=tuple(problems),
        ),
        first.values(),
    )


def _public_scheme(base: Merged) -> str:
    """Synapse's own default of `public_baseurl` is `https://SERVER_NAME/` (config/server.py)."""
    url = base.get("public_baseurl")
    return "http" if isinstance(url, str) and url.lower().startswith("http:") else "https"


def _faulty(shared: Sequence[Document], own: Sequence[Document], known: Collection[str]) -> Iterator[Process]:
    """The workers whose own files are unusable. Without a `worker_name` above the fault the file's name is taken."""
    for document in own:
        if document.usable:
            continue
        found = before_the_fault(document)
        config = merge([*shared, found], document.file)
        name = found.value.get("worker_name") if isinstance(found.value, dict) else None
        if not isinstance(name, str) or not name:
            name = os.path.basename(document.file).removesuffix(".yaml")
        if name not in (MASTER, MAIN, *known):
            fault = next(problem for problem in document.problems if problem.severity is Severity.ERROR)
            yield faulty_process(config, name, WORKER_SERVES, str(fault))


_STRAY = "the file describes no worker: it has no `worker_app`; if all processes read it, name it in `synapse.config`"


def _repeated_names(processes: Iterable[Process]) -> Iterator[Problem]:
    files: dict[str, str] = {}
    for process in processes:
        if process.name in files and not process.config.get("worker_name"):
            yield process.config.problem(
                (), f"nothing but `worker_name` distinguishes it from {files[process.name]}; give it one"
            )
        elif process.name == MASTER or process.name in files:
            other = files.get(process.name, "the main process")
            yield process.config.problem(("worker_name",), f"is the name of {other} as well; give each process its own")
        files.setdefault(process.name, process.file if process.name != MAIN else "the main process")


def _missing_keys(config: Merged) -> Iterator[Problem]:
    for key, example in (("server_name", "example.org"), ("report_stats", "false")):
        if key not in config.values:
            yield config.problem(
                (), f"the key `{key}` is missing, and Synapse refuses to start: write `{key}: {example}`"
            )
    if "server_name" in config.values and not isinstance(config.get("server_name"), str):
        yield config.problem(("server_name",), "must be a text: write `server_name: example.org`")


def read_writers(config: Merged, problems: list[Problem]) -> Writers:
    """`stream_writers` with all streams, `master` told as `main`; faults go to `problems`."""
    stated = config.get("stream_writers")
    if stated is not None and not isinstance(stated, dict):
        problems.append(config.problem(("stream_writers",), "must be a mapping such as `typing: worker1`"))
    writers = dict(_ONLY_MAIN)
    for stream, value in stated.items() if isinstance(stated, dict) else ():
        names = [value] if isinstance(value, str) else value
        fault = _writers_fault(stream, names)
        if fault:
            problems.append(config.problem(("stream_writers", stream), fault))
        else:
            writers[stream] = tuple(dict.fromkeys(MAIN if name == MASTER else name for name in names))
    return writers


def _writers_fault(stream: Any, names: Any) -> str | None:
    if stream not in STREAMS:
        near = nearest_name(str(stream), STREAMS)
        hint = f"did you mean `{near}`?" if near else f"known are {', '.join(STREAMS)}"
        return f"Synapse knows no such stream and refuses to start; {hint}"
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return "must be the name of a worker or a list of them; write `master` for the main process"
    if MAIN in names:
        return "Synapse calls its main process `master` here, and workers refuse to start; write that"
    if stream in SINGLE_WRITER_STREAMS and len(names) > 1:
        return f"has {len(names)} writers, and Synapse refuses to start; write only one"
    return None


def state_workers(topology: Topology, stated: Mapping[str, Stated]) -> Topology:
    """The topology with the workers of `sidecar.yaml`, which add to the ones read or override parts of them."""
    processes = {process.name: process for process in (*topology.processes, *topology.silent)}
    for name, worker in stated.items():
        processes[name] = _overridden(processes.get(name) or _stated_anew(name, topology), worker)
    writers = {stream: _restated(stream, names, stated) for stream, names in topology.writers.items()}
    return _sorted_out(evolve(topology, writers=writers), processes.values())


def _stated_anew(name: str, topology: Topology) -> Process:
    serves = MAIN_SERVES if name == MAIN else WORKER_SERVES
    return Process(name=name, serves=serves, features=topology.features, media=True)


def _overridden(process: Process, worker: Stated) -> Process:
    if worker.endpoint is not None:
        process = evolve(process, endpoint=worker.endpoint, listener=None, x_forwarded=True, fault="")
    if worker.serves is not None:
        process = evolve(process, serves=frozenset(worker.serves))
    return process


def _restated(stream: str, names: tuple[str, ...], stated: Mapping[str, Stated]) -> tuple[str, ...]:
    """The writers of a stream after each stated worker said whether it is one of them."""
    told = {name: worker.writes for name, worker in stated.items() if worker.writes is not None}
    added = tuple(name for name, writes in told.items() if stream in writes and name not in names)
    kept = tuple(name for name in names if name not in told or stream in told[name])
    if added and stream in SINGLE_WRITER_STREAMS:
        kept = tuple(name for name in kept if name in told)
    elif added and kept == (MAIN,) and MAIN not in told:
        kept = ()
    return (*kept, *added) or (MAIN,)


def _sorted_out(topology: Topology, processes: Iterable[Process]) -> Topology:
    """Give each process its streams, and part those that can be reached from the silent ones."""
    writers = topology.writers
    written = [
        evolve(process, writes=frozenset(stream for stream, names in writers.items() if process.name in names))
        for process in processes
    ]
    return evolve(
        topology,
        processes=tuple(process for process in written if process.endpoint),
        silent=tuple(process for process in written if not process.endpoint),
    )
