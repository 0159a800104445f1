"""What every test of the operator's listener needs."""

from __future__ import annotations

import pytest
from net.turns import reactor


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """`makeService` gives the reactor another clock; this test gives it back."""
    monkeypatch.setattr(reactor, "seconds", reactor.seconds)
