"""Prints what an environment holds as a bill of materials (CycloneDX 1.5, JSON): run it with the environment's Python.

Needs nothing but Python, so that it describes what is in the package or the image, and not what was asked for.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from typing import Any

ROOT = "matrix-sidecar"
NAMED = re.compile(r"^[A-Za-z0-9._-]+")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def reference(found: Distribution) -> str:
    return f"pkg:pypi/{canonical(found.metadata['Name'])}@{found.version}"


def component(found: Distribution) -> dict[str, Any]:
    told = {
        "type": "application" if canonical(found.metadata["Name"]) == ROOT else "library",
        "bom-ref": reference(found),
        "name": canonical(found.metadata["Name"]),
        "version": found.version,
        "purl": reference(found),
    }
    licence = list(licences(found))
    return {**told, "licenses": licence} if licence else told


def licences(found: Distribution) -> Iterator[dict[str, Any]]:
    """The expression if there is one; else the name, and else the classifiers."""
    metadata = found.metadata
    if metadata.get("License-Expression"):
        yield {"expression": metadata["License-Expression"]}
        return
    name = (metadata.get("License") or "").strip()
    if name and "\n" not in name:
        yield {"license": {"name": name}}
        return
    for line in metadata.get_all("Classifier") or []:
        if line.startswith("License ::"):
            yield {"license": {"name": line.rpartition(" :: ")[2]}}


def needed(found: Distribution, known: dict[str, Distribution]) -> list[str]:
    """What of the environment a distribution asks for, whichever extra asks."""
    names = {canonical(match[0]) for line in found.requires or [] if (match := NAMED.match(line))}
    return sorted(reference(known[name]) for name in names if name in known)


def bill() -> dict[str, Any]:
    known = {canonical(found.metadata["Name"]): found for found in distributions()}
    root = known.pop(ROOT)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": component(root),
            "properties": [{"name": "python", "value": platform.python_version()}],
        },
        "components": [component(known[name]) for name in sorted(known)],
        "dependencies": [
            {"ref": reference(found), "dependsOn": needed(found, known)}
            for found in (root, *(known[name] for name in sorted(known)))
        ],
    }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1)
    sys.stdout.write("\n")
