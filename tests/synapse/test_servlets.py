"""Asking Synapse: the walk over its resources, the conditions, and the tool around them.

The Synapse here is a stand-in of a few lines; `test_table_regenerates.py` asks the real one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from twisted.web.resource import Resource

from sidecar.synapse import servlets
from sidecar.synapse.overlay import Entry, Overlay, OverlayError
from sidecar.synapse.registrations import ProbeError, Recorded, Registration, name_of, registrations
from sidecar.synapse.servlets import (
    Presence,
    Presences,
    conditions,
    experimental_options,
    installed_facts,
    presence,
    together,
)
from sidecar.synapse.table import TABLE, Fact, read_table, text_of_table

STAND_IN = {
    "synapse/__init__.py": "",
    "synapse/config/__init__.py": "",
    "synapse/config/_base.py": "class ConfigError(Exception):\n    pass\n",
    "synapse/config/experimental.py": """
def read(experimental):
    experimental.get("msc1_enabled", False)
    experimental.get("msc2_enabled", False)
    experimental.get("on_anyway", True)
""",
    "synapse/config/homeserver.py": """
from types import SimpleNamespace
from ._base import ConfigError

class HomeServerConfig:
    def parse_config_dict(self, settings, config_dir_path, data_dir_path):
        self.settings = settings
        features = settings.get("experimental_features", {})
        if features.get("msc2_enabled"):
            raise ConfigError("msc2 is not for you")
        if settings.get("refused"):
            raise ConfigError("refused")
        def listeners(found):
            return [
                SimpleNamespace(http_options=SimpleNamespace(resources=[SimpleNamespace(names=resource["names"])]))
                for listener in found
                for resource in listener["resources"]
            ]
        self.worker = SimpleNamespace(worker_listeners=listeners(settings.get("worker_listeners", [])))
        self.server = SimpleNamespace(server_name=settings["server_name"], listeners=listeners(settings["listeners"]))
""",
    "synapse/http/__init__.py": "",
    "synapse/http/server.py": """
from twisted.web.resource import Resource

class JsonResource(Resource):
    isLeaf = True

    def register_paths(self, method, path_patterns, callback, servlet_classname):
        assert list(path_patterns)
""",
    "synapse/app/__init__.py": "",
    "synapse/app/_base.py": "def listen_http(*arguments):\n    raise AssertionError('a port would be opened')\n",
    "synapse/app/homeserver.py": """
import re
from types import SimpleNamespace
from twisted.web.resource import Resource
from ..config._base import ConfigError
from ..http.server import JsonResource

def listen_http(*arguments):
    raise AssertionError("a port would be opened")

def tree(hs, settings, name, is_worker):
    root, matrix, client = Resource(), Resource(), JsonResource()
    root.putChild(b"_matrix", matrix)
    matrix.putChild(b"client", client)
    features = settings.get("experimental_features", {})
    paths = ["/sync$"] + ["/logout$"] * (not is_worker) + ["/msc1$"] * bool(features.get("msc1_enabled"))
    if settings.get("enable_media_repo", True):
        paths.append("/media$")
    if name == "client":
        for path in paths:
            patterns = iter([re.compile("^/_matrix/client/(r0|v3)" + path)])
            client.register_paths("GET", patterns, Servlet(hs).on_GET if path == "/media$" else None, "SomeRestServlet")
    return root

class Servlet:
    def __init__(self, hs):
        self.store = hs.get_datastores().main

    async def on_GET(self, request):
        return await self.store.get_token()

class WorkerStore:
    pass

class Store(WorkerStore):
    async def get_token(self):
        return "token"

class SynapseHomeServer:
    store = Store()

    def __init__(self, hostname, config):
        self.config = config

    def setup(self):
        pass

    def get_datastores(self):
        return SimpleNamespace(main=self.store)

    def _listener_http(self, config, listener):
        name = listener.http_options.resources[0].names[0]
        if name == "consent":
            raise ConfigError("no consent here")
        return listen_http(self, listener, tree(self, config.settings, name, False))
""",
    "synapse/app/generic_worker.py": """
from . import _base, homeserver

class GenericWorkerServer(homeserver.SynapseHomeServer):
    store = homeserver.WorkerStore()

    def _listen_http(self, listener):
        name = listener.http_options.resources[0].names[0]
        _base.listen_http(self, listener, homeserver.tree(self, self.config.settings, name, True))
""",
    "authlib/__init__.py": "",
    "saml2/__init__.py": "",
    "lxml/__init__.py": "",
}


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `synapse` that registers three endpoints; gone afterwards."""
    for name, text in STAND_IN.items():
        file = tmp_path / "site" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    names = ("synapse", "authlib", "saml2", "lxml")
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield tmp_path / "site"
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        del sys.modules[name]
    sys.modules.update(hidden)


def fact(path: str, *needs: str, worker: str = "client", main: str = "client") -> Fact:
    return Fact("GET", path, "some", frozenset(main.split()), frozenset(worker.split()), frozenset(needs))


def having(*found: Fact) -> Presence:
    return {(each.method, each.path): each for each in found}


SYNC, MEDIA = fact("/_matrix/client/{r0|v3}/sync"), fact("/_matrix/client/{r0|v3}/media")
LOGOUT, MSC1 = fact("/_matrix/client/{r0|v3}/logout", worker=""), fact("/_matrix/client/{r0|v3}/msc1")


@pytest.mark.usefixtures("stand_in")
def test_one_configuration_is_asked_of_main_and_worker() -> None:
    """The listener resources of both kinds of process are known for each endpoint; refused resources are left out."""
    assert presence({}) == having(
        *(Fact("GET", f.path, name_of("Some", f.path), f.main, f.worker) for f in (SYNC, MEDIA, LOGOUT))
    )


@pytest.mark.usefixtures("stand_in")
def test_what_a_worker_mounts_but_cannot_answer_must_be_judged() -> None:
    """Its store lacks a method of main's store; without a word in the overlay no table is written."""
    found = presence({})
    assert found is not None
    assert {each.path: set(each.lacks) for each in found.values() if each.lacks} == {
        MEDIA.path: {"get_token in Servlet.on_GET"}
    }
    why = {"reason": "r", "source": "s"}
    facts = {(1, 163): frozenset(found.values())}
    others = Entry(selectors=("/**",), says={"group": "client"}, **why)
    with pytest.raises(OverlayError) as told:
        text_of_table(facts, Overlay((others,)))
    (line,) = str(told.value).splitlines()
    assert line.startswith(
        f"overlay.yaml: workers mount GET {MEDIA.path} but lack get_token in Servlet.on_GET; write `gr"
    )
    for says in ({"group": "main"}, {"safe": ["get_token in Servlet.on_GET"]}):
        judged = Entry(selectors=(f"GET {MEDIA.path}",), says=says, **why)
        assert f'"path": "{MEDIA.path}"' in text_of_table(facts, Overlay((others, judged)))


@pytest.mark.usefixtures("stand_in")
def test_refused_settings_are_no_presence() -> None:
    """What Synapse does not take is told apart from what brings nothing."""
    assert presence({"refused": True}) is None


@pytest.mark.usefixtures("stand_in")
def test_installed_facts_name_the_option_that_brings_an_endpoint(capsys: pytest.CaptureFixture[str]) -> None:
    """Each option is tried alone; what cannot be tried alone is said."""
    needs = {
        path.rpartition("/")[2]: set(found.needs) for path, found in [(each.path, each) for each in installed_facts()]
    }
    assert needs == {"sync": set(), "logout": set(), "media": {"media_repo"}, "msc1": {"msc1_enabled"}}
    assert "msc2_enabled alone" in capsys.readouterr().err


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("name", "settings"), [("OPTIONS", {"cas": {"refused": True}}), ("BASE", {"refused": True})])
def test_an_option_that_cannot_be_tried_at_all_is_an_error(
    name: str, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table without the endpoints of a known option would be wrong in silence."""
    monkeypatch.setattr(servlets, name, {**getattr(servlets, name), **settings})
    with pytest.raises(ProbeError, match="refuses"):
        installed_facts()


def test_without_what_sso_needs_nothing_is_asked(stand_in: Path) -> None:
    """Synapse would leave out SAML and OpenID Connect in silence; the tool says what to install."""
    (stand_in / "saml2/__init__.py").unlink()
    (stand_in / "saml2").rmdir()
    if any((Path(each) / "saml2").exists() for each in sys.path):
        pytest.skip("saml2 is installed here")
    with pytest.raises(ProbeError, match=r"saml2 cannot be imported; install matrix-synapse\[oidc,saml2,url-preview\]"):
        installed_facts()


def test_conditions_follow_from_where_an_endpoint_exists() -> None:
    """What is missing without media, under MAS, or without an option, needs it."""
    login, mas, both, only_without = fact("/login"), fact("/mas"), fact("/both"), fact("/only")
    admin, admin_with_mas = fact("/admin", worker=""), fact("/admin")
    presences = Presences(
        base=having(SYNC, MEDIA, login, admin),
        no_media=having(SYNC, login, admin),
        mas=having(SYNC, MEDIA, mas, admin_with_mas),
        options={
            "oidc": (having(SYNC, MEDIA, login, both), None),
            "cas": (having(SYNC, MEDIA, login, both), having(SYNC, MEDIA, mas, both)),
            "flag": (None, having(SYNC, MEDIA, mas, MSC1)),
            "email": (having(SYNC, MEDIA, login, only_without), having(SYNC, MEDIA, mas)),
        },
    )
    found = sorted(((each.path, set(each.worker), set(each.needs)) for each in conditions(presences)), key=str)
    assert found == [
        (MEDIA.path, {"client"}, {"media_repo"}),
        (MSC1.path, {"client"}, {"flag", "mas"}),
        (SYNC.path, {"client"}, set()),
        ("/admin", set(), {"not_mas"}),
        ("/admin", {"client"}, {"mas"}),
        ("/both", {"client"}, {"cas|oidc"}),
        ("/login", {"client"}, {"not_mas"}),
        ("/mas", {"client"}, {"mas"}),
        ("/only", {"client"}, {"email", "not_mas"}),
    ]


def test_settings_are_put_together_flag_by_flag() -> None:
    """MAS of older releases and a flag are both below experimental_features."""
    both = together({"a": 1, "experimental_features": {"x": 1}}, {"b": 2, "experimental_features": {"y": 2}})
    assert both == {"a": 1, "b": 2, "experimental_features": {"x": 1, "y": 2}}
    assert together({"a": 1}, {"b": 2}) == {"a": 1, "b": 2}


def test_flags_are_found_in_synapse_s_own_source() -> None:
    """Every flag that is off unless set, however its line is broken; the two that take a value get one."""
    source = """
        self.a: bool = experimental.get("msc1_enabled", False)
        self.b = experimental.get(
            "msc2_enabled", False
        )
        self.c = experimental.get("msc3_enabled", True)
        self.d = experimental.get("msc3861", {})
        mode = experimental.get("msc4388_mode", "off")
    """
    flags = {name: option["experimental_features"][name] for name, option in experimental_options(source).items()}
    assert flags == {"msc1_enabled": True, "msc2_enabled": True, "msc4388_mode": "open"}


class Leaf(Resource):
    isLeaf = True

    def render_GET(self, request: object) -> bytes:
        raise NotImplementedError


class Awaited(Resource):
    async def _async_render_POST(self, request: object) -> None:
        raise NotImplementedError


class Dynamic(Leaf):
    isLeaf = False

    def getChild(self, path: bytes, request: object) -> Resource:
        raise NotImplementedError


def walk(places: dict[str, Resource], recorded: dict[int, list[Recorded]]) -> set[Registration]:
    root = Resource()
    for path, resource in places.items():
        at = root
        *parents, last = path.encode().split(b"/")[1:]
        for name in parents:
            if name not in at.children:
                at.putChild(name, Resource())
            at = at.children[name]
        at.putChild(last, resource)
    return set(registrations(root, recorded))


def test_plain_resources_answer_their_own_path_or_all_below_it() -> None:
    """A leaf and a maker of children answer everything below them, others only their own path."""
    assert walk({"/a/leaf": Leaf(), "/b": Awaited(), "/c": Dynamic()}, {}) == {
        Registration("GET", "/a/leaf[/**]", "Leaf"),
        Registration("POST", "/b", "Awaited"),
        Registration("GET", "/c[/**]", "Dynamic"),
    }


def test_an_expression_that_no_request_reaches_is_left_out() -> None:
    """Synapse registers the admin API on the client resource too, where no request for it arrives."""
    client = Leaf()
    recorded: dict[int, list[Recorded]] = {
        id(client): [("GET", "^/_matrix/client/v3/sync$", "Sync", None), ("GET", "^/_synapse/admin/x$", "X", None)]
    }
    assert walk({"/_matrix/client": client}, recorded) == {Registration("GET", "/_matrix/client/v3/sync", "Sync")}


def test_alternatives_are_reached_by_several_mounts_together() -> None:
    """Media is mounted once for each version, with all expressions in each."""
    r0, v3 = Leaf(), Leaf()
    recorded: dict[int, list[Recorded]] = {
        id(each): [("GET", "/_matrix/media/(r0|v3)/config$", "Config", None)] for each in (r0, v3)
    }
    registration = Registration("GET", "/_matrix/media/{r0|v3}/config", "Config")
    assert walk({"/_matrix/media/r0": r0, "/_matrix/media/v3": v3}, recorded) == {registration}
    with pytest.raises(ProbeError, match="only in part"):
        walk({"/_matrix/media/r0": r0}, recorded)


@pytest.mark.parametrize(
    ("servlet", "notation", "name"),
    [
        ("SyncRestServlet", "/_matrix/client/v3/sync", "sync"),
        ("RoomMessageListRestServlet", "/_matrix/client/v3/rooms/{room_id}/messages", "room_message_list"),
        ("UserRestServletV2", "/_synapse/admin/v2/users/{user_id}", "admin_user_v2"),
        ("DownloadResource", "/_matrix/client/v1/media/download/{x}", "media_download"),
        ("MediaConfigResource", "/_matrix/media/v3/config", "media_config"),
        ("OIDCCallbackResource", "/_synapse/client/oidc/callback", "oidc_callback"),
    ],
)
def test_an_endpoint_is_named_after_its_servlet(servlet: str, notation: str, name: str) -> None:
    """Names are words that an administrator can read in `explain`."""
    assert name_of(servlet, notation) == name


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The tool with a Synapse 1.163.9 that has what the package's table says of the newest release; its file."""
    newest = read_table()
    monkeypatch.setattr(servlets, "installed_version", lambda _: "1.163.9")
    monkeypatch.setattr(servlets, "installed_facts", lambda: newest[max(newest)])
    file = tmp_path / "endpoints.json"
    file.write_text(TABLE.read_text("utf-8"), "utf-8")
    return file


def test_the_tool_says_when_nothing_changes(asked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A patch release with the same endpoints leaves the table as it is."""
    before = asked.read_text("utf-8")
    assert servlets.main(["--check", "--table", str(asked)]) == 0
    assert servlets.main(["--table", str(asked)]) == 0
    assert asked.read_text("utf-8") == before
    assert "stays as it is" in capsys.readouterr().out


def test_the_tool_adds_a_release(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that is not in the file is added; `--check` only tells."""
    monkeypatch.setattr(servlets, "installed_version", lambda _: "1.999.0")
    assert servlets.main(["--check", "--table", str(asked)]) == 1
    assert (1, 999) not in read_table(asked)
    assert servlets.main(["--table", str(asked)]) == 0
    assert (1, 999) in read_table(asked)


def test_the_tool_refuses_what_nobody_has_judged(
    asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new endpoint for workers stops the tool until the overlay speaks of it; the file is not touched."""
    newest = read_table()
    new = newest[max(newest)] | {fact("/_matrix/client/v9/new")}
    monkeypatch.setattr(servlets, "installed_facts", lambda: new)
    before = asked.read_text("utf-8")
    assert servlets.main(["--table", str(asked)]) == 2
    assert asked.read_text("utf-8") == before
    assert "no entry gives a group to GET /_matrix/client/v9/new" in capsys.readouterr().err


def test_the_tool_needs_an_installed_synapse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is none, it says so."""

    def absent(_: str) -> str:
        raise PackageNotFoundError("matrix-synapse")

    monkeypatch.setattr(servlets, "installed_version", absent)
    assert servlets.main([]) == 2
    assert "run this where matrix-synapse is installed" in capsys.readouterr().err
