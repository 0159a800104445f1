"""Prints the oldest version of each dependency that pyproject.toml allows, as constraints for pip."""

from __future__ import annotations

from importlib.metadata import requires

for requirement in requires("matrix-sidecar") or []:
    # Those of extras are constraints, too, for whoever installs them.
    print(requirement.partition(";")[0].strip().replace(">=", "=="))
