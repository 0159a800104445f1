"""Runs one restart command, without a shell, for a bounded time. Blocks."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from attrs import frozen

_TOLD = 2000
"""Bytes at the end of what a command says that are repeated if it fails."""
_GRACE = 5.0
"""Seconds between the polite end of a command that takes too long and the other one."""


@frozen
class CommandError(Exception):
    """It did not do what it should; `reason` is the end of a sentence, `output` the last that it said."""

    reason: str
    output: str = ""

    def __str__(self) -> str:
        return self.reason


def run(command: Sequence[str], patience: float) -> None:
    """Run it to its end. Raises CommandError.

    It has a session of its own: a Ctrl-C at the terminal does not end it in the middle of a restart.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            raise CommandError(f"cannot be run: {error.strerror}") from error
        try:
            status = process.wait(patience)
        except subprocess.TimeoutExpired:
            how = "was ended" if _end(process) else "still runs, because it belongs to another user"
            raise CommandError(f"did not end within {patience:g} s, and {how}", _tail(output.fileno())) from None
        if status:
            how = f"ended with status {status}" if status > 0 else f"was ended by {signal.Signals(-status).name}"
            raise CommandError(how, _tail(output.fileno()))


def _end(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; a program that runs as another user, as `sudo` does, cannot be ended from here."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            return True
    return False


def _tail(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, _TOLD, max(0, size - _TOLD)).decode("utf-8", "replace").strip()
