"""What the remarks of `import` say of `compress: true`, held against Synapse's own code."""

from __future__ import annotations

import inspect

import pytest

homeserver = pytest.importorskip("synapse.app.homeserver")
generic_worker = pytest.importorskip("synapse.app.generic_worker")


def test_only_main_compresses() -> None:
    """Main wraps its resources where a listener says so; workers do not look at it."""
    assert "compress" in inspect.getsource(homeserver)
    assert "compress" not in inspect.getsource(generic_worker)
