"""Reloads that find one of Synapse's own files broken or gone: a real Synapse goes on being asked as before."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .children import ask
from .clients import in_event_loop, people, say, shared_room, synced
from .laboratory import START_LIMIT, Gateway
from .topology import Configuration

V3 = "/_matrix/client/v3"


def _not_yaml(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\tx: 1\n")


def _no_file(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


FAULTS: Mapping[str, Callable[[Path], object]] = {
    "no YAML": _not_yaml,
    "no file": _no_file,
    "half": _half,
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "UTF-16": lambda path: path.write_bytes(path.read_text().encode("utf-16")),
}


@contextmanager
def _as_it_was(path: Path) -> Iterator[None]:
    """Whatever happens to it, it is there again afterwards: others use this Synapse too."""
    content = path.read_bytes()
    try:
        yield
    finally:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)


def _reloaded(gateway: Gateway, *, accepted: bool) -> Any:
    """How a reload ended; the one before ended otherwise, or there was none."""
    operator = gateway.laboratory.layout.socket(f"sidecar.{gateway.configuration}")
    found: list[Any] = []

    def ended() -> bool:
        reload = json.loads(ask(operator, "GET", "/api/status")[1])["reload"]
        found.append(reload)
        return reload is not None and reload["accepted"] is accepted

    gateway.process.signal(signal.SIGHUP)
    gateway.process.wait_until(ended, START_LIMIT)
    return found[-1]


@in_event_loop
async def test_a_fault_in_any_of_synapses_files(gateways: Mapping[Configuration, Gateway]) -> None:
    """Sends, typing and syncs are answered by whom they should be, and each refusal names the file."""
    gateway = gateways["three_lines"]
    gateway.wait_for_all()
    layout, topology = gateway.laboratory.layout, gateway.laboratory.topology
    files = [layout.etc / "homeserver.yaml", layout.etc / "conf.d" / "server_name.yaml"]
    if topology.workers:
        files += [layout.etc / "conf.d" / "workers.yaml", *sorted(layout.workers.glob("*.yaml"))]
    async with people(gateway, "alice", "bob") as (alice, bob):
        room = await shared_room(alice, bob)
        for number, file in enumerate(files):
            fault = list(FAULTS)[number % len(FAULTS)]
            with _as_it_was(file):
                FAULTS[fault](file)
                problems = _reloaded(gateway, accepted=False)["problems"]
                assert str(file) in " ".join(problems), (fault, file.name)
                await say(alice, room, f"{file.name}: {fault}")
                typing = f"{V3}/rooms/{quote(room)}/typing/{quote(alice.user_id)}"
                await alice.succeed("PUT", typing, {"typing": True, "timeout": 1000})
                await synced(bob, timeout=0)
            assert _reloaded(gateway, accepted=True)["changes"] == ["nothing is different"]
