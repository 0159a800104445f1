"""Following a servlet's code through handlers and stores: what a process lacks of it, and what is no lack."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from sidecar.synapse.reach import Reach, only_in

CODE = """
import functools

def traced(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)
    return wrapper

class WorkerStore:
    def read(self):
        return self.run(self._read_txn)

    def run(self, function):
        return function()

    def _read_txn(self):
        return 1

class Store(WorkerStore):
    def only_main(self):
        return 2

class BaseHandler:
    def __init__(self, hs):
        self.hs, self.store = hs, hs.get_datastores().main
        self.by_name = {"one": self.registered}

    def visible(self):
        raise NotImplementedError

    def works(self):
        return self.store.read()

    def registered(self):
        return self.store.only_main()

class Handler(BaseHandler):
    def visible(self):
        return True

    def works(self):
        return super().works()

class Made:
    def __init__(self, store):
        self.helper = store

    def later(self):
        return self.helper.only_main()

class HomeServer:
    config = None

    def __init__(self, store, handler):
        self.store = store
        self.handler = handler(self)

    def get_datastores(self):
        return self

    main = property(lambda self: self.store)

    def get_handler(self):
        return self.handler

class Servlet:
    def __init__(self, hs):
        self.hs, self.handler, self.store = hs, hs.get_handler(), hs.get_datastores().main

    @traced
    def direct(self):
        return self.store.only_main()

    def fine(self):
        return self.handler.works()

    def by_getter(self):
        handler = self.hs.get_handler()
        return handler.visible()

    def by_table(self, name):
        return self.handler.by_name[name]()

    def by_callback(self):
        def inner(made):
            return made.only_main()
        return inner

    def by_object(self):
        return Made(self.store).later()

    def by_function(self):
        return helper(self.hs)

    def guarded(self):
        if self.hs.config.worker:
            return None
        return self.store.only_main()

    def elsewhere(self):
        return self.somebody.else_s.method()

def helper(hs):
    return hs.get_handler().store.only_main()

main = HomeServer(Store(), Handler)
worker = HomeServer(WorkerStore(), BaseHandler)
"""


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Synapse of one module, with a main process and a worker."""
    package = tmp_path / "synapse"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "pretend.py").write_text(CODE, "utf-8")
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "synapse"}
    monkeypatch.syspath_prepend(tmp_path)
    yield import_module("synapse.pretend")
    for name in [name for name in sys.modules if name.partition(".")[0] == "synapse"]:
        del sys.modules[name]
    sys.modules.update(hidden)


@pytest.mark.parametrize(
    ("method", "lacks"),
    [
        ("direct", ["only_main in Servlet.direct"]),
        ("fine", []),
        ("by_getter", ["BaseHandler.visible in BaseHandler.visible"]),
        ("by_table", ["only_main in BaseHandler.registered"]),
        ("by_callback", ["only_main in Servlet.by_callback"]),
        ("by_object", ["only_main in Made.later"]),
        ("by_function", ["only_main in helper"]),
        ("guarded", ["only_main in Servlet.guarded"]),
        ("elsewhere", ["Servlet.somebody in Servlet.elsewhere"]),
    ],
)
def test_what_a_worker_lacks(pretend: Any, method: str, lacks: list[str]) -> None:
    """Through decorators, getters, tables of functions, functions within functions, and objects made on the way."""
    reach = Reach(pretend.worker, only_in(pretend.main, pretend.worker))
    assert sorted(map(str, reach.lacks(getattr(pretend.Servlet(pretend.worker), method)))) == lacks


def test_main_lacks_nothing_of_its_own(pretend: Any) -> None:
    """What main seems to lack is what no reader of code can know, and no worker is blamed for it."""
    reach, servlet = Reach(pretend.main), pretend.Servlet(pretend.main)
    own = [name for name, value in vars(pretend.Servlet).items() if callable(value) and name != "__init__"]
    lacks = {name: sorted(map(str, reach.lacks(getattr(servlet, name)))) for name in own}
    assert {name: found for name, found in lacks.items() if found} == {
        "elsewhere": ["Servlet.somebody in Servlet.elsewhere"]
    }


def test_what_is_not_of_synapse_is_not_followed(pretend: Any) -> None:
    """Neither the standard library nor what has no source."""
    reach = Reach(pretend.worker)
    assert reach.lacks(len) == reach.lacks(sys.exit) == reach.lacks(Path.read_text) == frozenset()
