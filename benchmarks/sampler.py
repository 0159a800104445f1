"""Runs twistd and samples its Python stack by processor time. `python -m benchmarks.sampler OUTPUT TWISTD-OPTIONS…`

SIGUSR2 begins the sampling, a second one ends it and writes the stacks, a line `outer;…;inner COUNT` for each.
A sample falls where the interpreter next looks for signals, so time in the kernel or in C belongs to the Python
function that called it. A sampler that stops the process from outside was tried and saw system calls only.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from attrs import define, field

INTERVAL = 0.004
"""Seconds of processor time between samples; the kernel looks no more often."""


@define
class Sampler:
    """Counts stacks from the first `toggle` to the second."""

    output: Path
    _stacks: Counter[tuple[tuple[str, str], ...]] = field(factory=Counter)
    _running: bool = False

    @property
    def samples(self) -> int:
        """How many were taken."""
        return self._stacks.total()

    def toggle(self, _number: int, _frame: FrameType | None) -> None:
        """Handler of SIGUSR2."""
        self._running = not self._running
        interval = INTERVAL if self._running else 0.0
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, interval, interval)
        if not self._running:
            self._write()

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            stack.append((frame.f_code.co_filename, frame.f_code.co_name))
            frame = frame.f_back
        self._stacks[tuple(reversed(stack))] += 1

    def _write(self) -> None:
        begun = self.output.with_suffix(".begun")
        begun.write_text("".join(f"{';'.join(map(_named, stack))} {count}\n" for stack, count in self._stacks.items()))
        os.replace(begun, self.output)


def _named(frame: tuple[str, str]) -> str:
    path, function = frame
    return f"{function} ({'/'.join(Path(path).parts[-3:])})"


if __name__ == "__main__":
    from twisted.scripts.twistd import run

    signal.signal(signal.SIGUSR2, Sampler(Path(sys.argv[1])).toggle)
    sys.argv[:2] = ["twistd"]
    run()
