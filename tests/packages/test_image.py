"""The image: built by buildah without an engine on a bare Debian, started as it says itself, asked, and stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from attrs import frozen
from busy import AnsweringWorker

from . import trees

SUITE = "trixie"
BASE = "localhost/python"
IMAGE = "localhost/matrix-sidecar"
PATIENCE = 60.0


@frozen
class Buildah:
    """With storage of its own, so that nothing stays and nothing of others is seen."""

    storage: Path

    def command(self, *words: str | Path) -> list[str]:
        places = ("--root", self.storage / "root", "--runroot", self.storage / "run", "--storage-driver", "vfs")
        return ["buildah", *map(str, (*places, *words))]

    def does(self, *words: str | Path) -> str:
        return trees.run(*self.command(*words)).strip()


@frozen
class Container:
    """Made from the image; what is run in it shares the network of this machine."""

    buildah: Buildah
    name: str

    def command(self, *words: str, configuration: Path) -> list[str]:
        mounted = f"{configuration}:/etc/matrix-sidecar/sidecar.yaml:ro"
        options = ("--isolation", "chroot", "--volume", mounted)
        return self.buildah.command("run", *options, self.name, "--", *words)


@pytest.fixture(scope="module")
def buildah() -> Iterator[Buildah]:
    reason = trees.impossible() or ("" if shutil.which("buildah") else "buildah: not installed")
    if reason:
        pytest.skip(reason)
    with trees.workshop() as directory:
        place = directory / "image"
        place.mkdir()
        built = Buildah(place)
        try:
            tree = trees.copy(trees.base(SUITE, directory), place / SUITE)
            trees.apt_install(tree, "python3-venv")
            shutil.rmtree(tree / "var" / "lib" / "apt" / "lists")
            container = built.does("from", "scratch")
            built.does("copy", "--quiet", container, tree, "/")
            built.does("commit", "--quiet", "--rm", container, BASE)
            shutil.rmtree(tree)
            wheels = trees.wheels(SUITE, directory / f"wheels-{SUITE}")
            project = place / "project"
            shutil.copytree(trees.ROOT, project, ignore=shutil.ignore_patterns(*trees.LEFT_OUT))
            offline = ("--build-arg", "PIP_NO_INDEX=1", "--build-arg", "PIP_FIND_LINKS=/wheels")
            words = (
                "build",
                "--isolation",
                "chroot",
                "--quiet",
                "--format",
                "docker",
                "--volume",
                f"{wheels}:/wheels:ro",
            )
            file = project / "conf" / "docker" / "Dockerfile"
            built.does(*words, "--build-arg", f"BASE={BASE}", *offline, "--file", file, "--tag", IMAGE, project)
            yield built
        finally:
            shutil.rmtree(place, ignore_errors=True)


pytestmark = pytest.mark.xdist_group("image")


def configured(buildah: Buildah) -> dict[str, object]:
    return dict(json.loads(buildah.does("inspect", "--type", "image", IMAGE))["Docker"]["config"])


def test_what_the_image_says(buildah: Buildah) -> None:
    """A user of its own, the signal of a stop in which nothing is lost, a check of its health."""
    config = configured(buildah)
    assert config["User"] == "matrix-sidecar"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "/opt/venvs/matrix-sidecar/healthcheck"]  # type: ignore[index]


def test_it_starts_is_asked_and_stops(buildah: Buildah, tmp_path: Path) -> None:
    """By its own entry point, as its own user, and with nothing that a log of a container should not hold."""
    config = configured(buildah)
    container = Container(buildah, buildah.does("from", IMAGE))
    started = [*config["Entrypoint"], *config["Cmd"]]  # type: ignore[misc]
    (healthcheck,) = config["Healthcheck"]["Test"][1:]  # type: ignore[index]
    with closing(AnsweringWorker(tmp_path, "main")):
        socket = tmp_path / "main.sock"
        os.chmod(tmp_path, 0o755)
        os.chmod(socket, 0o666)  # as Synapse does
        file = tmp_path / "sidecar.yaml"
        file.write_text(
            'listen: "tcp:0:interface=127.0.0.1"\nsynapse: {version: "1.163.2"}\n'
            'workers: {main: {endpoint: "unix:/sockets/main.sock"}}\n'
        )
        words = container.command(*started, configuration=file)
        at = words.index(container.name)
        words[at:at] = ["--volume", f"{socket.parent}:/sockets"]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        said = tmp_path / "log"
        try:
            port = int(_says(said, r"listening on 127\.0\.0\.1:(\d+)"))
            answer = trees.run("curl", "-s", "-i", f"http://127.0.0.1:{port}/_matrix/client/versions")
            assert answer.startswith("HTTP/1.1 200 ")
            assert answer.endswith("main")
            done = subprocess.run(container.command(healthcheck, configuration=file), capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            pid = _innermost(process.pid)
            assert Path(f"/proc/{pid}").stat().st_uid == 991
            os.kill(pid, signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()
        text = said.read_text()
        assert "Traceback" not in text
        assert "plugin" not in text
    down = subprocess.run(container.command(healthcheck, configuration=file), capture_output=True)
    assert down.returncode != 0


def test_it_is_small(buildah: Buildah) -> None:
    """What is added to the base is the environment and nothing of its making."""
    tree = Path(buildah.does("mount", buildah.does("from", IMAGE)))
    environment = int(trees.run("du", "-sm", tree / "opt").split()[0])
    print(f"the environment has {environment} MB")
    assert environment < 80
    assert not (tree / "usr/src/matrix-sidecar").exists()
    assert not (tree / "opt/tools").exists()
    bill = json.loads((tree / "opt/venvs/matrix-sidecar/sbom.cdx.json").read_text())
    assert "twisted" in {each["name"] for each in bill["components"]}


def _says(log: Path, pattern: str) -> str:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = re.search(pattern, log.read_text(errors="replace"))
        if found:
            return found[1]
        time.sleep(0.05)
    raise AssertionError(log.read_text(errors="replace"))


def _innermost(pid: int) -> int:
    """The last of the processes that were started one by another."""
    children = [
        child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return _innermost(int(children[0])) if children else pid
