"""What commands print to. Knows nothing of what they print."""

from __future__ import annotations

from typing import Any, TextIO

from sidecar.errors import printable_but_coloured


class Printed:
    """A stream of text on which control characters are shown and not obeyed, wherever they came from.

    What is printed can be a name from a file of somebody else's, or the answer of any server.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def unfiltered(self) -> TextIO:
        """The stream itself, for what moves the cursor on purpose."""
        return self._stream

    def write(self, text: str) -> int:
        """As `TextIO.write`."""
        return self._stream.write(text if text.isprintable() else printable_but_coloured(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
