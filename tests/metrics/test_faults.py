"""Faults, as the metrics of a sidecar show them: which alerts fire, from when to when, and which become a message.

Prometheus' own tool says which fire; a real Alertmanager with the shipped configuration, which of them inhibit others.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import PATIENCE

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "conf" / "alerts.yaml"
ALERTMANAGER = ROOT / "conf" / "alertmanager.yaml"
LABELS = 'job="matrix-sidecar", instance="a"'
PREFIX = "matrix_sidecar_"

# Values of a minute each; what is well for a quarter of an hour, then is not for 15 minutes, then is again for 20.
WELL = "1x50"
BAD_FROM_15_TO_29 = "1x14 0x14 1x20"
NONE, SOME = "0x50", "0x14 1x14 0x20"
HEALTHY = {
    f"up{{{LABELS}}}": WELL,
    f"{PREFIX}ready{{{LABELS}}}": WELL,
    f"{PREFIX}stopping{{{LABELS}}}": NONE,
    **{f'{PREFIX}worker_up{{{LABELS}, worker="{name}"}}': WELL for name in ("sync1", "sync2", "typing1")},
    **{f'{PREFIX}worker_draining{{{LABELS}, worker="{name}"}}': NONE for name in ("sync1", "sync2", "typing1")},
    **{f'{PREFIX}worker_queue{{{LABELS}, worker="{name}"}}': NONE for name in ("sync1", "sync2", "typing1")},
    **{
        f'{PREFIX}pool_endpoints{{{LABELS}, pool="{pool}", served_by="{by}"}}': "3x50" if by == "workers" else NONE
        for pool in ("sync", "typing")
        for by in ("workers", "fallback", "nobody", "unmounted")
    },
    f'{PREFIX}pool_workers{{{LABELS}, pool="sync"}}': "2x50",
    f'{PREFIX}pool_workers{{{LABELS}, pool="typing"}}': "1x50",
    f'{PREFIX}requests_total{{{LABELS}, pool="sync", endpoint="sync", code="2xx"}}': "0+600x50",
    f'{PREFIX}requests_total{{{LABELS}, pool="sync", endpoint="sync", code="5xx"}}': NONE,
    f"{PREFIX}requests_shed_total{{{LABELS}}}": NONE,
    f"{PREFIX}reload_successful{{{LABELS}}}": WELL,
    f'{PREFIX}config_problems{{{LABELS}, severity="error"}}': NONE,
    f"{PREFIX}client_connections{{{LABELS}}}": "100x50",
    f"{PREFIX}client_connections_limit{{{LABELS}}}": "8000x50",
    f"process_cpu_seconds_total{{{LABELS}}}": "0+6x50",
    f"process_start_time_seconds{{{LABELS}}}": WELL,
}
ERRORS = f'{PREFIX}requests_total{{{LABELS}, pool="sync", endpoint="sync", code="5xx"}}'


def unseen(values: str) -> str:
    """The same where Prometheus gets no answer while the fault lasts."""
    return re.sub(r"^(\d+)x50$", r"\1x14 _x15 \1x20", values)


def down(*workers: str) -> dict[str, str]:
    return {f'{PREFIX}worker_up{{{LABELS}, worker="{name}"}}': BAD_FROM_15_TO_29 for name in workers}


def served(pool: str, by: str) -> dict[str, str]:
    return {
        f'{PREFIX}pool_endpoints{{{LABELS}, pool="{pool}", served_by="workers"}}': "3x14 0x14 3x20",
        f'{PREFIX}pool_endpoints{{{LABELS}, pool="{pool}", served_by="{by}"}}': "0x14 3x14 0x20",
    }


# Of each fault: what differs, the alerts with the minutes in which they fire, and those that become a message.
FAULTS: dict[str, tuple[Mapping[str, str], dict[str, tuple[int, int]], set[str]]] = {
    "the process hangs": (
        {
            f"up{{{LABELS}}}": BAD_FROM_15_TO_29,
            **{name: unseen(values) for name, values in HEALTHY.items() if name[:3] != "up{"},
        },
        {"Down": (16, 30)},
        {"Down"},
    ),
    "one of two workers is killed": (down("sync2"), {"WorkerAway": (17, 30)}, {"WorkerAway"}),
    "the only writer is killed": (
        {
            **down("typing1"),
            **served("typing", "nobody"),
            f"{PREFIX}ready{{{LABELS}}}": BAD_FROM_15_TO_29,
            f'{PREFIX}worker_queue{{{LABELS}, worker="typing1"}}': "0x14 5x14 0x20",
        },
        {"NotReady": (16, 30), "PoolEmpty": (16, 30), "WorkerAway": (17, 30), "Queue": (18, 30)},
        {"NotReady"},
    ),
    "all workers of a pool are killed": (
        {**down("sync1", "sync2"), **served("sync", "fallback")},
        {"WorkerAway": (17, 30), "PoolFallback": (17, 30)},
        {"WorkerAway"},
    ),
    "the database is gone and workers answer 500": (
        {ERRORS: "0x14 0+300x14 4200x20"},
        {"Errors": (19, 31)},
        {"Errors"},
    ),
    "a reload is refused": (
        {f"{PREFIX}reload_successful{{{LABELS}}}": BAD_FROM_15_TO_29},
        {"ReloadRefused": (20, 30)},
        {"ReloadRefused"},
    ),
    "more requests than workers": (
        {
            f"{PREFIX}requests_shed_total{{{LABELS}}}": "0x14 0+60x14 840x20",
            ERRORS: "0x14 0+60x14 840x20",
            f'{PREFIX}worker_queue{{{LABELS}, worker="sync1"}}': "0x14 50x14 0x20",
        },
        {"Shedding": (19, 31), "Errors": (19, 31), "Queue": (18, 30)},
        {"Shedding"},
    ),
    "a reload takes all workers from a pool": (
        {
            f'{PREFIX}pool_workers{{{LABELS}, pool="typing"}}': "1x14 0x35",
            f'{PREFIX}pool_endpoints{{{LABELS}, pool="typing", served_by="workers"}}': "3x14 0x35",
            f'{PREFIX}pool_endpoints{{{LABELS}, pool="typing", served_by="unmounted"}}': "0x14 3x35",
        },
        {"PoolEmpty": (16, 49)},
        {"PoolEmpty"},
    ),
}


def sample(name: str) -> dict[str, Any]:
    return {"labels": f'{{alertname="MatrixSidecar{name}"}}', "value": 1}


def judged(series: Mapping[str, str], firing: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """What the tool is to look at: at each minute exactly these alerts."""

    def names(minute: int) -> list[str]:
        return sorted(name for name, (first, last) in firing.items() if first <= minute < last)

    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in {**HEALTHY, **series}.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})  > bool 0',
                "eval_time": f"{minute}m",
                "exp_samples": [
                    {"labels": f'{{alertname="MatrixSidecar{name}"}}', "value": 1} for name in names(minute)
                ],
            }
            for minute in range(49)
        ],
    }


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("fault", FAULTS)
def test_which_alerts_fire_and_when(fault: str, tmp_path: Path) -> None:
    """Looked at every minute: nothing else, nothing before, and nothing that goes on when the fault is mended."""
    series, firing, _ = FAULTS[fault]
    content = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [judged(series, firing)]}
    (tmp_path / "fault.yaml").write_text(yaml.safe_dump(content))
    done = subprocess.run(
        ["promtool", "test", "rules", "fault.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# Which of them become a message.


class Alertmanager:
    """A real one, with the shipped configuration."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
        assert program is not None
        self.log = (directory / "log").open("w")
        self.process = subprocess.Popen(
            [
                program,
                f"--config.file={ALERTMANAGER}",
                f"--storage.path={directory}",
                "--cluster.listen-address=",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=self.log,
            stderr=self.log,
        )
        self.until(lambda: self.ask("GET", "/-/ready") is not None)

    def until(self, holds: Any) -> None:
        """Nothing announces that it listens, nor that it has taken what it was sent."""
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.02)

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            body = None if content is None else json.dumps(content)
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            octets = answer.read()
            assert answer.status == 200, octets
        except ConnectionRefusedError:
            return None
        finally:
            connection.close()
        return json.loads(octets) if octets[:1] in (b"[", b"{") else ""

    def messages(self, instance: str) -> tuple[set[str], set[str]]:
        """The alerts of an instance that are told, and all of them."""
        found = self.ask("GET", f"/api/v2/alerts?filter=instance%3D%22{instance}%22")
        names = {each["labels"]["alertname"].removeprefix("MatrixSidecar") for each in found}
        told = {
            each["labels"]["alertname"].removeprefix("MatrixSidecar")
            for each in found
            if each["status"]["state"] == "active"
        }
        return told, names

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.log.close()


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    running = Alertmanager(tmp_path_factory.mktemp("alertmanager"))
    yield running
    running.close()


def severity(name: str) -> str:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    return str(next(rule["labels"]["severity"] for rule in rules if rule["alert"] == f"MatrixSidecar{name}"))


@pytest.mark.needs("prometheus-alertmanager")
def test_one_cause_is_one_message(alertmanager: Alertmanager) -> None:
    """Of all that fire for a fault the cause is told, and other instances are not silenced by it."""
    alerts = [
        {
            "labels": {
                "alertname": f"MatrixSidecar{name}",
                "severity": severity(name),
                "job": "matrix-sidecar",
                "instance": fault.replace(" ", "-"),
            }
        }
        for fault, (_, firing, _) in FAULTS.items()
        for name in firing
    ]
    alertmanager.ask("POST", "/api/v2/alerts", alerts)
    for fault, (_, firing, told) in FAULTS.items():
        alertmanager.until(
            lambda fault=fault, told=told, firing=firing: (
                alertmanager.messages(fault.replace(" ", "-")) == (told, set(firing))
            )
        )


@pytest.mark.needs("amtool")
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("alertname=MatrixSidecarNotReady", "severity=critical"), "pager"),
        (("alertname=MatrixSidecarWorkerAway", "severity=warning"), "chat"),
        (("alertname=MatrixSidecarAffinityMoves", "severity=info"), "nobody"),
        (("alertname=SomethingElse", "severity=critical"), "chat"),
    ],
)
def test_who_is_told(labels: tuple[str, ...], receiver: str) -> None:
    """The configuration is one, and only what is critical wakes somebody."""
    subprocess.run(["amtool", "check-config", ALERTMANAGER], check=True, capture_output=True)
    done = subprocess.run(
        ["amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == receiver


def test_every_name_in_the_rules_of_inhibition_is_an_alert() -> None:
    """A rule about an alert that was renamed inhibits nothing."""
    known = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
    text = ALERTMANAGER.read_text()
    named = set(re.findall(r"alertname !?= (MatrixSidecar\w+)", text))
    for several in re.findall(r"MatrixSidecar\(([^)]*)\)", text):
        named |= {f"MatrixSidecar{name}" for name in several.split("|")}
    assert named <= known
    assert len(named) > 8
