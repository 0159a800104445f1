"""`top` at a terminal: curses draws, a thread asks, keys change what is shown. Knows nothing of what the lines say."""

from __future__ import annotations

import curses
import locale
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from attrs import define, evolve, field

from sidecar.admin.snapshot import Snapshot
from sidecar.top.operator_client import OperatorClient, SilentSidecarError
from sidecar.top.screen import screen
from sidecar.top.state import Action, Maintaining, Setting, TopState, press, told, untold
from sidecar.top.styled import Line, Style

_TICK = 100
"""Milliseconds after which the screen is looked at again where no key is pressed."""
_KEYS = {
    "KEY_UP": "up",
    "KEY_DOWN": "down",
    "KEY_LEFT": "left",
    "KEY_RIGHT": "right",
    "KEY_PPAGE": "page up",
    "KEY_NPAGE": "page down",
    "KEY_HOME": "home",
    "KEY_END": "end",
    "KEY_BTAB": "shift tab",
    "KEY_BACKSPACE": "backspace",
    "\x7f": "backspace",
    "\b": "backspace",
    "\n": "enter",
    "\r": "enter",
    "\x1b": "escape",
    "\t": "tab",
    "\x03": "q",
}
_ASCII = str.maketrans({**dict.fromkeys("▁▂▃▄▅▆▇█", "."), "–": "-", "…": "~"})  # noqa: RUF001
_COLOURS: dict[Style, int] = {"good": curses.COLOR_GREEN, "warm": curses.COLOR_YELLOW, "bad": curses.COLOR_RED}


@define(eq=False)
class Refresher:
    """Asks again and again in a thread of its own; what came of it last can be read at any time."""

    operator: OperatorClient
    interval: float
    """Seconds from one answer to the next question."""
    facts: Snapshot | None = None
    trouble: str = ""
    answered: float = field(factory=time.monotonic)
    _soon: threading.Event = field(factory=threading.Event)
    _ended: bool = False

    def run(self) -> None:
        """Until `end`."""
        while not self._ended:
            self._soon.clear()
            try:
                self.facts, self.trouble, self.answered = self.operator.look_at_all(), "", time.monotonic()
            except SilentSidecarError as error:
                self.trouble = str(error)
            self._soon.wait(self.interval)

    def hurry(self) -> None:
        """Ask at once."""
        self._soon.set()

    def end(self) -> None:
        """Ask nothing any more."""
        self._ended = True
        self._soon.set()

    def newest(self, state: TopState) -> TopState:
        """The state with what is known now."""
        if self.facts is not None and self.facts is not state.facts:
            state = told(state, self.facts)
        if self.trouble:
            return untold(state, self.trouble, time.monotonic() - self.answered)
        return evolve(state, trouble="") if state.trouble else state


class NoScreenError(Exception):
    """The terminal is none on which one can draw; the text says why."""


def show(operator: OperatorClient, interval: float, *, colours: bool) -> None:
    """Show until the user has enough. Raises NoScreenError."""
    locale.setlocale(locale.LC_ALL, "")
    asker = Refresher(operator, interval)
    # A daemon, so that a sidecar that hangs does not keep the user waiting.
    threading.Thread(target=asker.run, daemon=True).start()
    try:
        curses.wrapper(lambda window: _Terminal(window, colours=colours).run(asker))
    except KeyboardInterrupt:
        return
    except curses.error as error:
        raise NoScreenError(f"This terminal cannot be drawn on ({error}); try --once.") from error
    finally:
        asker.end()


class _Terminal:
    def __init__(self, window: Any, *, colours: bool) -> None:
        self._window = window
        self._styles = _styles(colours)
        self._unicode = locale.getpreferredencoding(do_setlocale=False).lower().replace("-", "") == "utf8"
        curses.curs_set(0)
        window.timeout(_TICK)

    def run(self, asker: Refresher) -> None:
        state = TopState()
        while not state.ended:
            state = asker.newest(state)
            self._draw(screen(state, *self._size()))
            state, action = press(state, self._key())
            if action is not None:
                state = self._act(state, action, asker)

    def _act(self, state: TopState, action: Action | Maintaining | Setting, asker: Refresher) -> TopState:
        self._draw(screen(evolve(state, message="…"), *self._size()))
        try:
            if isinstance(action, Setting):
                message = asker.operator.set_value(
                    action.worker, action.what, action.text, everywhere=action.everywhere
                )
            elif isinstance(action, Maintaining):
                message = asker.operator.maintain(action.on, {"all": ""} if action.everywhere else {})
            else:
                message = asker.operator.drain(action.worker, drain=action.drain, everywhere=action.everywhere)
        except SilentSidecarError as error:
            message = str(error)
        asker.hurry()
        return evolve(state, message=message)

    def _size(self) -> tuple[int, int]:
        """Asked of the terminal itself: the signal for a new size can be lost among keys."""
        with suppress(OSError):
            width, height = os.get_terminal_size()
            if curses.is_term_resized(height, width):
                curses.resizeterm(height, width)
        height, width = self._window.getmaxyx()
        return width, height

    def _key(self) -> str:
        try:
            key = self._window.get_wch()
        except curses.error:
            return ""
        name = key if isinstance(key, str) else curses.keyname(key).decode("ascii", "replace")
        return _KEYS.get(name, name if isinstance(key, str) else "")

    def _draw(self, lines: Sequence[Line]) -> None:
        self._window.erase()
        # What has no room, because the terminal has become smaller in this moment or a letter is wider, is left out.
        # Of the very last cell curses complains when it has filled it.
        with suppress(curses.error):
            for row, line in enumerate(lines):
                self._window.move(row, 0)
                for piece in line:
                    text = piece.text if self._unicode else piece.text.translate(_ASCII)
                    self._window.addstr(text, self._styles[piece.style])
        self._window.refresh()


def _styles(colours: bool) -> dict[Style, int]:
    styles: dict[Style, int] = {
        "plain": curses.A_NORMAL,
        "bold": curses.A_BOLD,
        "soft": curses.A_DIM,
        "good": curses.A_NORMAL,
        "warm": curses.A_BOLD,
        "bad": curses.A_BOLD,
        "bar": curses.A_REVERSE,
        "chosen": curses.A_REVERSE,
        "title": curses.A_UNDERLINE,
    }
    if colours and curses.has_colors():
        curses.use_default_colors()
        for number, (style, colour) in enumerate(_COLOURS.items(), start=1):
            curses.init_pair(number, colour, -1)
            styles[style] |= curses.color_pair(number)
    return styles


def plain(operator: OperatorClient, width: int, height: int, print_: Callable[[str], None]) -> None:
    """One screen as text. Raises SilentSidecarError."""
    state = told(TopState(), operator.look_at_all(wait=True))
    for line in screen(state, width, height)[:-1]:
        print_("".join(piece.text for piece in line).rstrip())
