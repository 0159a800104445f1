"""Curves of one line of text for `top`. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"


def spark(values: Sequence[float | None], width: int) -> str:
    """The newest `width` values, each a block as high as it is beside the highest; a blank where nothing is known."""
    shown = values[-width:] if width > 0 else ()
    top = max((value for value in shown if value is not None), default=0.0)
    return "".join(_block(value, top) for value in shown).rjust(max(width, 0))


def _block(value: float | None, top: float) -> str:
    if value is None:
        return " "
    return _BLOCKS[min(int(value / top * len(_BLOCKS)), len(_BLOCKS) - 1)] if top else _BLOCKS[0]
