"""The status page: what it shows, what can be asked and done with it, and that it is only ever text that it shows."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import Element, parsed, told
from twisted.internet.defer import Deferred

from sidecar.admin.consequences import consequences
from sidecar.admin.explained import Explained
from sidecar.admin.operator_answer import Inquiry, OperatorAnswer
from sidecar.admin.page.pages import Answering, StatusPage
from sidecar.admin.snapshot import snapshot

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"
STORY = Explained(
    title="GET /x",
    steps=(("pool", "sync: because"), ("key", "none")),
    outcome="forward to sync2; if it is down, sync1, then main",
    forwarded=True,
    order=("sync2", "sync1", "main"),
    others=(("fed1", "it serves no clients"),),
    facts={"method": "GET", "target": "/x", "action": "forward"},
)


def answered(found: Answering | None) -> OperatorAnswer:
    """The answer; what is done here is done at once."""
    assert found is not None
    if isinstance(found, OperatorAnswer):
        return found
    got: list[OperatorAnswer] = []
    Deferred.fromCoroutine(found).addCallback(got.append)  # type: ignore[arg-type]
    return got[0]


class Browsed:
    """A status page of a made-up sidecar, and what was done with it."""

    def __init__(self, **more: Any) -> None:
        self.told = told(**more)
        self.done: list[tuple[str, bool]] = []
        self.asked: list[tuple[str, str]] = []
        self.story: Explained | str = STORY
        clock = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
        self.page = StatusPage(lambda: self.told, self._act, self._explain, dict, lambda: clock)

    async def _act(self, inquiry: Inquiry) -> OperatorAnswer:
        *place, action = inquiry.parts[2:]
        if place[0] not in (*self.told["workers"], *self.told.get("balancers", {})):
            return OperatorAnswer(404, {"error": f"There is no such thing as {place[0]}."})
        self.done.append(("/".join(place) + (inquiry.query and f"?{inquiry.query}"), action == "drain"))
        return OperatorAnswer(200, {})

    def _explain(self, text: str, peer: str) -> Explained:
        self.asked.append((text, peer))
        if isinstance(self.story, str):
            raise ValueError(self.story)
        return self.story

    def get(self, path: str, query: str = "") -> Element:
        answer = self.answer("GET", path, query)
        assert (answer.status, answer.kind) == (200, "text/html; charset=utf-8")
        return parsed(answer.octets())

    def answer(self, method: str, path: str, query: str = "", body: str = "") -> OperatorAnswer:
        fields = {"accept": "text/html,*/*"}
        inquiry = Inquiry(method=method, path=path, query=query, fields=fields, body=body.encode())
        return self.page.dressed(inquiry, answered(self.page.answer(inquiry)))

    def post(self, path: str, **form: str) -> OperatorAnswer:
        return self.answer("POST", path, body=urlencode({"token": self.page.token, **form}))


def rows(root: Element, identifier: str) -> list[list[str]]:
    """The cells of a table, as text."""
    body = root.one("section", id=identifier).one("tbody")
    return [[cell.text for cell in row.children if isinstance(cell, Element)] for row in body.all("tr")]


def test_workers() -> None:
    """A row for each, with state, numbers, and the button that fits; then those that are leaving."""
    root = Browsed().get("/")
    assert rows(root, "workers") == [
        ["main", "up", "3", "0", "12/s", "4.0 ms", "310 ms", "10 s", "0", "1 d 1 h", "DrainChange"],
        ["sync1", "up", "210", "0", "3/s", "–", "–", "–", "2", "–", "DrainChange"],  # noqa: RUF001
        ["sync2", "downConnection refused", "0", "4", "–", "–", "–", "–", "0", "12 s", "DrainChange"],  # noqa: RUF001
        ["client1", "draining", "1", "0", "–", "–", "–", "–", "0", "–", "ResumeChange"],  # noqa: RUF001
        ["typing1", "slow start", "0", "2", "–", "–", "–", "–", "0", "–", "DrainChange"],  # noqa: RUF001
        ["old1", "leaving", "2", "0", "–", "–", "–", "–", "0", "–", ""],  # noqa: RUF001
    ]
    assert root.one("tr", id="worker-sync2").attributes["class"] == "of-down"
    assert "points" in root.one("tr", id="worker-main").one("polyline").attributes


def test_buttons_only_where_enabled() -> None:
    """With another `operator.actions` there is no button, and its address does nothing."""
    scene = Browsed(actions="api")
    root = scene.get("/")
    assert not list(root.all("a", data_confirm=""))
    assert len(rows(root, "workers")[0]) == 10
    for method in ("GET", "POST"):
        answer = scene.answer(method, "/workers/sync1/drain", body=f"token={scene.page.token}")
        assert answer.status == 403
        assert b"operator.actions" in answer.octets()
    assert scene.done == []


@pytest.mark.parametrize(
    ("order", "first"),
    [
        ("", "main"),
        ("nonsense", "main"),
        ("state", "sync2"),
        ("flight", "sync1"),
        ("waiting", "sync2"),
        ("rate", "main"),
        ("p50", "main"),
        ("p99", "main"),
        ("slowest", "main"),
        ("errors", "sync1"),
        ("changed", "main"),
    ],
)
def test_workers_are_sorted(order: str, first: str) -> None:
    """By any column, most first; the chosen one is marked."""
    scene = Browsed()
    scene.told["workers"]["sync2"]["changed"] = 12.0
    for name in ("sync1", "client1", "typing1", "main"):
        scene.told["workers"][name]["changed"] = 90.0
    scene.told["workers"]["main"]["changed"] = 5.0
    root = scene.get("/live", f"sort={order}")
    assert rows(root, "workers")[0][0] == first
    (chosen,) = root.all("a", aria_current="true")
    wanted = f"./?sort={order}" if order not in ("", "nonsense") else "./"
    assert chosen.attributes["href"] == wanted


WRITING = {"name": "account_data (writing)", "pool": "account_data", "workers": ["typing1"]}
READING = {**WRITING, "name": "account_data (reading)", "fallback": [["client1"], ["main"]]}
PARTED = {"workers": ["typing1"], "parts": [WRITING, READING]}
NAMED = {"name": "media", "pool": "media", "named": ["media1"]}
UNMOUNTED = {"name": "federation", "pool": "federation", "workers": ["main"], "mounted": False, "required": False}


def test_pools() -> None:
    """Those with the same workers share a row, but for who has some waiting; one without any up is marked."""
    scene = Browsed()
    scene.told["workers"]["client1"]["state"] = "down"
    assert rows(scene.get("/"), "pools") == [
        ["main", "main", "–", "0", "0", "–"],  # noqa: RUF001
        ["sync, initial_sync", "sync1sync2", "main", "7", "0", "–"],  # noqa: RUF001
        ["client", "client1", "maintakes over", "0", "0", "–"],  # noqa: RUF001
        ["typing", "typing1", "–", "0", "0", "–"],  # noqa: RUF001
        ["media", "main", "–", "4 of 4", "3", "–"],  # noqa: RUF001
        ["empty", "–nobody", "–", "0", "0", "–"],  # noqa: RUF001
    ]
    scene.told["workers"]["main"]["state"] = "down"
    scene.told["workers"]["sync1"]["state"] = "draining"
    assert [row[:3] for row in rows(scene.get("/"), "pools")[:3]] == [
        ["main", "mainnobody", "–"],  # noqa: RUF001
        ["sync, initial_sync", "sync1sync2nobody", "main"],
        ["client", "client1nobody", "main"],
    ]


def test_parts_of_pools() -> None:
    """A pool whose requests have not all the same substitutes says which have none, and who takes over the others."""
    scene = Browsed(pools={"account_data": PARTED, "media": {"parts": [NAMED]}, "federation": {"parts": [UNMOUNTED]}})
    assert [row[:3] for row in rows(scene.get("/"), "pools")] == [
        ["account_data", "typing1", "writing: nobodyreading: client1main"],
        ["media", "media1nobody", "–"],  # noqa: RUF001
        ["federation", "mainno process has it", "–"],  # noqa: RUF001
    ]
    scene.told["workers"]["typing1"]["state"] = "down"
    assert rows(scene.get("/"), "pools")[0][1:3] == [
        "typing1nobody: writing",
        "writing: nobodyreading: client1maintakes over",
    ]
    verdict = scene.get("/").one(id="verdict").text
    assert verdict == (
        "Readysync2, typing1 are unavailable; main takes over account_data (reading); "
        "nobody serves account_data (writing), media."
    )


SHARED = {"name": "sync", "pool": "sync", "workers": ["sync1", "client1", "main"], "fallback": [["typing1"]]}
SHARED = {**SHARED, "seats": [["client1", "main", "sync1"], ["sync1", "main", "client1"]]}


def test_a_pool_that_few_workers_share() -> None:
    """The others stand behind them; a drain gives the keys of one worker to one of those, and to nobody else."""
    pools = {"sync": {"workers": SHARED["workers"], "parts": [SHARED]}}
    assert rows(Browsed(pools=pools).get("/"), "pools")[0][:3] == ["sync", "client1sync1 then main", "typing1"]
    workers = told()["workers"]
    facts = snapshot(told(pools=pools, workers={**workers, "client1": {"name": "client1"}}))
    assert list(consequences(facts, "sync1"))[1:] == ["sync: main takes its requests."]
    assert list(consequences(facts, "main"))[1:] == []
    facts = snapshot(told(pools=pools, workers={**workers, "client1": {"name": "client1", "state": "down"}}))
    assert list(consequences(facts, "main"))[1:] == ["sync: sync1 takes its requests."]


def test_a_drain_is_told_by_the_requests_that_it_concerns() -> None:
    """Of the parts of a pool each has its own outcome, and a substitute at work is missed as well."""
    facts = snapshot(told(pools={"account_data": PARTED}))
    assert list(consequences(facts, "typing1"))[1:] == [
        "account_data (writing): nobody else may take these; they wait, and are then answered 503.",
        "account_data (reading): main takes its requests.",
    ]
    assert list(consequences(facts, "main"))[1:] == []
    workers = {**told()["workers"], "typing1": {"name": "typing1", "state": "down", "waiting": 2}}
    facts = snapshot(told(pools={"account_data": PARTED}, workers=workers))
    assert list(consequences(facts, "main"))[1:] == [
        "account_data (reading): nobody else may take these; they wait, and are then answered 503."
    ]


def test_what_waits_what_failed_and_what_went_astray() -> None:
    """Each is told with its reason, and left out where there is nothing."""
    misroutes = [
        {"endpoint": "sync", "worker": "sync1", "count": 3, "ago": None},
        {"endpoint": "keys_query", "worker": "gone1", "count": 2, "ago": 61.0},
    ]
    root = Browsed(misroutes=misroutes).get("/")
    assert [item.text for item in root.one(id="waiting").all("li")] == [
        "4 requests wait for sync2: it is down (Connection refused)",
        "2 requests wait for typing1: a connection is being made",
        "3 requests wait for a place in pool media: 4 of 4 are taken",
    ]
    assert rows(root, "misroutes") == [
        ["keys_query", "gone1", "2", "1 min ago"],
        ["sync", "sync1", "3", "–"],  # noqa: RUF001
    ]
    assert rows(root, "failures") == [["–", "timeout", "4"], ["sync", "gone", "3"]]  # noqa: RUF001
    calm = Browsed(workers={}, pools={}, leaving=[], recent={}).get("/")
    assert not list(calm.all(id="waiting"))
    assert not list(calm.all(id="misroutes"))
    assert not list(calm.all(id="failures"))


@pytest.mark.parametrize(
    ("more", "title", "verdict"),
    [
        (
            {},
            "sync2 down · gate1",
            "Readysync2 is unavailable; main takes over client; nobody serves empty.",
        ),
        ({"pools": {}}, "sync2 down · gate1", "Readysync2 is unavailable; all pools are still served."),
        ({"workers": {}, "pools": {}}, "ready · gate1", "ReadyEvery pool has a worker."),
        ({"ready": False, "reasons": ["A.", "B."]}, "not ready · gate1", "Not readyA. B."),
        ({"stopping": True, "host": ""}, "stopping · matrix-sidecar", "StoppingRunning requests end; "),
        (
            {"workers": {name: {"name": name, "state": "stuck"} for name in "abc"}, "pools": {}},
            "a, b… stuck · gate1",
            "Readya, b, c are unavailable; all pools are still served.",
        ),
    ],
)
def test_the_worst_is_said_first(more: dict[str, Any], title: str, verdict: str) -> None:
    """In the title, which a tab shows, and above everything else."""
    root = Browsed(**more).get("/")
    assert root.one("title").text == title
    assert root.one(id="live").attributes["data-title"] == title
    assert root.one(id="verdict").text.startswith(verdict)


def test_the_configuration() -> None:
    """Its warnings, and how the last reload ended."""
    assert "s.yaml:3: listen: warning" in Browsed().get("/").one(id="configuration").text
    assert "No warnings." in Browsed(problems=[]).get("/").one(id="configuration").text
    for accepted, words in ((True, "was accepted"), (False, "was refused, and nothing has changed")):
        root = Browsed(reload={"accepted": accepted, "changes" if accepted else "problems": ["workers added: a"]}).get(
            "/"
        )
        assert words in root.one(id="configuration").text
        assert "workers added: a" in root.one(id="configuration").text


def test_it_needs_nothing_from_elsewhere() -> None:
    """Style, script and icon are served by the sidecar, and nothing is inline."""
    scene = Browsed()
    root = scene.get("/")
    addresses = [each.attributes[key] for key in ("src", "href") for each in root.all() if key in each.attributes]
    assert not [address for address in addresses if ":" in address or address.startswith("//")]
    assert not [name for each in root.all() for name in each.attributes if name.startswith("on") or name == "style"]
    (script,) = root.all("script")
    assert script.text == ""
    for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        answer = scene.answer("GET", f"/static/{name}")
        assert answer.kind.startswith(kind)
        assert answer.octets()
        assert f"static/{name}" in addresses
        for foreign in re.findall(rb"https?://[^\"' )]+", answer.octets()):
            assert foreign == b"http://www.w3.org/2000/svg"
    assert scene.page.answer(Inquiry(method="GET", path="/static/../pages.py")) is None
    assert scene.page.answer(Inquiry(method="GET", path="/static/%2e%2e%2fpages.py")) is None
    assert scene.page.answer(Inquiry(method="GET", path="/ready")) is None


def test_a_request_is_explained() -> None:
    """The story stands below the box, which still holds what was asked; who would get it now is said."""
    scene = Browsed()
    answer = scene.post("/explain", request="GET /x\r\nA: b", peer=" 10.0.0.1 ")
    root = parsed(answer.octets())
    assert scene.asked == [("GET /x\nA: b", "10.0.0.1")]
    story = root.one(id="explained")
    assert "forward to sync2; if it is down, sync1, then main" in story.text
    assert "Now sync1 gets it, because sync2 is down." in story.text
    assert [each.text for each in story.all("dt")] == ["pool", "key", "fed1"]
    assert root.one("textarea").text == "GET /x\nA: b"
    assert root.one("input", name="peer").attributes["value"] == "10.0.0.1"
    scene.post("/explain", request="GET /x", peer="unix")
    assert scene.asked[-1] == ("GET /x", "")
    scene.story = "the line is empty"
    root = parsed(scene.post("/explain", request="", peer="").octets())
    assert "The line is empty." in root.one(id="explained").text


def test_a_request_is_explained_to_programs() -> None:
    """`/api/explain` takes the same text as a body and needs no token, because it changes nothing."""
    scene = Browsed()
    answer = scene.answer("POST", "/api/explain", body="GET /x")
    assert isinstance(answer.content, dict)
    assert answer.content["action"] == "forward"
    assert answer.content["now"] == "Now sync1 gets it, because sync2 is down."
    assert answer.content["steps"] == [["pool", "sync: because"], ["key", "none"]]
    scene.story = "no request"
    assert scene.answer("POST", "/api/explain").content == {"error": "no request"}
    assert scene.answer("GET", "/api/explain").status == 405


def test_a_drain_is_asked_about_and_done() -> None:
    """The question says what it would do; only its form does it, and leads back to the page."""
    scene = Browsed()
    root = scene.get("/workers/sync1/drain")
    form = root.one("form", id="question")
    assert form.attributes["action"] == "../../workers/sync1/drain"
    told = [item.text for item in form.all("li")]
    assert told[0] == "It gets no new requests. 210 requests that it has now end by themselves."
    assert told[1] == "sync, initial_sync: main takes its requests."
    assert scene.done == []
    answer = scene.post("/workers/sync1/drain")
    assert (answer.status, dict(answer.fields)) == (303, {"Location": "../../"})
    assert "gets new requests again" in scene.get("/workers/client1/undrain").text
    scene.post("/workers/client1/undrain")
    assert scene.done == [("sync1", True), ("client1", False)]
    assert scene.answer("PUT", "/workers/sync1/drain").status == 405
    for method in ("GET", "POST"):
        answer = scene.answer(method, "/workers/nobody/drain", body=f"token={scene.page.token}")
        assert answer.status == 404
        assert b"There is no" in answer.octets()
    answer = scene.answer("GET", "/workers/Sync1/values")
    assert answer.status == 404
    assert b"Did you mean sync1?" in answer.octets()


@pytest.mark.parametrize("path", ["/workers/sync1/drain", "/explain"])
@pytest.mark.parametrize("body", ["", "token=", "token=x", "token=%ff", "x" * 5000, "&" * 50, "\udcff"])
def test_without_the_token_nothing_is_done(path: str, body: str) -> None:
    """A form that this process did not make is refused, with a page that says why."""
    scene = Browsed()
    fields = {"accept": "text/html"}
    inquiry = Inquiry(method="POST", path=path, fields=fields, body=body.encode("utf-8", "surrogateescape"))
    answer = answered(scene.page.answer(inquiry))
    assert answer.status == 403
    page = parsed(scene.page.dressed(inquiry, answer).octets())
    assert "is from before a restart" in page.text
    assert page.one("link", rel="stylesheet").attributes["href"] == "../" * (path.count("/") - 1) + "static/page.css"
    assert (scene.done, scene.asked) == ([], [])


def test_tokens_differ() -> None:
    """Each process has its own."""
    assert Browsed().page.token != Browsed().page.token
    assert Browsed().page.token not in repr(Browsed().page)


def test_refusals_are_dressed_for_people_only() -> None:
    """Programs get JSON; a browser that asks the API does, too."""
    page = Browsed().page
    refusal = OperatorAnswer(421, {"error": "No."}, fields=(("A", "b"),))
    for path, accept in (("/", "*/*"), ("/api/status", "text/html")):
        assert page.dressed(Inquiry(method="GET", path=path, fields={"accept": accept}), refusal) is refusal
    dressed = page.dressed(Inquiry(method="GET", path="/", fields={"accept": "text/html"}), refusal)
    assert (dressed.status, dressed.fields) == (421, (("A", "b"),))
    assert "No." in parsed(dressed.octets()).text


def test_consequences() -> None:
    """Who takes what a drained worker would have got: others of the pool, else the fallback, else nobody."""
    facts = snapshot(told())
    assert list(consequences(facts, "typing1")) == [
        "It gets no new requests. It has none in flight.",
        "typing: nobody else may take these; they wait, and are then answered 503.",
    ]
    assert list(consequences(facts, "sync2"))[1:] == ["sync, initial_sync: sync1 takes its requests."]


def everywhere(text: str) -> dict[str, Any]:
    """A sidecar in which every text is this one."""
    worker = {"name": text, "state": "down", "reason": text, "waiting": 1, "leased": 1}
    return {
        "host": text,
        "version": text,
        "listening": [text],
        "reasons": [text],
        "ready": False,
        "workers": {text: worker},
        "leaving": [worker],
        "pools": {text: {"workers": [text], "fallback": [text]}},
        "misroutes": [{"endpoint": text, "worker": text, "count": 1}],
        "problems": [text],
        "reload": {"accepted": False, "problems": [text]},
        "recent": {"failures": [{"pool": text, "told": text, "count": 1}]},
    }


@settings(max_examples=50)
@given(st.just(HOSTILE) | st.text(st.characters(exclude_characters="\0\r"), min_size=1))
def test_what_a_stranger_sends_is_text(text: str) -> None:
    """Whatever names, reasons and requests hold, the page has the elements that it has with harmless ones."""
    shapes = []
    for each in ("harmless", text):
        scene = Browsed(**everywhere(each))
        scene.story = Explained(
            title=each, steps=((each, each),), outcome=each, forwarded=False, order=(each,), others=((each, each),)
        )
        root = parsed(scene.post("/explain", request=each, peer=each).octets())
        shapes.append([(element.name, sorted(element.attributes)) for element in root.all()])
        if each.isprintable() and each.strip() == each:
            assert each in root.one(id="live").text
    assert shapes[0] == shapes[1]


def test_a_question_about_a_hostile_name() -> None:
    """The form's address leads nowhere else, whatever a worker is called."""
    name = 'a"/../?<b>'
    scene = Browsed(workers={name: {"name": name}})
    form = scene.get("/workers/a%22%2F..%2F%3F%3Cb%3E/drain").one("form", id="question")
    assert form.attributes["action"] == "../../workers/a%22%2F..%2F%3F%3Cb%3E/drain"
    assert form.one("h2").text == f"Drain {name}?"


@pytest.mark.parametrize(
    ("typed", "done"),
    [
        ({}, []),
        ({"maximum": "7"}, ["sync1?value=7"]),
        ({"weight": ""}, ["sync1?value=file"]),
        ({"weight": "3", "maximum": "7", "where": "all"}, ["sync1?value=3&all", "sync1?value=7&all"]),
        ({"where": "all"}, []),
    ],
)
def test_only_a_changed_field_is_set(typed: dict[str, str], done: list[str]) -> None:
    """What somebody else has set since the form was shown stays."""
    scene = Browsed()
    form = scene.get("/workers/sync1/values").one("form", id="question")
    shown = {each.attributes["name"]: each.attributes["value"] or "" for each in form.all("input")}
    scene.told["workers"]["sync1"].update(weight=5.0, maximum=11)
    assert scene.post("/workers/sync1/values", **{**shown, **typed}).status == 303
    assert [what for what, _ in scene.done] == done
