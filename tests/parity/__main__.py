"""Writes docs/parity.md anew: `PYTHONPATH=tests python -m parity`."""

from __future__ import annotations

from .measuring import find_out
from .page import PAGE, page
from .systems import SYSTEMS

if __name__ == "__main__":
    PAGE.write_text(page([find_out(system).result() for system in SYSTEMS]), "utf-8")
