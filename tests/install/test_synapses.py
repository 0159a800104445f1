"""Where Synapse's configuration is found: running processes, packages, images, and what the operator names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hosts import debian, homeserver, process, synapse, worker, write

from sidecar.install.command_lines import SynapseProcess, app_of, config_paths, synapse_processes
from sidecar.install.synapses import Source, sources, stated, unseen

ETC = "/etc/matrix-synapse"
DEBIAN = (f"{ETC}/homeserver.yaml", f"{ETC}/conf.d")


def only(root: Path, **environment: str) -> Source:
    (source,) = sources(str(root), environment)
    return source


# Command lines.


@pytest.mark.parametrize(
    ("line", "app"),
    [
        ("python -m synapse.app.homeserver -c x", "homeserver"),
        ("/v/bin/python3.11 -B -m synapse.app.generic_worker --config-path=x", "generic_worker"),
        ("/v/bin/python /v/bin/synapse_homeserver -c x", "homeserver"),
        ("synapse_worker -c x", "generic_worker"),
        ("grep -r synapse.app.homeserver", None),
        ("vi synapse_homeserver.py", None),
        ("python -m other synapse_worker", None),
        ("", None),
    ],
)
def test_a_process_of_synapse_is_known_by_its_command_line(line: str, app: str | None) -> None:
    """Started as a module or as a script, and nothing that only mentions the name."""
    assert app_of(line.split()) == app


def test_every_way_to_name_a_configuration_is_understood() -> None:
    """As argparse takes them: with a space, with an equal sign, short, short without a space, repeated."""
    line = "python -m synapse.app.homeserver --config-path a -c b --config-path=c -cd --generate-keys -c"
    assert list(config_paths(line.split())) == ["a", "b", "c", "d"]


def test_relative_paths_are_seen_from_the_directory_of_the_process(tmp_path: Path) -> None:
    """And those that name none are left out."""
    write(tmp_path, "/srv/synapse/homeserver.yaml", {})
    synapse(tmp_path, 7, "homeserver.yaml", cwd="/srv/synapse")
    synapse(tmp_path, 8)
    process(tmp_path, 9, "sleep", "1")
    (tmp_path / "proc" / "10").mkdir()
    (tmp_path / "proc" / "self").mkdir()
    assert synapse_processes(str(tmp_path)) == [SynapseProcess(7, "homeserver", ("/srv/synapse/homeserver.yaml",))]


def test_a_process_that_sees_other_files_runs_in_a_container(tmp_path: Path) -> None:
    """Under the same name is another file, or none; what cannot be looked at is believed."""
    write(tmp_path, "/data/homeserver.yaml", {})
    for pid, path in ((7, "/data/homeserver.yaml"), (8, "/data/homeserver.yaml"), (9, "/nowhere/homeserver.yaml")):
        synapse(tmp_path, pid, path)
    write(tmp_path, "/proc/8/root/data/homeserver.yaml", {})
    (tmp_path / "proc/7/root").symlink_to(tmp_path)
    assert [process.pid for process in unseen(str(tmp_path))] == [8, 9]
    assert only(tmp_path).how == "named by the running process 7"


def test_a_process_without_a_directory_to_be_seen_counts_from_the_root(tmp_path: Path) -> None:
    """The processes of others do not show theirs."""
    write(tmp_path, "/etc/hs.yaml", {})
    synapse(tmp_path, 7, "etc/hs.yaml")
    (tmp_path / "proc/7/cwd").unlink()
    assert synapse_processes(str(tmp_path))[0].config == ("/etc/hs.yaml",)


# Running.


def test_debians_units_running(tmp_path: Path) -> None:
    """The shared files from main, and the directory of the workers where all its files are in use."""
    debian(tmp_path)
    synapse(tmp_path, 100, *DEBIAN)
    for pid, name in ((101, "sync1"), (102, "sync2")):
        synapse(tmp_path, pid, *DEBIAN, f"{ETC}/workers/{name}.yaml", app="generic_worker")
    assert only(tmp_path) == Source(DEBIAN, (f"{ETC}/workers",), "named by the running process 100 and 2 workers")


def test_a_worker_file_that_no_process_reads_is_left_out_and_told(tmp_path: Path) -> None:
    """Requests must not be sent to a worker that does not run."""
    debian(tmp_path)
    synapse(tmp_path, 100, *DEBIAN)
    synapse(tmp_path, 101, *DEBIAN, f"{ETC}/workers/sync1.yaml", app="generic_worker")
    source = only(tmp_path)
    assert source.workers == (f"{ETC}/workers/sync1.yaml",)
    assert source.how == "named by the running process 100 and 1 worker"
    assert [note for note in source.notes if "sync2.yaml, which no running process reads" in note]


def test_main_running_alone_has_the_workers_of_its_files(tmp_path: Path) -> None:
    """Its workers may be started later."""
    debian(tmp_path)
    synapse(tmp_path, 100, *DEBIAN)
    assert only(tmp_path).workers == (f"{ETC}/workers",)


def test_worker_files_in_several_directories_are_named_one_by_one(tmp_path: Path) -> None:
    """There is no directory that holds them."""
    homeserver(tmp_path, "/etc/hs.yaml")
    files = [worker(tmp_path, f"/srv/{name}/{name}.yaml") for name in ("a", "b")]
    synapse(tmp_path, 1, "/etc/hs.yaml")
    for pid, file in enumerate(files, start=2):
        synapse(tmp_path, pid, "/etc/hs.yaml", file, app="generic_worker")
    assert only(tmp_path).workers == tuple(files)


def test_two_homeservers_on_one_host_are_two(tmp_path: Path) -> None:
    """Each with its own workers, told apart by the files that they share."""
    for name in ("one", "two"):
        homeserver(tmp_path, f"/srv/{name}/hs.yaml")
        worker(tmp_path, f"/srv/{name}/workers/w.yaml")
    for pid, name in ((1, "one"), (3, "two")):
        synapse(tmp_path, pid, f"/srv/{name}/hs.yaml")
        synapse(tmp_path, pid + 1, f"/srv/{name}/hs.yaml", f"/srv/{name}/workers/w.yaml", app="generic_worker")
    found = sources(str(tmp_path))
    assert [(source.config, source.workers) for source in found] == [
        (("/srv/one/hs.yaml",), ("/srv/one/workers",)),
        (("/srv/two/hs.yaml",), ("/srv/two/workers",)),
    ]


def test_a_worker_that_reads_the_shared_files_in_part_belongs_to_main(tmp_path: Path) -> None:
    """Synapse's container image gives its workers a file more than main has."""
    homeserver(tmp_path, "/data/homeserver.yaml")
    write(tmp_path, "/conf/workers/shared.yaml", {"redis": {"enabled": True}})
    worker(tmp_path, "/conf/workers/sync1.yaml")
    synapse(tmp_path, 1, "/data/homeserver.yaml", "/conf/workers/shared.yaml")
    synapse(tmp_path, 2, "/data/homeserver.yaml", "/conf/workers/sync1.yaml", app="generic_worker")
    source = only(tmp_path)
    assert source.config == ("/data/homeserver.yaml", "/conf/workers/shared.yaml")
    assert source.workers == ("/conf/workers",)


def test_workers_without_main_share_what_their_lists_begin_with(tmp_path: Path) -> None:
    """Main may run on another host."""
    homeserver(tmp_path, "/etc/hs.yaml")
    for pid, name in ((1, "a"), (2, "b")):
        worker(tmp_path, f"/etc/w/{name}.yaml")
        synapse(tmp_path, pid, "/etc/hs.yaml", f"/etc/w/{name}.yaml", app="generic_worker")
    assert only(tmp_path) == Source(("/etc/hs.yaml",), ("/etc/w",), "named by 2 running workers")


def test_workers_with_several_files_of_their_own(tmp_path: Path) -> None:
    """What they share ends where their lists differ."""
    homeserver(tmp_path, "/etc/hs.yaml")
    for pid, name in ((1, "a"), (2, "b")):
        worker(tmp_path, f"/etc/w/{name}.yaml")
        synapse(tmp_path, pid, "/etc/hs.yaml", f"/etc/w/{name}.yaml", "/etc/w/log.yaml", app="generic_worker")
    write(tmp_path, "/etc/w/log.yaml", {"log_config": "x"})
    assert only(tmp_path).config == ("/etc/hs.yaml", "/etc/w/log.yaml")


def test_workers_with_nothing_in_common_are_no_source(tmp_path: Path) -> None:
    """There is no file to name first."""
    for pid, name in ((1, "a"), (2, "b")):
        worker(tmp_path, f"/etc/{name}.yaml")
        synapse(tmp_path, pid, f"/etc/{name}.yaml", app="generic_worker")
    assert sources(str(tmp_path)) == []


# Installed.


def test_debians_files_without_a_process(tmp_path: Path) -> None:
    """conf.d and the directory of workers beside homeserver.yaml."""
    debian(tmp_path)
    assert only(tmp_path) == Source(DEBIAN, (f"{ETC}/workers",), f"found in {ETC}")


def test_the_container_image_with_workers(tmp_path: Path) -> None:
    """A file among the workers' that describes none is one that all processes read."""
    homeserver(tmp_path, "/data/homeserver.yaml")
    write(tmp_path, "/conf/workers/shared.yaml", {"redis": {"enabled": True}})
    worker(tmp_path, "/conf/workers/sync1.yaml")
    write(tmp_path, "/conf/workers/notes.txt", "")
    source = only(tmp_path)
    assert source.config == ("/data/homeserver.yaml", "/conf/workers/shared.yaml")
    assert source.workers == ("/conf/workers",)


@pytest.mark.parametrize("variable", ["SYNAPSE_CONFIG_PATH", "SYNAPSE_CONFIG_DIR"])
def test_the_variables_of_the_container_image_count_first(tmp_path: Path, variable: str) -> None:
    """They are where the image itself looks."""
    homeserver(tmp_path, "/mnt/homeserver.yaml")
    homeserver(tmp_path, "/data/homeserver.yaml")
    value = "/mnt/homeserver.yaml" if variable.endswith("PATH") else "/mnt"
    found = sources(str(tmp_path), {variable: value})
    assert [source.config for source in found] == [("/mnt/homeserver.yaml",), ("/data/homeserver.yaml",)]


def test_an_empty_host(tmp_path: Path) -> None:
    """Nothing is found, and nothing fails."""
    assert sources(str(tmp_path), {"SYNAPSE_CONFIG_PATH": "/data/homeserver.yaml"}) == []


# Named.


def test_one_named_file_brings_what_lies_beside_it(tmp_path: Path) -> None:
    """conf.d and workers need not be named."""
    debian(tmp_path)
    assert stated(str(tmp_path), [DEBIAN[0]], []) == Source(DEBIAN, (f"{ETC}/workers",), "named by you")


def test_what_is_named_in_full_stays_as_it_is(tmp_path: Path) -> None:
    """And a directory that does not exist is left for `check` to complain about."""
    debian(tmp_path)
    assert stated(str(tmp_path), [DEBIAN[0]], ["/nowhere"]) == Source((DEBIAN[0],), ("/nowhere",), "named by you")
