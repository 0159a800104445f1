"""What agents say: the words of HAProxy's manual, and anything else that a server may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.balancing.agent import AgentAnswer, read_agent


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (b"up\n", AgentAnswer(up=True)),
        (b"UP 75%\r\nignored down", AgentAnswer(up=True, share=0.75)),
        (b"down#replica lags\n", AgentAnswer(up=False, reason="replica lags")),
        (b"stopped", AgentAnswer(up=False, reason="its agent says stopped")),
        (b"maint\n", AgentAnswer(standing="maint")),
        (b"ready,up\tmaxconn:30\n", AgentAnswer(up=True, standing="ready", most=30)),
        (b"drain", AgentAnswer(standing="drain")),
        (b"", AgentAnswer()),
        (b"down # \x1b[2J \n", AgentAnswer(up=False, reason="\\x1b[2J")),
    ],
)
def test_words(said: bytes, meant: AgentAnswer) -> None:
    assert read_agent(said) == meant


def test_what_is_not_said_stays() -> None:
    before = AgentAnswer(up=False, reason="replica", share=0.5, standing="drain")
    assert AgentAnswer(most=3).over(before) == AgentAnswer(
        up=False, reason="replica", share=0.5, standing="drain", most=3
    )
    assert AgentAnswer(up=True, standing="ready").over(before) == AgentAnswer(up=True, share=0.5, standing="ready")


@given(st.binary(max_size=200))
def test_anything_is_read(said: bytes) -> None:
    """Nothing that comes can be an error, and no control character is told."""
    assert read_agent(said).reason.isprintable()
