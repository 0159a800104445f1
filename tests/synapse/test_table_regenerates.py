"""The table in the package against the servlets of an installed Synapse."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest

from sidecar.synapse.endpoint_rows import load_endpoints
from sidecar.synapse.patterns import notation_of
from sidecar.synapse.releases import release_of
from sidecar.synapse.table import read_table

REGEXES = (Path(__file__).parent / "servlet_regexes.txt").read_text("ascii").split()


def newest_synapse() -> None:
    """Skips, with the reason, where the newest Synapse of the table cannot be asked."""
    newest = load_endpoints().newest
    try:
        installed = version("matrix-synapse")
    except PackageNotFoundError:
        pytest.skip(f"matrix-synapse {newest} is not installed")
    if release_of(installed) != release_of(newest):
        pytest.skip(f"matrix-synapse is {installed} here, the newest in the table is {newest}")
    for module in ("authlib", "saml2", "bs4"):
        if not find_spec(module):
            pytest.skip(f"{module} is not installed; matrix-synapse[oidc,saml2,url-preview] brings it")


def test_the_newest_synapse_gives_the_same_table() -> None:
    """The rows of the newest release are those that its own servlets register, to the byte."""
    newest_synapse()
    asked = subprocess.run(
        [sys.executable, "-m", "sidecar.synapse.servlets", "--check"], capture_output=True, text=True, check=False
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert "stays as it is" in asked.stdout


def test_the_expressions_of_the_tests_are_those_of_the_table() -> None:
    """The file of expressions that the pattern tests run over is complete for the newest release."""
    newest = read_table()[release_of(load_endpoints().newest)]
    json_resources = (
        "/_matrix/client/",
        "/_matrix/federation/",
        "/_matrix/key/",
        "/_matrix/media/",
        "/_synapse/admin/",
    )
    assert {fact.path for fact in newest if fact.path.startswith(json_resources)} == {
        notation_of(regex) for regex in REGEXES
    }
