"""The variants: a proxy with its configuration, in front of one homeserver, started and stopped in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import field, frozen
from end_to_end.children import Child, answers
from end_to_end.laboratory import START_LIMIT, Laboratory, running_sidecar

from benchmarks.homeserver import expressions
from benchmarks.homeserver.deployments import Deployment
from benchmarks.programs import find

Pools = Mapping[str, Sequence[str]]


@frozen
class Variant:
    """A way to serve the homeserver. The sidecar's have the keys that they add to the three lines."""

    name: str
    program: str = "sidecar"
    settings: Callable[[Deployment], Mapping[str, Any]] = field(default=lambda _: {}, repr=False)


def pools(chosen: Callable[[Deployment], Pools]) -> Callable[[Deployment], Mapping[str, Any]]:
    """The keys that give these workers to these pools."""
    return lambda deployment: {
        "pools": {name: {"workers": list(workers)} for name, workers in chosen(deployment).items()}
    }


def by_hand(deployment: Deployment) -> Pools:
    """What the names of the workers suggest."""
    client = deployment.pools["client"]
    return {"sync": deployment.pools["sync"], "client": client, "rooms": client}


NGINX, HAPROXY = Variant("nginx", "nginx"), Variant("haproxy", "haproxy")
OURS, BY_HAND = Variant("sidecar"), Variant("sidecar, pools by hand", settings=pools(by_hand))


@contextmanager
def running(variant: Variant, deployment: Deployment, laboratory: Laboratory, port: int) -> Iterator[int]:
    """The process of the proxy, which listens at this port of 127.0.0.1."""
    if variant.program == "sidecar":
        with running_sidecar(laboratory, "three_lines", port, variant.settings(deployment)) as gateway:
            gateway.wait_for_all()
            yield gateway.process.pid
        return
    directory = laboratory.layout.root
    file, socket = directory / f"{variant.program}.conf", laboratory.layout.socket
    options: Sequence[str | Path]
    if variant.program == "nginx":
        text, options = expressions.nginx(deployment, socket, directory, port), ("-e", "stderr", "-p", directory, "-c")
    else:
        text, options = expressions.haproxy(deployment, socket, port), ("-db", "-f")
    file.write_text(text)
    command = [find(variant.program), *options, file]
    child = Child(variant.program, command, laboratory.layout.log(variant.program), directory=directory)
    try:
        child.wait_until(lambda: answers(("127.0.0.1", port), "/_matrix/client/versions"), START_LIMIT)
        yield child.pid
    finally:
        Child.stop_all([child])
