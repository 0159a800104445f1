"""A program at a real pseudo-terminal, answered as soon as it asks."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
from codecs import getincrementaldecoder
from collections.abc import Sequence
from types import TracebackType

from processes import PATIENCE, ROOT, environment


class Terminal:
    """Runs a command with a terminal for all three streams; ended with the block."""

    def __init__(self, command: Sequence[str], **more: str) -> None:
        """`more` goes into the environment."""
        self._fd, inner = pty.openpty()
        self.said = ""
        self._heard = 0
        self._decoder = getincrementaldecoder("utf-8")()
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=inner, stdout=inner, stderr=inner, env=environment(**more), start_new_session=True
        )
        os.close(inner)

    def _read(self) -> bool:
        """Take in what it says next; False at its end."""
        assert select.select([self._fd], [], [], PATIENCE)[0], f"nothing more was said after {self.said!r}"
        try:
            piece = os.read(self._fd, 65536)
        except OSError:
            return False  # the other end is closed
        self.said += self._decoder.decode(piece)
        return bool(piece)

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until something matches in what it has said since the last time."""
        while not (found := re.search(pattern, self.said[self._heard :])):
            assert self._read(), f"{pattern!r} was not said in {self.said[self._heard :]!r}"
        self._heard += found.end()
        return found

    def types(self, text: str) -> None:
        """As at a keyboard."""
        os.write(self._fd, text.encode())

    def answers(self, question: str, answer: str) -> None:
        """Wait for a question and answer it."""
        self.says(question)
        self.types(answer + "\n")

    def ends(self) -> int:
        """Wait for its end; the exit status."""
        while self._read():
            pass
        return self._process.wait(PATIENCE)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)
