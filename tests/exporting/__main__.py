"""Writes docs/export-differences.md anew: `PYTHONPATH=tests python -m exporting`."""

from __future__ import annotations

from .measuring import PROGRAMS, measured
from .page import PAGE, page

if __name__ == "__main__":
    PAGE.write_text(page({program: measured(program) for program in PROGRAMS}), "utf-8")
