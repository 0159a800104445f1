"""One PostgreSQL and Redis for the run, one Synapse for each topology, one sidecar for each of its configurations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .laboratory import Gateway, Laboratory, running_services, running_sidecar, running_synapse, scratch_directory
from .services import Services, missing
from .topology import TOPOLOGIES, Configuration

CONFIGURATIONS: tuple[Configuration, ...] = ("explicit",)


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    if absent := missing():
        pytest.skip(f"the laboratory needs {', '.join(absent)}")
    with scratch_directory() as root, running_services(root) as running:
        yield running


@pytest.fixture(scope="session", params=TOPOLOGIES)
def laboratory(request: pytest.FixtureRequest, services: Services) -> Iterator[Laboratory]:
    with running_synapse(services, TOPOLOGIES[request.param]) as running:
        yield running


@pytest.fixture(scope="session", params=CONFIGURATIONS)
def gateway(request: pytest.FixtureRequest, laboratory: Laboratory) -> Iterator[Gateway]:
    with running_sidecar(laboratory, request.param) as running:
        yield running
