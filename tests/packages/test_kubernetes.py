"""The manifests: valid for the API server, whole, and with a configuration that the sidecar takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.loading.deployment import read_deployment

ESS = {
    "01-homeserver-underrides": {"report_stats": False},
    "04-homeserver-overrides": {
        "server_name": "example.org",
        "database": {"name": "psycopg2", "args": {"password": "${SYNAPSE_POSTGRES_PASSWORD}"}},
        "redis": {"enabled": True, "host": "ess-redis"},
        "instance_map": {
            "main": {"host": "ess-synapse-main", "port": 9093},
            "ess-synapse-event-persist-0": {
                "host": "ess-synapse-event-persist-0.ess-synapse-event-persist",
                "port": 9093,
            },
            "ess-synapse-typing-0": {"host": "ess-synapse-typing-0.ess-synapse-typing", "port": 9093},
        },
        "stream_writers": {"events": ["ess-synapse-event-persist-0"], "typing": ["ess-synapse-typing-0"]},
    },
    "05-main": {
        "worker_app": "synapse.app.homeserver",
        "listeners": [{"port": 8008, "type": "http", "resources": [{"names": ["client", "federation"]}]}],
        "enable_media_repo": True,
    },
}
"""Files of the shape that the chart's ConfigMap has."""
PLACE = Path(__file__).parents[2] / "conf" / "kubernetes"
MANIFESTS = ("deployment", "disruption", "network", "service")
RELEASES = ("1.29", "1.34")
"""Of Kubernetes: the oldest that clouds still run, and a new one."""


def manifests() -> Iterator[dict[str, Any]]:
    for name in MANIFESTS:
        yield from yaml.safe_load_all((PLACE / f"{name}.yaml").read_text())


def kustomization() -> dict[str, Any]:
    return dict(yaml.safe_load((PLACE / "kustomization.yaml").read_text()))


@pytest.mark.parametrize("release", RELEASES)
def test_the_api_takes_every_manifest(release: str) -> None:
    """By its schema, which knows no key that is misspelt."""
    validate = pytest.importorskip("kubernetes_validate").validate
    for manifest in manifests():
        validate(manifest, release, strict=True)


def test_everything_is_brought_together() -> None:
    """Each file is named once in the kustomization, and what the pod mounts is made there."""
    kustomize = kustomization()
    generated = {each["name"]: each["files"] for each in kustomize["configMapGenerator"]}
    named = [*kustomize["resources"], *(file for files in generated.values() for file in files)]
    assert sorted(named) == sorted(file.name for file in PLACE.glob("*.yaml") if file.name != "kustomization.yaml")
    (deployment,) = (manifest for manifest in manifests() if manifest["kind"] == "Deployment")
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    assert {volume["configMap"]["name"] for volume in volumes if "configMap" in volume} == set(generated)


def test_what_is_selected_is_what_the_pods_are_called() -> None:
    """By Service, budget, policy and Deployment; and ports are named as the container names them."""
    by_kind = {manifest["kind"]: manifest["spec"] for manifest in manifests()}
    template = by_kind["Deployment"]["template"]
    (container,) = template["spec"]["containers"]
    labels = template["metadata"]["labels"]
    assert by_kind["Service"]["selector"] == labels
    assert by_kind["Deployment"]["selector"]["matchLabels"] == labels
    assert by_kind["PodDisruptionBudget"]["selector"]["matchLabels"] == labels
    assert by_kind["NetworkPolicy"]["podSelector"]["matchLabels"] == labels
    ports = {port["name"] for port in container["ports"]}
    asked = {container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "liveness", "readiness")}
    let_in = {port["port"] for rule in by_kind["NetworkPolicy"]["ingress"] for port in rule["ports"]}
    assert asked | let_in | {port["targetPort"] for port in by_kind["Service"]["ports"]} == ports


def test_the_configuration_is_one_that_the_sidecar_takes(tmp_path: Path) -> None:
    """With the files of Synapse beside it; it finds each worker at its name, drains in time, and has the ports."""
    for file in PLACE.glob("*.yaml"):
        (tmp_path / file.name).write_text(file.read_text().replace("/etc/synapse/", f"{tmp_path}/"))
    deployment = read_deployment(str(tmp_path / "sidecar.yaml"), version="1.163.2")
    assert [str(problem) for problem in deployment.problems] == []
    workers = deployment.plan.workers
    assert set(workers) == {"main", "sync-0", "sync-1", "client-0"}
    assert all(re.fullmatch(r"tcp:[a-z0-9.-]+\.svc\.cluster\.local:\d+", each.endpoint) for each in workers.values())
    (container,) = (spec := next(iter(manifests()))["spec"]["template"]["spec"])["containers"]
    assert spec["terminationGracePeriodSeconds"] > deployment.settings.timeouts.drain
    ports = {port["containerPort"] for port in container["ports"]}
    assert {f"tcp:{port}" for port in ports} == {*deployment.settings.listen, deployment.settings.admin}


def test_beside_the_chart_of_ess_each_stream_goes_to_its_writer(tmp_path: Path) -> None:
    """Which the chart's own files say, although they have no worker's name."""
    text = (PLACE / "ess" / "sidecar.yaml").read_text()
    (tmp_path / "sidecar.yaml").write_text(text.replace("/etc/synapse/", f"{tmp_path}/"))
    for name, values in ESS.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
    deployment = read_deployment(str(tmp_path / "sidecar.yaml"), version="1.163.2")
    assert [str(problem) for problem in deployment.problems] == []
    pools = {name: list(pool.workers) for name, pool in deployment.plan.pools.items()}
    assert pools["typing"] == ["ess-synapse-typing-0"]
    assert pools["events"] == ["ess-synapse-event-persist-0"]
    assert pools["sync"] == ["ess-synapse-synchrotron-0", "ess-synapse-synchrotron-1"]


def test_the_chart_of_ess_sends_everything_to_the_service() -> None:
    """By its Ingress, with the name and the port that the Service here has."""
    (service,) = (manifest for manifest in manifests() if manifest["kind"] == "Service")
    values = yaml.safe_load((PLACE / "ess" / "values.yaml").read_text())
    paths = {each["path"]: each["service"] for each in values["synapse"]["ingress"]["additionalPaths"]}
    assert set(paths) == {"/_matrix", "/_synapse"}
    for target in paths.values():
        assert target["name"] == service["metadata"]["name"]
        assert target["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
