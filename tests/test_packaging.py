"""What a wheel, an sdist and an editable install bring, built from a copy of this tree without the network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email import message_from_bytes
from importlib.metadata import version
from pathlib import Path

import pytest

import sidecar

ROOT = Path(__file__).parent.parent
NAME = "matrix_sidecar"
PLUGIN = "twisted/plugins/matrix_sidecar_plugin.py"
STATIC = {f"sidecar/admin/page/static/{name}" for name in ("icon.svg", "page.css", "page.js")}
DATA = {"sidecar/py.typed", "sidecar/synapse/data/endpoints.json", "sidecar/synapse/data/overlay.yaml"} | STATIC
CONFIGURATIONS = {
    *(
        f"conf/{name}.yaml"
        for name in (
            "alerts",
            "alertmanager",
            "explicit",
            "minimal",
            "sidecar",
            "docker-nginx",
            "nginx-workers",
            "two-hosts",
        )
    ),
    *("conf/alertmanager.yaml", "conf/grafana-dashboard.json", "conf/goaccess.conf", "conf/lnav/matrix_sidecar.json"),
    *("conf/docker/compose.yaml", "conf/docker/Dockerfile", "conf/docker/healthcheck"),
    *("conf/systemd/sysusers.conf", "conf/systemd/tmpfiles.conf"),
    *(
        f"conf/kubernetes/{name}.yaml"
        for name in ("deployment", "disruption", "homeserver", "kustomization", "network", "service", "sidecar")
    ),
    *(f"conf/kubernetes/worker-{name}.yaml" for name in ("client-0", "sync-0", "sync-1")),
    *("conf/kubernetes/ess/sidecar.yaml", "conf/kubernetes/ess/values.yaml"),
    *("conf/keepalived/keepalived.conf", "conf/keepalived/sidecar.yaml"),
    *(
        "conf/backend-balancers.yaml",
        "conf/behind-a-proxy.yaml",
        "conf/edge.yaml",
        "conf/mas.yaml",
        "conf/palpo.yaml",
        "conf/services.yaml",
    ),
    "conf/palpo/Caddyfile",
    *(f"conf/palpo/{name}.yaml" for name in ("compose.caddy", "compose.traefik", "traefik", "traefik.dynamic")),
    *(f"conf/edges/{name}" for name in ("nginx.conf", "nginx-stream.conf", "Caddyfile", "apache.conf", "relayd.conf")),
    *(f"conf/edges/{name}" for name in ("haproxy.cfg", "haproxy-tcp.cfg")),
    *("conf/edges/certbot-deploy-hook", "conf/edges/systemd-drop-in.conf"),
}
UNITS = {f"systemd/matrix-sidecar{kind}" for kind in (".service", ".socket", "@.service")}
MANUAL = {"man/matrix-sidecar.1"}
SCHEMA = {"docs/sidecar.schema.json", "docs/routes.schema.json", "docs/doctor.schema.json"}
PAGES = {"CHANGELOG.md", "LICENSE", "README.md"}
SETTINGS = {"MANIFEST.in", "pyproject.toml", "setup.cfg"}
SKIPPED = ".*", "build", "dist", "*.egg-info", "__pycache__", "dropin.cache"
COMMAND = re.compile(r"^\s+matrix-sidecar\s", re.MULTILINE)
TWISTD = "from twisted.scripts.twistd import run; run()"
LOADED = """
import sidecar.tap, twisted.plugin, twisted.application.service as service
assert "matrix-sidecar" in {maker.tapname for maker in twisted.plugin.getPlugins(service.IServiceMaker)}
import twisted.plugins.matrix_sidecar_plugin as plugin
print(plugin.__file__, sidecar.tap.__file__)
"""
PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def python(*arguments: str | Path, directory: Path, interpreter: str | Path = sys.executable) -> str:
    """What Python printed, errors included; the test fails with it if Python does."""
    command = [interpreter, *arguments]
    done = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def fresh_environment(place: Path) -> Path:
    """Makes an environment that has the packages of this one, but not the plugin; returns where its own go."""
    python("-m", "venv", "--without-pip", place, directory=place.parent)
    own = Path(python("-I", "-c", PACKAGES, directory=place, interpreter=place / "bin" / "python").strip())
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own / "borrowed.pth").write_text("".join(f"{path}\n" for path in borrowed))
    return own


def install(environment: Path, *arguments: str | Path) -> None:
    """Install with pip, which takes everything that it needs from this environment."""
    to = ("-m", "pip", "--python", environment / "bin" / "python", "install", "--ignore-installed")
    python(*to, "--no-index", "--no-deps", "--no-build-isolation", *arguments, directory=environment)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, because what an earlier build left behind ends up in the next."""
    copy = tmp_path_factory.mktemp("tree") / "clone"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*SKIPPED))
    return copy


@pytest.fixture(scope="module")
def modules(tree: Path) -> set[str]:
    """Every module that is in the tree, so that a package which setup.cfg forgets is missed."""
    return {PLUGIN} | {path.relative_to(tree).as_posix() for path in tree.glob("sidecar/**/*.py")}


@pytest.fixture(scope="module")
def sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sdist")
    said = python("-c", BUILD, "build_sdist", place, directory=tree)
    assert "absent from" not in said
    return next(place.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, which must therefore hold everything."""
    place = tmp_path_factory.mktemp("wheel")
    shutil.unpack_archive(sdist, place)
    said = python("-c", BUILD, "build_wheel", place, directory=place / sdist.name.removesuffix(".tar.gz"))
    assert "absent from" not in said
    return next(place.glob("*.whl"))


def test_what_an_earlier_build_left_is_not_shipped(tree: Path, tmp_path: Path) -> None:
    """A module that was renamed since the last build in this clone is in no wheel of the next."""
    clone = tmp_path / "clone"
    shutil.copytree(tree, clone)
    stale = clone / "build" / "lib" / "sidecar" / "renamed_since.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    python("-c", BUILD, "build_wheel", tmp_path, directory=clone)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        names = archive.namelist()
    assert "sidecar/cli.py" in names
    assert "sidecar/renamed_since.py" not in names


def test_what_the_index_will_show(wheel: Path) -> None:
    """The metadata say the version, who made it, where it lives, and which extras there are."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    assert metadata["Version"] == sidecar.__version__
    assert metadata["Author"]
    titles = {url.partition(",")[0] for url in metadata.get_all("Project-URL", [])}
    assert titles == {"Homepage", "Documentation", "Source", "Changelog"}
    assert metadata.get_all("Provides-Extra") == ["http2", "import", "tls"]
    assert metadata.get_payload().startswith("# matrix-sidecar")


def test_the_wheel_holds_the_package_the_plugin_and_the_examples(wheel: Path, modules: set[str]) -> None:
    """A wheel holds all modules and data, the twistd plugin, configurations and units, and no test."""
    stem = f"{NAME}-{version('matrix-sidecar')}"
    shared = {f"{stem}.data/data/share/matrix-sidecar/{path}" for path in CONFIGURATIONS | UNITS}
    shared |= {f"{stem}.data/data/share/man/man1/{Path(path).name}" for path in MANUAL}
    shared |= {f"{stem}.data/data/share/matrix-sidecar/{Path(path).name}" for path in SCHEMA}
    records = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert sorted(names) == sorted(modules | DATA | shared | {f"{stem}.dist-info/{name}" for name in records})


def test_the_sdist_holds_what_the_wheel_is_built_from(sdist: Path, modules: set[str]) -> None:
    """An sdist holds the sources of the wheel, the pages and the settings, and nothing else."""
    with tarfile.open(sdist) as archive:
        paths = {Path(*Path(member.name).parts[1:]).as_posix() for member in archive if member.isfile()}
    written = {path for path in paths if path == "PKG-INFO" or path.startswith(f"{NAME}.egg-info/")}
    assert sorted(paths - written) == sorted(
        modules | DATA | CONFIGURATIONS | UNITS | MANUAL | SCHEMA | PAGES | SETTINGS
    )


def test_the_running_environment_lists_the_command(tmp_path: Path) -> None:
    """Where this suite runs, twistd knows matrix-sidecar."""
    assert COMMAND.search(python("-c", TWISTD, "--help", directory=tmp_path))


@pytest.mark.parametrize("kind", ["wheel", "sdist", "editable"])
def test_an_install_brings_the_command(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Installed in each of the three ways, twistd lists the command and starts it from what was installed."""
    environment = tmp_path / "environment"
    own = fresh_environment(environment)
    source = request.getfixturevalue("tree" if kind == "editable" else kind)
    install(environment, *(["--editable", source] if kind == "editable" else [source]))
    interpreter = environment / "bin" / "python"
    assert COMMAND.search(python("-I", "-c", TWISTD, "--help", directory=tmp_path, interpreter=interpreter))
    options = python("-I", "-c", TWISTD, "matrix-sidecar", "--help", directory=tmp_path, interpreter=interpreter)
    assert "--demo" in options
    home = source if kind == "editable" else own
    found = python("-I", "-c", LOADED, directory=tmp_path, interpreter=interpreter).split()
    assert found == [str(home / PLUGIN), str(home / "sidecar/tap.py")]
    script = environment / "bin" / "matrix-sidecar"
    assert "explain" in python("-I", script, "--help", directory=tmp_path, interpreter=interpreter)


def test_an_install_brings_examples_units_and_the_manual(wheel: Path, tmp_path: Path) -> None:
    """The example configurations and the systemd units are below share/matrix-sidecar, the page where man looks."""
    fresh_environment(tmp_path / "environment")
    install(tmp_path / "environment", wheel)
    shared = tmp_path / "environment" / "share" / "matrix-sidecar"
    assert {
        path.relative_to(shared).as_posix() for path in shared.rglob("*") if path.is_file()
    } == CONFIGURATIONS | UNITS | {Path(path).name for path in SCHEMA}
    assert (tmp_path / "environment" / "share" / "man" / "man1" / "matrix-sidecar.1").is_file()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_units_are_what_systemd_takes(tmp_path: Path) -> None:
    """systemd finds nothing to say about the units, once the programs that they start exist."""
    for path in UNITS:
        unit = re.sub(r"/opt/venvs/matrix-sidecar/bin/[a-z-]+", sys.executable, (ROOT / path).read_text())
        (tmp_path / Path(path).name).write_text(unit)
    command = ["systemd-analyze", "verify", *sorted(map(str, tmp_path.iterdir()))]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (done.returncode, done.stdout) == (0, "")
