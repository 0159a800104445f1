"""One PostgreSQL and Redis for the run, one Synapse for each topology, one sidecar for each of its configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest

from .laboratory import Gateway, running_services, running_sidecar, running_synapse, scratch_directory
from .services import Services, missing
from .topology import TOPOLOGIES, Configuration

CONFIGURATIONS: tuple[Configuration, ...] = ("explicit", "three_lines")


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    if absent := missing():
        pytest.skip(f"the laboratory needs {', '.join(absent)}")
    with scratch_directory() as root, running_services(root) as running:
        yield running


@pytest.fixture(scope="session", params=TOPOLOGIES)
def gateways(request: pytest.FixtureRequest, services: Services) -> Iterator[Mapping[Configuration, Gateway]]:
    """All sidecars in front of one Synapse, side by side."""
    with ExitStack() as stack:
        laboratory = stack.enter_context(running_synapse(services, TOPOLOGIES[request.param]))
        yield {name: stack.enter_context(running_sidecar(laboratory, name)) for name in CONFIGURATIONS}


@pytest.fixture(params=CONFIGURATIONS)
def gateway(request: pytest.FixtureRequest, gateways: Mapping[Configuration, Gateway]) -> Gateway:
    gateway = gateways[request.param]
    gateway.wait_for_all()
    return gateway
