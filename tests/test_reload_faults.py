"""A reload never makes less of what works: one fault in any one file changes nothing, and is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from net.turns import reactor, staged
from test_reload import Threads

from sidecar.app.making import start
from sidecar.app.reload import MOST_TOLD, Reload, ReloadOutcome, refused
from sidecar.app.service import SidecarService
from sidecar.app.work import work_of
from sidecar.errors import ConfigError, Problem
from sidecar.loading.deployment import read_deployment
from sidecar.metrics.status import unready
from sidecar.routing.decide import decide
from sidecar.wire.fields import FieldSection

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
        self.sidecar = SidecarService(work_of(deployment), reactor)
        self.told: list[str] = []
        self.reload = Reload(
            self.sidecar, deployment, partial(read_deployment, path), self.threads, announce=self.told.append
        )
        self.reload.startService()

    def reloaded(self) -> ReloadOutcome:
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
                FieldSection(b"\r\nAuthorization: Bearer %s\r\n\r\n" % token.encode() if token else b"\r\n\r\n"),
                "127.0.0.1",
                plan=self.reload.deployment.plan,
            )
            for method, target, token in REQUESTS
        ]

    async def strike(self) -> None:
        self.reload.stopService()
        await self.sidecar.stopService()


@settings(deadline=None, max_examples=40, phases=[Phase.explicit, Phase.generate])
@given(st.sampled_from(sorted(FAULTS)), st.integers(0, 13), st.floats(0, 1, exclude_max=True))
def test_any_fault_in_any_file(fault: str, number: int, at: float) -> None:
    """Each request goes where it went, by the same pools; the fault is told, unless the files still say the same."""
    with TemporaryDirectory() as directory:
        ten = Ten(Path(directory))
        before, gateway = ten.decisions(), ten.sidecar.gateway
        FAULTS[fault](ten.files[number], at)
        outcome = ten.reloaded()
        if outcome.accepted:
            assert fault == "truncated"
            # Ours can be meant where it ends with a line; what else is gone was a comment, or the end of the last line.
            meant = number == 0 and ten.files[0].read_text().endswith("\n")
            assert meant or (outcome.sentences == ("nothing is different",) and ten.decisions() == before)
        else:
            assert ten.sidecar.gateway is gateway
            assert ten.decisions() == before
            assert str(ten.files[number]) in " ".join(outcome.sentences) or ten.files[number].stem in NAMES
        # Mended, all is as it was, at once.
        shutil.rmtree(directory)
        Path(directory).mkdir()
        write_all(Path(directory))
        assert ten.reloaded().accepted
        assert ten.decisions() == before


# What is meant.


def no_more(ten: Ten, name: str) -> None:
    """The worker's file is gone, and whatever named it."""
    ten.file(f"{name}.yaml").unlink()
    values = yaml.safe_load(ten.file("workers.yaml").read_text())
    del values["instance_map"][name]
    values["stream_writers"] = {
        stream: kept
        for stream, names in values["stream_writers"].items()
        if (kept := [each for each in ([names] if isinstance(names, str) else names) if each != name])
    }
    ten.file("workers.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.mark.parametrize("name", ["sync2", "typing1", "event2"])
def test_a_worker_that_goes(name: str, tmp_path: Path) -> None:
    """A worker that nothing describes or names any more is removed like any other, the last line of a file or not."""
    ten = Ten(tmp_path)
    no_more(ten, name)
    assert f"workers removed: {name}" in ten.reloaded().sentences


def test_a_worker_whose_file_goes_first(tmp_path: Path) -> None:
    """It stays for as long as it is named, and the sentence says where; then it goes."""
    ten = Ten(tmp_path)
    ten.file("typing1.yaml").unlink()
    outcome = ten.reloaded()
    assert not outcome.accepted
    (error, lost) = outcome.sentences
    assert "stream_writers.typing: no worker file describes `typing1`" in error
    assert f"instance_map: this names `typing1`, but no file describes it any more; {ten.file('typing1.yaml')}" in lost
    ten.file("typing1.yaml").touch()
    no_more(ten, "typing1")
    assert "workers removed: typing1" in ten.reloaded().sentences


@pytest.mark.parametrize("place", ["workers", "conf.d"])
@pytest.mark.parametrize("emptied", [True, False])
def test_a_directory_that_goes(place: str, emptied: bool, tmp_path: Path) -> None:
    """Moved away, or without any file, such as one that is not mounted: all stays as it is."""
    ten = Ten(tmp_path)
    before = ten.decisions()
    (tmp_path / place).rename(tmp_path / "elsewhere")
    if emptied:
        (tmp_path / place).mkdir()
    outcome = ten.reloaded()
    assert not outcome.accepted
    assert any(str(tmp_path / place) in sentence for sentence in outcome.sentences)
    assert ten.decisions() == before


def test_workers_that_nothing_names(tmp_path: Path) -> None:
    """One file that goes is a worker that was removed; all of a directory at once are not."""
    ten = Ten(tmp_path)
    ten.file("workers.yaml").write_text("redis: {enabled: true}\ninstance_map: {main: {path: /run/none/m}}\n")
    for name in NAMES:
        if name not in ("sync1", "sync2", "media1"):
            ten.file(f"{name}.yaml").unlink()
    ten.change("sidecar.yaml", "  client:\n    workers:\n    - client1\n", "")
    ten.start()
    ten.file("media1.yaml").rename(ten.file("media1.yaml").with_suffix(".off"))
    # The jobs of the media repository name it.
    assert not ten.reloaded().accepted
    ten.change("homeserver.yaml", "media_instance_running_background_jobs: media1\n", "")
    assert "workers removed: media1" in ten.reloaded().sentences
    for name in ("sync1", "sync2"):
        ten.file(f"{name}.yaml").unlink()
    (sentence,) = ten.reloaded().sentences
    assert sentence.startswith(
        f"{tmp_path / 'workers'}: the directory has no file any more; its files described sync1, sync2: "
    )


def test_what_is_written_elsewhere(tmp_path: Path) -> None:
    """A shared file whose keys another one has is not missed; one whose keys nobody has is, by each of them."""
    ten = Ten(tmp_path)
    ten.file("homeserver.yaml").write_text(
        ten.file("homeserver.yaml").read_text() + ten.file("workers.yaml").read_text()
    )
    ten.file("workers.yaml").unlink()
    assert ten.reloaded().sentences == ("nothing is different",)
    ten.file("stats.yaml").unlink()
    outcome = ten.reloaded()
    assert not outcome.accepted
    assert (
        f"{ten.file('stats.yaml')}: the file is gone, and with it `report_stats`: restore it" in outcome.sentences[-1]
    )


def test_a_file_that_is_made_shorter(tmp_path: Path) -> None:
    """Without its comments a file says the same, and one entry can be taken out; without more it is half written."""
    ten = Ten(tmp_path)
    file = ten.files[0]
    text = file.read_text()
    more = text + "limits: {waiting: 7}\ntimeouts:\n  wait: 9s\n  drain: 8s\n"
    file.write_text(more + "# end\n")
    assert ten.reloaded().accepted
    file.write_text(more)
    assert ten.reloaded().sentences == ("nothing is different",)
    file.write_text(more.replace("  drain: 8s\n", ""))
    assert ten.reloaded().sentences == ("timeouts.drain: 60 (before: 8)",)
    file.write_text(text)
    (sentence,) = ten.reloaded().sentences
    lines = text.count("\n")
    assert sentence.startswith(f"{file}:{lines}: the file ends here, but it had {lines + 3} lines before: ")
    assert ten.sidecar.settings.limits.waiting == 7
    file.write_text(text + "# end\n")
    assert ten.reloaded().sentences == ("limits.waiting: 8192 (before: 7)", "timeouts.wait: 30 (before: 9)")


def test_a_file_that_ends_in_a_line(tmp_path: Path) -> None:
    """However little is gone, nobody ends a file there."""
    ten = Ten(tmp_path)
    for name in ("sidecar.yaml", "stats.yaml", "bridge.yaml", "sync1.yaml"):
        text = ten.file(name).read_text()
        ten.file(name).write_text(text[:-2])
        outcome = ten.reloaded()
        assert not outcome.accepted
        assert str(ten.file(name)) in outcome.sentences[0]
        ten.file(name).write_text(text)


def test_an_error_that_is_there_already(tmp_path: Path) -> None:
    """What is wrong since the start does not prevent a reload, wherever it stands now; what is new does."""
    ten = Ten(tmp_path)
    ten.change("workers.yaml", "typing: typing1", "typing: typing9")
    ten.start()
    assert any("typing9" in str(problem) for problem in ten.reload.deployment.problems)
    ten.change("workers.yaml", "# conf.d", "# One line more.\n# conf.d")
    assert ten.reloaded().sentences == ("nothing is different",)
    ten.change("workers.yaml", "receipts: receipts1", "receipts: receipts9")
    (sentence,) = ten.reloaded().sentences
    assert "stream_writers.receipts: `receipts9`" in sentence


def test_another_place(tmp_path: Path) -> None:
    """Files that are not looked for any more, because ours says so, are not missed."""
    ten = Ten(tmp_path)
    (tmp_path / "workers").rename(tmp_path / "workers.new")
    (tmp_path / "conf.d").rename(tmp_path / "conf.new")
    ten.change("sidecar.yaml", "- workers", "- workers.new")
    ten.change("sidecar.yaml", "- conf.d", "- conf.new")
    assert ten.reloaded().sentences == ("nothing is different",)


def test_many_faults() -> None:
    """So many are kept, and the rest is counted."""
    problems = [Problem("a", number, "", "bad") for number in range(1, MOST_TOLD + 4)]
    told = refused(problems).sentences
    assert len(told) == MOST_TOLD + 1
    assert told[-1] == "3 more; `matrix-sidecar check` prints all of them"


# A start.


@pytest.mark.parametrize("fault", ["no_file", "truncated", "emptied", "removed", "recoded", "tab"])
@pytest.mark.parametrize("name", ["homeserver.yaml"])
def test_a_start_without_a_shared_file(name: str, fault: str, tmp_path: Path) -> None:
    """Nothing is worked out of half of the facts."""
    ten = Ten(tmp_path)
    FAULTS[fault](ten.file(name), 0.5)
    with pytest.raises(ConfigError) as refusal:
        ten.start()
    assert str(ten.file(name)) in str(refusal.value.problems[0])


@staged(Ten)
async def test_a_start_without_a_workers_file(ten: Ten) -> None:
    """Its worker is a member of its pools, and is down for that reason until a reload finds the file mended."""
    file = ten.file("typing1.yaml")
    whole, before = file.read_text(), ten.decisions()
    file.write_text(whole + "\tx: 1\n")
    ten.start()
    assert ten.decisions() == before
    plan = ten.reload.deployment.plan
    assert plan.pools["typing"].workers == ("typing1",)
    start(ten.sidecar.gateway.pools.values())
    health = ten.sidecar.gateway.pools["typing1"].health
    assert not health.up
    assert health.reason.startswith(f"its file cannot be used: {file}:")
    assert any("typing1" in reason for reason in unready(ten.reload.look()))
    assert ten.reloaded().accepted
    file.write_text(whole)
    assert "workers altered: typing1" in ten.reloaded().sentences
    assert ten.sidecar.gateway.pools["typing1"].health.up
    assert ten.sidecar.gateway.pools["typing1"].socket_path == "/run/none/typing1.sock"


@pytest.mark.parametrize("fault", ["no_file", "recoded"])
def test_a_workers_file_of_which_nothing_is_known(fault: str, tmp_path: Path) -> None:
    """The file has the worker's name, and the worker may serve anything."""
    ten = Ten(tmp_path)
    FAULTS[fault](ten.file("media1.yaml"), 0)
    ten.start()
    assert "media1" in ten.reload.deployment.plan.pools["media"].workers
    assert ten.reload.deployment.plan.workers["media1"].process.fault
