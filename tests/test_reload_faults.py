"""A reload never makes less of what works: one fault in any one file changes nothing, and is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from net.turns import reactor
from test_reload import Threads

from sidecar.deployment import read_deployment
from sidecar.reload import Outcome, Reload, work_of
from sidecar.routing.decide import decide
from sidecar.service import SidecarService

WRITERS = {"typing": "typing1", "to_device": "todevice1", "receipts": "receipts1", "events": ["event1", "event2"]}
GENERIC = ("sync1", "sync2", "client1", "media1")
NAMES = (*GENERIC, *(name for names in WRITERS.values() for name in ([names] if isinstance(names, str) else names)))
assert len(NAMES) == 9

REQUESTS = (
    *(("GET", f"/_matrix/client/v3/sync?since=s{n}", f"syt_{name}_x") for n, name in enumerate(("YQ", "Yg", "Yw"))),
    ("PUT", "/_matrix/client/v3/rooms/!r:a/typing/@a:a", ""),
    ("PUT", "/_matrix/client/v3/sendToDevice/m.x/1", ""),
    ("POST", "/_matrix/client/v3/rooms/!r:a/receipt/m.read/$e", ""),
    *(("PUT", f"/_matrix/client/v3/rooms/!{n}:a/send/m.x/1", "") for n in range(4)),
    ("GET", "/_matrix/client/v3/rooms/!r:a/messages", ""),
    ("GET", "/_matrix/client/v1/media/download/a/b", ""),
    ("GET", "/_matrix/federation/v1/event/$e", ""),
    ("POST", "/_matrix/client/v3/login", ""),
    ("GET", "/_synapse/admin/v2/users", ""),
    ("GET", "/own", ""),
)


def listener(name: str, *resources: str) -> dict[str, Any]:
    return {"path": f"/run/none/{name}.sock", "resources": [{"names": list(resources)}], "type": "http"}


def write_all(root: Path) -> list[Path]:
    """A homeserver of ten processes; the files that are read, ours first."""
    replication = {name: {"path": f"/run/none/{name}.replication"} for name in ("main", *NAMES)}
    files = {
        "sidecar.yaml": {
            "listen": "tcp:0:interface=127.0.0.1",
            "synapse": {"version": "1.163.2", "config": ["homeserver.yaml", "conf.d"], "workers": ["workers"]},
            "pools": {"sync": {"workers": ["sync*"]}, "client": {"workers": ["client1"]}},
            "access": {"admin": ["127.0.0.0/8"]},
            "routes": [{"path": "/own", "respond": {"status": 204}}],
        },
        "homeserver.yaml": {
            "server_name": "a",
            "enable_media_repo": False,
            "listeners": [listener("main", "client", "federation")],
            "media_instance_running_background_jobs": "media1",
            "app_service_config_files": [str(root / "bridge.yaml")],
        },
        "conf.d/stats.yaml": {"report_stats": False},
        "conf.d/workers.yaml": {"instance_map": replication, "redis": {"enabled": True}, "stream_writers": WRITERS},
        "bridge.yaml": {"id": "b", "hs_token": "h", "as_token": "secret", "sender_localpart": "bot"},
    }
    for name in NAMES:
        media = name == "media1"
        files[f"workers/{name}.yaml"] = {
            "worker_app": "synapse.app.generic_worker",
            "worker_name": name,
            "worker_listeners": [listener(name, *(("media",) if media else ("client", "federation")))],
            **({"enable_media_repo": True} if media else {}),
        }
    for path, values in files.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(f"# {path}\n" + yaml.safe_dump(values, sort_keys=False))
    return [root / path for path in files]


# Faults.


def no_file(path: Path, _at: float) -> None:
    """Nobody can read a directory as a file, root included."""
    path.unlink()
    path.mkdir()


def truncated(path: Path, at: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: max(1, int(at * len(content)))])


def emptied(path: Path, _at: float) -> None:
    path.write_bytes(b"")


def removed(path: Path, _at: float) -> None:
    path.unlink()


def renamed(path: Path, _at: float) -> None:
    path.rename(path.with_suffix(".yaml.old"))


def recoded(path: Path, at: float) -> None:
    text = path.read_text() + "# ü\n"
    path.write_bytes(text.encode("utf-16" if at < 0.5 else "latin-1"))


def tab(path: Path, at: float) -> None:
    """In front of a line that is not the first one."""
    lines = path.read_text().splitlines(keepends=True)
    place = min(len(lines) - 1, 2 + int(at * len(lines)))
    lines[place] = "\t" + lines[place].lstrip()
    path.write_text("".join(lines))


def repeated(path: Path, at: float) -> None:
    """A key once more, without what stands below the first one."""
    keys = [line.partition(":")[0] for line in path.read_text().splitlines() if line[0] not in " -#"]
    path.write_text(path.read_text() + f"{keys[int(at * len(keys))]}: null\n")


FAULTS: Mapping[str, Callable[[Path, float], None]] = {
    each.__name__: each for each in (no_file, truncated, emptied, removed, renamed, recoded, tab, repeated)
}


class Ten:
    """A sidecar that does not listen, in front of ten processes that are not there."""

    def __init__(self, root: Path) -> None:
        self.root, self.files, self.threads = root, write_all(root), Threads()
        self.start()

    def start(self) -> None:
        """Begin anew with the files as they are."""
        path = str(self.files[0])
        deployment = read_deployment(path)
        self.sidecar = SidecarService(**work_of(deployment), reactor=reactor)
        self.told: list[str] = []
        self.reload = Reload(
            self.sidecar, deployment, partial(read_deployment, path), self.threads, announce=self.told.append
        )
        self.reload.startService()

    def reloaded(self) -> Outcome:
        self.reload.reload()
        self.threads.work()
        assert self.reload.outcome is not None
        return self.reload.outcome

    def file(self, name: str) -> Path:
        return next(path for path in self.files if path.name == name)

    def change(self, name: str, old: str, new: str) -> None:
        text = self.file(name).read_text()
        assert old in text
        self.file(name).write_text(text.replace(old, new))

    def decisions(self) -> list[Any]:
        return [
            decide(
                method.encode(),
                target.encode(),
                [(b"authorization", f"Bearer {token}".encode())] if token else [],
                "127.0.0.1",
                plan=self.reload.deployment.plan,
            )
            for method, target, token in REQUESTS
        ]

    async def strike(self) -> None:
        self.reload.stopService()
        await self.sidecar.stopService()


@settings(deadline=None)
@given(st.sampled_from(sorted(FAULTS)), st.integers(0, 13), st.floats(0, 1, exclude_max=True))
def test_any_fault_in_any_file(fault: str, number: int, at: float) -> None:
    """Each request goes where it went, by the same pools; the fault is told, unless the files still say the same."""
    with TemporaryDirectory() as directory:
        ten = Ten(Path(directory))
        before, gateway = ten.decisions(), ten.sidecar.gateway
        FAULTS[fault](ten.files[number], at)
        outcome = ten.reloaded()
        assert ten.decisions() == before
        assert ten.sidecar.gateway.pools == gateway.pools
        if outcome.accepted:
            assert fault == "truncated"
            assert outcome.sentences == ("nothing is different",)
        else:
            assert ten.sidecar.gateway is gateway
            assert str(ten.files[number]) in " ".join(outcome.sentences) or ten.files[number].stem in NAMES
        # Mended, all is as it was, at once.
        shutil.rmtree(directory)
        Path(directory).mkdir()
        write_all(Path(directory))
        assert ten.reloaded().sentences == ("nothing is different",)
        assert ten.decisions() == before
