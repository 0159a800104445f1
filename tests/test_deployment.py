"""Everything that a start reads, read in one go: what overrides what, and what prevents a start."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.errors import ConfigError
from sidecar.loading.deployment import read_deployment, read_for_running_synapse

WORKERS = 'workers:\n  main: {endpoint: "unix:main.sock"}\n'


def written(directory: Path, text: str) -> str:
    path = directory / "sidecar.yaml"
    path.write_text(text)
    return str(path)


def test_a_deployment(tmp_path: Path) -> None:
    """A file gives settings, table and plan; the command line overrides where it listens."""
    path = written(tmp_path, f'listen: "tcp:1"\nsynapse: {{version: "1.163.2"}}\n{WORKERS}')
    plain = read_deployment(path)
    assert plain.settings.listen == ("tcp:1",)
    assert plain.plan.workers["main"].endpoint == f"unix:{tmp_path}/main.sock"
    assert not plain.problems
    other = read_deployment(path, listen=["tcp:2", "tcp:3"], admin="tcp:4")
    assert other.settings.listen == ("tcp:2", "tcp:3")
    assert other.settings.admin == "tcp:4"


def test_faults_of_every_kind_are_told(tmp_path: Path) -> None:
    """What refers to nothing prevents a start."""
    path = written(tmp_path, WORKERS + "pools:\n  sync: {workers: [nobody]}\n")
    with pytest.raises(ConfigError, match="nobody"):
        read_deployment(path)


def test_faults_of_the_plan_are_told(tmp_path: Path) -> None:
    """A file whose parts are right, but without a main process, prevents a start."""
    path = written(tmp_path, 'workers:\n  a: {endpoint: "unix:a"}\n  b: {endpoint: "unix:b"}\n')
    with pytest.raises(ConfigError, match="main"):
        read_deployment(path)


@pytest.mark.parametrize("version", ["1.163.2", "1.160.0"])
def test_version_of_the_running_synapse(tmp_path: Path, version: str) -> None:
    """Where the file states no version, that of the running Synapse chooses the table."""
    deployment = read_deployment(written(tmp_path, WORKERS), version=version)
    assert deployment.table.endpoints


def test_version_that_is_none(tmp_path: Path) -> None:
    """A stated version that is none is a fault; a running Synapse that says such a thing is not."""
    with pytest.raises(ConfigError, match="version"):
        read_deployment(written(tmp_path, 'synapse: {version: "soon"}\n' + WORKERS))
    assert read_deployment(written(tmp_path, WORKERS), version="soon").plan


def test_version_beyond_the_table(tmp_path: Path) -> None:
    """A version newer than the table is served with the newest, and that is said."""
    deployment = read_deployment(written(tmp_path, 'synapse: {version: "9.0.0"}\n' + WORKERS))
    assert any("version" in str(warning) for warning in deployment.problems)


def test_stated_version_is_not_asked_for(tmp_path: Path) -> None:
    """With a stated version nobody is asked; without one, and nobody there, the newest table is used."""
    calls: list[object] = []

    def read(**more: object) -> object:
        calls.append(more)
        return read_deployment(path, **more)  # type: ignore[arg-type]

    path = written(tmp_path, 'synapse: {version: "1.163.2"}\n' + WORKERS)
    read_for_running_synapse(read)  # type: ignore[arg-type]
    assert calls == [{}]
    path = written(tmp_path, WORKERS)
    read_for_running_synapse(read)  # type: ignore[arg-type]
    assert calls == [{}, {}]
