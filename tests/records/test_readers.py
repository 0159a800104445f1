"""The real goaccess and lnav read lines of the access log with the files that are shipped for them."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pytest
from noted import noted

from sidecar.records.lines import Hasher, Lines
from sidecar.records.record import DONE
from sidecar.records.request_id import NewIds

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two exchanges: one that went well, one that waited for a worker in vain."""
    lines = Lines(Hasher(b"x"), NewIds("id"), json=True)
    well = noted(endpoint="sync", pool="sync", worker="sync1", status=200, ending=DONE, kind="user", key="alice")
    vain = noted(endpoint="login", pool="client", worker="", status=503, ending="no_worker", queue=30.0)
    path = tmp_path / "access.log"
    path.write_text("".join(lines.of([well, vain], 1_700_000_000.0)))
    return path


@pytest.mark.needs("goaccess")
def test_goaccess(log: Path) -> None:
    """Every line is one, endpoints are files and pools are hosts."""
    done = subprocess.run(
        ["goaccess", "--no-global-config", f"--config-file={CONF / 'goaccess.conf'}", "-o", "json", str(log)],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert (told["general"]["valid_requests"], told["general"]["failed_requests"]) == (2, 0)
    assert {each["data"] for each in told["requests"]["data"]} == {"sync", "login"}
    assert {each["data"] for each in told["vhosts"]["data"]} == {"sync", "client"}


@pytest.mark.needs("lnav")
def test_lnav(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table with the names of the log, and a level by the status."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    subprocess.run(["lnav", "-i", str(CONF / "lnav" / "matrix_sidecar.json")], check=True, capture_output=True)
    question = ";SELECT endpoint, status, ending, log_level FROM matrix_sidecar_access"
    command = ["lnav", "-n", "-c", question, "-c", ":write-csv-to -", str(log)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows = list(csv.reader(done.stdout.splitlines()))
    assert rows[1:] == [["sync", "200", "done", "info"], ["login", "503", "no_worker", "error"]]
