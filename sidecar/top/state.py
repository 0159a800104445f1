"""What `top` shows at a moment, and what a key changes of it. Pure: knows no terminal and asks nobody."""

from __future__ import annotations

from typing import Literal

from attrs import evolve, frozen

from sidecar.admin.columns import COLUMNS, ordered
from sidecar.admin.operator_answer import FILE
from sidecar.admin.snapshot import Snapshot, WorkerFacts

View = Literal["workers", "pools", "balancers", "endpoints", "events", "notes", "instances"]
VIEWS: tuple[View, ...] = ("workers", "pools", "balancers", "endpoints", "events", "notes", "instances")
ORDERS = ("", *COLUMNS)
LONGEST_FILTER = 40
LONGEST_VALUE = 10
_DENIED = "Nothing can be done here, because `operator.actions` is `none`."
PAGE = 10
"""How far PgUp and PgDn go."""


@frozen
class Action:
    """What is to be done because of a key."""

    worker: str
    drain: bool
    everywhere: bool = False
    """On all instances."""


@frozen
class Maintaining:
    """Maintenance mode is to begin, or to end."""

    on: bool
    everywhere: bool = False
    """On all instances."""


@frozen
class Setting:
    """A value that is being typed, and is then set."""

    worker: str
    what: str
    """`weight` or `maximum`."""
    text: str
    everywhere: bool = False
    """On all instances."""


@frozen(kw_only=True)
class TopState:
    """What is shown. `chosen` is the name of a worker; `asked` an action that waits for a yes."""

    facts: Snapshot | None = None
    trouble: str = ""
    """Why there is no fresh answer."""
    age: float = 0.0
    """Seconds since the last answer."""
    view: View = "workers"
    order: str = ""
    backwards: bool = False
    chosen: str = ""
    help: bool = False
    asked: Action | Maintaining | None = None
    setting: Setting | None = None
    """A value is being typed."""
    message: str = ""
    filter: str = ""
    """Only lines that have this in them, and workers whose name has, are shown."""
    typing: bool = False
    """What is typed goes into the filter."""
    scroll: int = 0
    """How many lines of the pools or the notes are above the screen."""
    ended: bool = False

    @property
    def workers(self) -> list[WorkerFacts]:
        """In the order in which they are shown."""
        if self.facts is None:
            return []
        wanted = self.filter.lower()
        found = [worker for worker in ordered(self.facts, self.order) if wanted in worker.name.lower()]
        return found[::-1] if self.backwards else found

    @property
    def place(self) -> int:
        """Where the chosen worker is among them; the first, if it is not there any more."""
        return next((index for index, worker in enumerate(self.workers) if worker.name == self.chosen), 0)


def told(state: TopState, facts: Snapshot) -> TopState:
    """The sidecar has answered."""
    return evolve(state, facts=facts, trouble="", age=0.0)


def untold(state: TopState, trouble: str, age: float) -> TopState:
    """It has not."""
    return evolve(state, trouble=trouble, age=age)


def press(state: TopState, key: str) -> tuple[TopState, Action | Maintaining | Setting | None]:
    """What a key does; keys that are not printable have names such as `up` and `page down`, and no key is empty."""
    if not key:
        return state, None
    if state.help:
        return evolve(state, help=False, ended=key == "q"), None
    if state.typing:
        return _typed(state, key), None
    if state.setting is not None:
        return _set(state, state.setting, key)
    if state.asked is not None:
        action = _answered(state.asked, key)
        return evolve(state, asked=None, message="Nothing was done." if action is None else ""), action
    state = evolve(state, message="")
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -PAGE, "page down": PAGE, "home": -9999, "end": 9999}
    if key in steps:
        return _moved(state, steps[key]), None
    match key:
        case "q":
            return evolve(state, ended=True), None
        case "?" | "h":
            return evolve(state, help=True), None
        case "tab" | "shift tab":
            step = 1 if key == "tab" else -1
            view = VIEWS[(VIEWS.index(state.view) + step) % len(VIEWS)]
            return evolve(state, view=view, scroll=0), None
        case "s" | ">" | "right" | "S" | "<" | "left":
            step = 1 if key in ("s", ">", "right") else -1
            return evolve(state, order=ORDERS[(ORDERS.index(state.order) + step) % len(ORDERS)]), None
        case "/":
            return evolve(state, typing=True), None
        case "escape":
            return evolve(state, filter="", scroll=0), None
        case "r":
            return evolve(state, backwards=not state.backwards), None
        case "d" | "u":
            return _asked(state, drain=key == "d"), None
        case "M":
            return _maintained(state), None
        case "w" | "m":
            return _begun(state, "weight" if key == "w" else "maximum"), None
    return state, None


def _answered(asked: Action | Maintaining, key: str) -> Action | Maintaining | None:
    """What is done after a question: on all instances, on the one that was asked only, or nothing."""
    if key in ("o", "O") and asked.everywhere:
        return evolve(asked, everywhere=False)
    return asked if key in ("y", "Y") else None


def _typed(state: TopState, key: str) -> TopState:
    """A key while the filter is written; Enter ends that, Escape empties the filter too."""
    if key in ("enter", "escape"):
        return evolve(state, typing=False, filter=state.filter if key == "enter" else "")
    if key == "backspace":
        return evolve(state, filter=state.filter[:-1])
    more = key if len(key) == 1 and key.isprintable() else ""
    return evolve(state, filter=(state.filter + more)[:LONGEST_FILTER], scroll=0)


def _set(state: TopState, setting: Setting, key: str) -> tuple[TopState, Setting | None]:
    """A key while a value is typed; Enter sets it, `o` here only, nothing typed is the file's value, Escape ends."""
    if key == "escape":
        return evolve(state, setting=None, message="Nothing was done."), None
    if key == "enter" or (key in ("o", "O") and setting.everywhere):
        everywhere = setting.everywhere and key == "enter"
        return evolve(state, setting=None), evolve(setting, text=setting.text or FILE, everywhere=everywhere)
    text = setting.text[:-1] if key == "backspace" else setting.text
    more = key if len(key) == 1 and (key.isdecimal() or key == ".") else ""
    return evolve(state, setting=evolve(setting, text=(text + more)[:LONGEST_VALUE])), None


def _moved(state: TopState, step: int) -> TopState:
    if state.view != "workers":
        return evolve(state, scroll=max(0, state.scroll + step))
    workers = state.workers
    if not workers:
        return state
    return evolve(state, chosen=workers[min(max(state.place + step, 0), len(workers) - 1)].name)


def _hindrance(state: TopState) -> str:
    """Why nothing can be done to a worker now; empty if it can."""
    if state.view != "workers" or state.facts is None or not state.workers:
        return "Choose a worker first; Tab leads to them."
    return _DENIED if state.facts.actions == "none" else ""


def _several(state: TopState) -> bool:
    """Whether there are instances besides the one that is asked."""
    return state.facts is not None and bool(state.facts.instances)


def _begun(state: TopState, what: str) -> TopState:
    """A value is going to be typed, unless there is no worker to have it."""
    if _hindrance(state):
        return evolve(state, message=_hindrance(state))
    name = state.workers[state.place].name
    return evolve(state, chosen=name, setting=Setting(name, what, "", _several(state)))


def _maintained(state: TopState) -> TopState:
    """The question before maintenance mode begins or ends."""
    if state.facts is None or state.facts.actions == "none":
        return evolve(state, message=_DENIED if state.facts is not None else "")
    return evolve(state, asked=Maintaining(state.facts.maintenance is None, _several(state)))


def _asked(state: TopState, *, drain: bool) -> TopState:
    """The question before an action, or why there is none."""
    if _hindrance(state):
        return evolve(state, message=_hindrance(state))
    worker = state.workers[state.place]
    if worker.drained if drain else worker.undrained:
        return evolve(state, message=f"{worker.name} is {'draining already' if drain else 'not draining'}.")
    return evolve(state, chosen=worker.name, asked=Action(worker.name, drain, _several(state)))
