"""What an exported file cannot hold is told in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from .measuring import PROGRAMS
from .test_command import _settings, run


@pytest.mark.parametrize("program", PROGRAMS)
def test_balancers_are_told(program: str, tmp_path: Path) -> None:

    server = {"endpoint": "tcp:10.0.0.5:5432"}
    balancers = {"pgsql": {"listen": "tcp:5432", "servers": {"one": server}}}
    path = tmp_path / "sidecar.yaml"
    path.write_text(yaml.safe_dump(_settings(balancers=balancers)))
    assert "balancers are left out, because they do not carry HTTP: pgsql" in run(program, "-c", path).stdout
