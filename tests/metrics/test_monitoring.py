"""The alert rules and the dashboard: of metrics that there are, valid for Prometheus, and firing when they must."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages.metrics import PAGE

from sidecar.metrics.catalogue import METRICS, PREFIX

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "conf" / "alerts.yaml"
DASHBOARD = ROOT / "conf" / "grafana-dashboard.json"
OTHERS = {"up"}
OF_PROMETHEUS = {"instance", "job", "le"}
"""Labels that it adds."""


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """With where each stands."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for annotation in json.loads(DASHBOARD.read_text())["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def plain(expression: str) -> str:
    """An expression without Grafana's variables."""
    return re.sub(r"\$\w+", ".*", expression.replace("$__rate_interval", "5m"))


def series() -> dict[str, set[str]]:
    """The labels of every series that a sidecar has."""
    known: dict[str, set[str]] = {name: set() for name in OTHERS}
    for metric in METRICS.values():
        names = [metric.full_name]
        if metric.kind == "histogram":
            names = [f"{metric.full_name}{suffix}" for suffix in ("_bucket", "_sum", "_count")]
        known |= {name: set(metric.labels) for name in names}
    known |= {name: set() for name in re.findall(r"`((?:process|python)_\w+)`", PAGE.read_text())}
    return known


@pytest.mark.parametrize(("place", "expression"), list(expressions()))
def test_metrics_and_labels_are_there(place: str, expression: str) -> None:
    """A panel or an alert of a metric that was renamed would be silent for ever."""
    known = series()
    used = re.findall(rf"\b({PREFIX}\w+|process_\w+|python_\w+|up)\b", plain(expression))
    assert used
    labels = {label for name in used for label in known[name]} | OF_PROMETHEUS
    for name, selector in re.findall(r"(\w+)\{([^}]*)\}", plain(expression)):
        for label in re.findall(r"(\w+)\s*[=!]", selector):
            assert label in known[name] | OF_PROMETHEUS, (place, name, label)
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        assert {label.strip() for label in group.split(",")} - {""} <= labels, place


def kept(expression: str) -> set[str]:
    """The labels that the result of an expression has."""
    grouped = re.search(r"\bby \(([^)]*)\)", expression)
    if grouped:
        return set(grouped[1].split(", "))
    name = re.search(r"(\w+)\{", expression)
    assert name is not None
    return series()[name[1]] | OF_PROMETHEUS


def test_panels_say_what_they_show() -> None:
    """Each has a description, a place of its own, and as legend only labels that its expression keeps."""
    taken: set[tuple[int, int]] = set()
    identifiers = [panel["id"] for panel in panels()]
    assert len(set(identifiers)) == len(identifiers)
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith((".", "?")), panel["title"]
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in kept(target["expr"]), panel["title"]


def test_rules_say_what_to_do() -> None:
    """Name, severity, what happened, and what to look at; each name once."""
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description"}
        for text in rule["annotations"].values():
            for label in re.findall(r"\$labels\.(\w+)", text):
                assert label in rule["expr"] or label in OF_PROMETHEUS | set().union(*series().values())


def test_every_rule_is_tested() -> None:
    """One that never fired in a test may be one that never fires."""
    expected = (Path(__file__).parent / "alerts.yaml").read_text()
    for rule in rules():
        assert f'alertname="{rule["alert"]}"' in expected, rule["alert"]


def promtool(*arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        ["promtool", *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.needs("promtool")
def test_rules_are_valid(tmp_path: Path) -> None:
    """As Prometheus reads them."""
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", ALERTS, cwd=tmp_path)


@pytest.mark.needs("promtool")
def test_rules_fire_when_they_must(tmp_path: Path) -> None:
    """Not one where all is well, and each where it is not."""
    (tmp_path / "alerts-under-test.yaml").write_text(ALERTS.read_text())
    (tmp_path / "tests.yaml").write_text((Path(__file__).parent / "alerts.yaml").read_text())
    assert "SUCCESS" in promtool("test", "rules", "tests.yaml", cwd=tmp_path)


@pytest.mark.needs("promtool")
def test_expressions_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    """Written as recording rules, which Prometheus' tool can check."""
    recorded = [{"record": f"panel:{number}", "expr": plain(text)} for number, (_, text) in enumerate(expressions())]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    assert f"SUCCESS: {len(recorded)} rules found" in promtool("check", "rules", path, cwd=tmp_path)


IDLE = """
      - {series: 'matrix_sidecar_ready{instance="a"}', values: "1x9"}
      - {series: 'matrix_sidecar_worker_up{instance="a", worker="sync1"}', values: "1x9"}
      - {series: 'matrix_sidecar_requests_parked{instance="a"}', values: "0x9"}
      - {series: 'matrix_sidecar_requests_total{instance="a", pool="sync", endpoint="sync", code="2xx"}', values: "7x9"}
      - {series: 'matrix_sidecar_worker_requests_total{instance="a", pool="sync", worker="sync1"}', values: "7x9"}
      - {series: 'matrix_sidecar_affinity_moves_total{instance="a", pool="sync", worker="sync1"}', values: "0x9"}
      - {series: 'matrix_sidecar_first_byte_seconds_bucket{instance="a", worker="w", pool="x", le="1"}', values: "7x9"}
      - {series: 'matrix_sidecar_first_byte_seconds_bucket{instance="a", worker="w", pool="x", le="+Inf"}', values: 7x9}
"""
"""A sidecar that had seven requests long ago, and has counted nothing that went wrong."""


@pytest.mark.needs("promtool")
def test_a_quiet_sidecar_has_zeros_and_no_gaps(tmp_path: Path) -> None:
    """Everything that is a rate or a quantile is a number, not «no data» and not NaN."""
    counted = [text for place, text in expressions() if ("rate(" in text or "parked" in text) and place[:6] != "Matrix"]
    counted = [text.replace('job=~"$job",', "") for text in counted if "process_" not in text]
    assert len(counted) > 15
    checks = [
        {"expr": f"count({plain(text)}) > bool 0", "eval_time": "9m", "exp_samples": [{"labels": "{}", "value": 1}]}
        for text in counted
    ]
    checks += [{"expr": f"({plain(text)}) != ({plain(text)})", "eval_time": "9m"} for text in counted]
    test = {"interval": "1m", "input_series": yaml.safe_load(IDLE), "promql_expr_test": checks}
    (tmp_path / "quiet.yaml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    assert "SUCCESS" in promtool("test", "rules", "quiet.yaml", cwd=tmp_path)
