"""What `docs/releasing.md` makes: a wheel and an sdist that the index takes, a lock that fits, a bill of materials."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from pages import manual

import sidecar

from .trees import ROOT, run

if sys.version_info >= (3, 11):
    import tomllib

PROJECT = ROOT / "pyproject.toml"
LOCK = ROOT / "debian" / "requirements.lock"
PINNED = re.compile(r"^([a-z0-9-]+)==(\S+)(?: ; .*?)? \\$((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)", re.MULTILINE)


def pins() -> dict[str, list[str]]:
    """Every version of each distribution that is locked."""
    found: dict[str, list[str]] = {}
    for name, version, _hashes in PINNED.findall(LOCK.read_text()):
        found.setdefault(name, []).append(version)
    return found


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib comes with Python 3.11")
def test_the_lock_has_what_the_project_asks_for() -> None:
    """Each dependency, those of the extras too, in a version that is allowed, and by its hash."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = (line for lines in project["optional-dependencies"].values() for line in lines)
    locked = pins()
    lines = [line for line in LOCK.read_text().splitlines() if "==" in line]
    assert sum(map(len, locked.values())) == len(lines)
    for requirement in map(Requirement, (*project["dependencies"], *extras)):
        for version in locked[requirement.name]:
            assert requirement.specifier.contains(version), f"{requirement}: {version} is locked"


def test_there_is_one_version() -> None:
    """In the metadata, the program, the changelogs and the manifests."""
    version = sidecar.__version__
    assert f'\nversion = "{version}"\n' in PROJECT.read_text()
    debian = re.sub(r"(a|b|rc)(\d+)$", r"~\1\2", version)
    assert (ROOT / "debian" / "changelog").read_text().startswith(f"matrix-sidecar ({debian}) ")
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"newTag: {version}}}" in (ROOT / "conf" / "kubernetes" / "kustomization.yaml").read_text()
    assert version in manual.page()


@pytest.mark.skipif(find_spec("twine") is None or find_spec("build") is None, reason="build and twine: not installed")
def test_the_index_takes_both_files(tmp_path: Path) -> None:
    """twine finds nothing to complain of."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, ROOT)
    assert "WARNING" not in run(sys.executable, "-m", "twine", "check", "--strict", *tmp_path.iterdir())


def test_the_bill_of_materials_is_one() -> None:
    """By the schema of CycloneDX; it names the project, what it is made of, and who needs whom."""
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    said = subprocess.run(
        [sys.executable, ROOT / "debian" / "sbom.py"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert validation.JsonStrictValidator(schema.SchemaVersion.V1_5).validate_str(said) is None
    bill = json.loads(said)
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"], root["type"]) == ("matrix-sidecar", sidecar.__version__, "application")
    known = {each["name"] for each in bill["components"]}
    assert {"twisted", "attrs", "click", "pyyaml"} <= known
    (needs,) = (each["dependsOn"] for each in bill["dependencies"] if each["ref"] == root["bom-ref"])
    assert any(each.startswith("pkg:pypi/twisted@") for each in needs)
