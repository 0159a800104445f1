"""Debian releases as directories: made with debootstrap, copied for each use, entered with systemd-nspawn.

Where `MATRIX_SIDECAR_TREES` names a directory, the first of each release stays there, for other runs to copy.

    python -m packages.trees trixie COMMAND…             runs a command as root, in a copy of this project at /project
    python -m packages.trees --package trixie DIRECTORY  builds the package, and puts it there
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
"""The releases that there is a package for, with their Python."""
VERSIONS = {"bookworm": "12", "trixie": "13"}
WITHIN = "systemd-sysv,dbus,python3,ca-certificates"
"""What makes an empty Debian one that boots, and that has the Python which almost every Debian has."""
PROJECT = "/project"
PYPROJECT = ROOT / "pyproject.toml"
LEFT_OUT = (".git", ".venv", ".*_cache", ".hypothesis", "*.egg-info", "__pycache__", "build", "dist")
PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def impossible() -> str:
    """Why none of this can be done here; empty if it can."""
    absent = [
        name for name in ("debootstrap", "systemd-nspawn") if shutil.which(name, path="/usr/sbin:/usr/bin") is None
    ]
    if find_spec("uv") is None:
        absent.append("uv")
    if absent:
        return f"{', '.join(absent)}: not installed"
    return "" if os.geteuid() == 0 else "only root can make and boot a Debian"


def run(*command: str | Path, **variables: str) -> str:
    """What a command printed; raises with it where the command fails."""
    done = subprocess.run(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **variables},
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}: exited with {done.returncode}\n{done.stdout}"
    return done.stdout


def base(suite: str, directory: Path) -> Path:
    """A bare release below `directory`, made at the first call; not to be changed."""
    with made_once(directory / suite) as fresh:
        if fresh is not None:
            run("debootstrap", "--variant=minbase", f"--include={WITHIN}", suite, fresh)
            # Nobody needs these trees after a power cut, and packages come several times as fast.
            (fresh / "etc" / "dpkg" / "dpkg.cfg.d" / "unsafe-io").write_text("force-unsafe-io\n")
    return directory / suite


@contextmanager
def made_once(place: Path) -> Iterator[Path | None]:
    """Where to make what is to be at `place`; None if it is there. Others who want it wait."""
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if place.exists():
            yield None
        else:
            fresh = place.with_name(f"{place.name}.incomplete")
            shutil.rmtree(fresh, ignore_errors=True)
            yield fresh
            fresh.rename(place)


def copy(tree: Path, to: Path) -> Path:
    """In the place of what a run that failed has left there."""
    shutil.rmtree(to, ignore_errors=True)
    run("cp", "--archive", "--reflink=auto", tree, to)
    return to


def inside(
    tree: Path,
    *command: str,
    network: bool = False,
    shown: Mapping[Path, str] | None = None,
    directory: str = "/",
    **variables: str,
) -> str:
    """Run a command as root in a tree that is not booted. `shown` are paths of ours that it sees, read only."""
    return run(*entering(tree, network=network, shown=shown, directory=directory, **variables), *command)


def entering(
    tree: Path, *, network: bool, shown: Mapping[Path, str] | None, directory: str, **variables: str
) -> list[str]:
    options = [] if network else ["--private-network"]
    options += [f"--bind-ro={path}:{place}" for path, place in (shown or {}).items()]
    options += [f"--setenv={name}={value}" for name, value in variables.items()]
    return [
        *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--as-pid2", "--pipe"),
        *(f"--directory={tree}", f"--chdir={directory}", *options, "--"),
    ]


def apt_install(tree: Path, *packages: str) -> None:
    """Debian's packages, none of which is started."""
    inside(tree, "apt-get", "-qq", "update", network=True)
    words = ("apt-get", "-qq", "install", "-y", "--no-install-recommends")
    inside(tree, *words, *packages, network=True, DEBIAN_FRONTEND="noninteractive")
    inside(tree, "apt-get", "clean")


def put_project(tree: Path) -> None:
    shutil.copytree(ROOT, tree / PROJECT[1:], ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)


def uv_install(tree: Path, suite: str, home: str, *requirements: str) -> None:
    """An environment in a tree, filled from out here: uv chooses wheels for the Python in there."""
    python = PYTHONS[suite]
    inside(tree, "python3", "-m", "venv", "--without-pip", home)
    target = tree / home[1:] / "lib" / f"python{python}" / "site-packages"
    chosen = (f"--python-version={python}", "--python-platform=x86_64-manylinux_2_34", "--only-binary=:all:")
    run(
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--no-cache",
        f"--target={target}",
        *chosen,
        *requirements,
    )
    for script in (target / "bin").glob("*"):
        text = script.read_bytes()
        if text.startswith(b"#!"):
            script.write_bytes(f"#!{home}/bin/python\n".encode() + text.partition(b"\n")[2])
        script.rename(tree / home[1:] / "bin" / script.name)


def wheels(suite: str, to: Path) -> Path:
    """All that the package and the image are made of, by their hashes, for the Python of a release."""
    with made_once(to) as fresh:
        if fresh is not None:
            pip = (
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--require-hashes",
                f"--dest={fresh}",
            )
            chosen = (f"--python-version={PYTHONS[suite]}", *(f"--platform={name}" for name in PLATFORMS))
            run(*pip, "--only-binary=:all:", *chosen, f"--requirement={ROOT / 'debian' / 'requirements.lock'}")
            run(*pip, f"--requirement={ROOT / 'debian' / 'requirements-build.lock'}")
    return to


def build_package(suite: str, directory: Path, base: Path) -> Path:
    """The package for a release, built in there without the network; kept in `directory`."""
    built = directory / f"deb-{suite}"
    with made_once(built) as fresh:
        if fresh is not None:
            _build_package(suite, directory, base, fresh)
    (package,) = built.glob("*.deb")
    return package


def _build_package(suite: str, directory: Path, base: Path, to: Path) -> None:
    tree = copy(base, directory / f"{suite}-build")
    apt_install(tree, "dpkg-dev", "debhelper", "python3-pip", "python3-venv")
    put_project(tree)
    changelog = tree / PROJECT[1:] / "debian" / "changelog"
    first, _, rest = changelog.read_text().partition("\n")
    changelog.write_text(f"{first.replace(')', f'+deb{VERSIONS[suite]}u1)')}\n{rest}")
    found = {wheels(suite, directory / f"wheels-{suite}"): "/wheels"}
    offline: dict[str, Any] = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
    # No compiler is needed, which dpkg-buildpackage asks for otherwise.
    words = ("dpkg-buildpackage", "--build=binary", "--no-sign", "--no-check-builddeps")
    inside(tree, *words, shown=found, directory=PROJECT, **offline)
    to.mkdir()
    for file in tree.glob("matrix-sidecar_*"):
        shutil.copy(file, to)
    shutil.rmtree(tree)


@contextmanager
def workshop() -> Iterator[Path]:
    """Where trees are made: the directory that is named, or one that ends with the block."""
    named = os.environ.get("MATRIX_SIDECAR_TREES")
    if named:
        Path(named).mkdir(parents=True, exist_ok=True)
        yield Path(named)
    else:
        with tempfile.TemporaryDirectory(prefix="trees-", ignore_cleanup_errors=True) as directory:
            yield Path(directory)


def main(*words: str) -> int:
    suite, *command = words
    if suite == "--package":
        suite, to = command
        with workshop() as directory:
            shutil.copy(build_package(suite, directory, base(suite, directory)), to)
        return 0
    with workshop() as directory, tempfile.TemporaryDirectory(dir=directory) as place:
        tree = copy(base(suite, directory), Path(place) / suite)
        put_project(tree)
        apt_install(tree, "python3-venv", "curl", "systemd", "procps", "libexpat1")
        uv_install(tree, suite, "/environment", "--requirements", str(PYPROJECT), "--group", f"{PYPROJECT}:test")
        # As an editable install does.
        packages = tree / "environment" / "lib" / f"python{PYTHONS[suite]}" / "site-packages"
        (packages / "project.pth").write_text(f"{PROJECT}\n")
        prefix: Sequence[str] = entering(
            tree, network=False, shown={}, directory=PROJECT, PATH="/environment/bin:/usr/sbin:/usr/bin", CI="true"
        )
        return subprocess.run([*prefix, *command], stdin=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
