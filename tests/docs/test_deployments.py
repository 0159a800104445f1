"""The table of deployments: every system has a proof, and every proof is a test that is there."""

from __future__ import annotations

import re

from .blocks import ROOT

ROWS = re.findall(
    r"^\| (?!system |---)(.+?) \| (.+?) \| (.+?) \|$",
    (ROOT / "docs" / "deployments.md").read_text("utf-8").partition("\n## ")[0],
    re.MULTILINE,
)


def places(text: str) -> list[str]:
    """Tests by their place, or by their file's name next to one with a place."""
    return re.findall(r"`((?:tests/)[\w/.]+|test_\w+\.py)`", text)


def test_every_system_has_a_proof() -> None:
    """A test, or the word that there is none and why."""
    assert len(ROWS) > 8
    assert [system for system, _, proof in ROWS if not places(proof) and not proof.startswith("none: ")] == []


def test_the_proofs_are_there() -> None:
    """Each named file exists and holds tests."""
    for _, _, proof in ROWS:
        for name in places(proof):
            found = [ROOT / name] if "/" in name else list((ROOT / "tests").rglob(name))
            assert len(found) == 1, name
            files = list(found[0].rglob("test_*.py")) if found[0].is_dir() else found
            assert any(re.search(r"^(?:async )?def test_", file.read_text("utf-8"), re.MULTILINE) for file in files), (
                name
            )


def test_what_runs_in_their_place_is_linked() -> None:
    """By a link to a file of the checkout, which tests/test_readme.py follows."""
    assert [system for system, ours, _ in ROWS if "](" not in ours] == []
