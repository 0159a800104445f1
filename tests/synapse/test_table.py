"""The table file: releases in, rows out, and back; and the overlay that is written into it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from sidecar.synapse import table
from sidecar.synapse.overlay import Entry, Judgement, Overlay, OverlayError, read_overlay, selects
from sidecar.synapse.table import TABLE, Fact, Facts, read_table, releases_of, spans_of, text_of_table, write_table

EVERYTHING = Overlay((Entry(selectors=("/**",), says={"group": "client"}, reason="It is so.", source="a test"),))

facts = st.builds(
    Fact,
    method=st.sampled_from(["GET", "PUT"]),
    path=st.sampled_from(["/a", "/a/{b}", "/c[/]"]),
    name=st.just("name"),
    main=st.just(frozenset({"client"})),
    worker=st.sampled_from([frozenset(), frozenset({"client"}), frozenset({"client", "media"})]),
    needs=st.sampled_from([frozenset(), frozenset({"mas"})]),
)
histories = st.dictionaries(
    st.tuples(st.just(1), st.integers(98, 110)),
    st.frozensets(facts),
    min_size=1,
)


@given(histories)
def test_rows_give_back_what_each_release_has(history: dict[tuple[int, int], Facts]) -> None:
    """Nothing is lost between releases and rows, in whatever order releases were added."""
    assert releases_of(spans_of(history), list(history)) == dict(sorted(history.items()))


@given(histories)
def test_the_file_gives_back_what_was_written(history: dict[tuple[int, int], Facts]) -> None:
    """A release can be added to a file, because all others can be read from it."""
    if not any(history.values()):
        return
    file = Path("written")
    text = text_of_table(history, Overlay(EVERYTHING.entries))
    assert table_from(file, text) == dict(sorted(history.items()))


def table_from(file: Path, text: str) -> dict[tuple[int, int], Facts]:
    """`read_table` of `text`, by way of a file that is gone afterwards."""
    try:
        file.write_text(text, "utf-8")
        return read_table(file)
    finally:
        file.unlink()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("table"))


def test_a_name_that_changes_makes_no_new_row() -> None:
    """A servlet that is renamed stays the same endpoint, under its newest name."""
    old = Fact("GET", "/a", "old", frozenset({"client"}))
    history = {(1, number): frozenset([evolve(old, name=f"name{number}")]) for number in (1, 2)}
    (span,) = spans_of(history)
    assert (span.fact.name, span.since, span.until) == ("name2", None, None)


def test_an_endpoint_that_comes_and_goes_has_a_row_for_each_time() -> None:
    """`since` and `until` hold the releases between which it was there."""
    fact = Fact("GET", "/a", "a", frozenset({"client"}))
    here, gone = frozenset([fact]), frozenset[Fact]()
    spans = spans_of({(1, 1): gone, (1, 2): here, (1, 3): gone, (1, 4): here})
    assert [(span.since, span.until) for span in spans] == [((1, 2), (1, 3)), ((1, 4), None)]


def test_a_file_that_is_not_there_is_an_empty_table(tmp_path: Path) -> None:
    """The first release can be added to nothing."""
    assert read_table(tmp_path / "none.json") == {}


def test_the_package_s_table_is_what_its_facts_and_the_overlay_give() -> None:
    """The file was written by the tool after the last change of the overlay, and one row is one line."""
    text = TABLE.read_text("utf-8")
    assert text_of_table(read_table(), read_overlay()) == text
    assert all(line.startswith('{"') for line in text.splitlines() if '"path"' in line)


def test_the_overlay_is_written_anew_by_one_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`python -m sidecar.synapse.table` leaves a file that is in order as it is."""
    before = TABLE.read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(RuntimeWarning, match="found in sys.modules"):
        runpy.run_module(table.__name__, run_name="__main__")
    assert TABLE.read_text("utf-8") == before


def test_every_entry_of_the_overlay_has_a_reason_and_a_source() -> None:
    """What is written by hand can be checked by hand."""
    for entry in read_overlay().entries:
        assert entry.reason.endswith(".")
        assert entry.source
        assert entry.says


def test_an_entry_that_means_nothing_is_an_error(tmp_path: Path) -> None:
    """A misspelt path in the overlay does not go unnoticed, and nothing is written."""
    stray = Entry(selectors=("GET /b",), says={"group": "client"}, reason="-", source="-")
    history = {(1, 1): frozenset([Fact("GET", "/a", "a", frozenset({"client"}))])}
    with pytest.raises(OverlayError, match="'GET /b' means no endpoint"):
        write_table(history, Overlay((*EVERYTHING.entries, stray)), tmp_path / "table.json")
    assert list(tmp_path.iterdir()) == []


def test_an_endpoint_without_a_group_is_an_error() -> None:
    """What a new release brings to workers must be judged by someone."""
    fact = Fact("GET", "/a", "a", frozenset({"client"}), frozenset({"client"}))
    with pytest.raises(OverlayError, match="no entry gives a group to GET /a"):
        text_of_table({(1, 1): frozenset([fact])}, Overlay(()))


def test_what_no_worker_serves_is_main_s_whatever_the_overlay_says() -> None:
    """The servlets know better than the overlay."""
    fact = Fact("GET", "/a", "a", frozenset({"client"}))
    assert '"group": "main"' in text_of_table({(1, 1): frozenset([fact])}, Overlay(EVERYTHING.entries))


def test_later_entries_override_word_by_word() -> None:
    """A later entry changes what it names and leaves the rest; a new group forgets the stream of the old one."""
    overlay = Overlay(
        (
            Entry(
                selectors=("/r/{room_id}/**",),
                says={
                    "group": "typing",
                    "stream": "typing",
                    "hard": True,
                    "affinity": "room",
                    "key": ["alias", "room_id"],
                },
                reason="First.",
                source="-",
            ),
            Entry(selectors=("GET /r/*/x",), says={"cost": "heavy"}, reason="Second.", source="-"),
            Entry(selectors=("/r/*/y",), says={"group": "client", "affinity": "user"}, reason="Third.", source="-"),
        )
    )
    first = Judgement(
        group="typing", stream="typing", hard=True, affinity="room", key="room_id", reason="First.", cost="heavy"
    )
    assert overlay.judge("GET", "/r/{room_id}/x") == first
    assert overlay.judge("PUT", "/r/{room_id}/x") == evolve(first, cost="normal")
    assert overlay.judge("PUT", "/r/{room_id}/y") == Judgement(group="client", affinity="user", reason="Third.")
    assert overlay.unused() == []


@pytest.mark.parametrize(
    ("selector", "method", "notation", "selected"),
    [
        ("/a/*/c", "GET", "/a/{api/v1|r0}/c", True),
        ("/a/*/c", "GET", "/a/b/b/c", False),
        ("GET,PUT /a", "PUT", "/a", True),
        ("GET,PUT /a", "DELETE", "/a", False),
        ("/a/**", "GET", "/a", True),
        ("/a/**", "GET", "/a/b[/{c}]", True),
        ("/a/**", "GET", "/b", False),
        ("/a", "GET", "/a[/**]", True),
        ("/a/{b}", "GET", "/a/{b}[/]", True),
        ("/a/{b}", "GET", "/a/{c}", False),
        ("/a/b", "GET", "/a[/b]", True),
    ],
)
def test_a_selector_means_these_endpoints(selector: str, method: str, notation: str, selected: bool) -> None:
    """`*` is one segment, `**` any number at the end."""
    assert selects(selector, method, notation) is selected


def test_every_fault_of_an_overlay_is_named_at_once(tmp_path: Path) -> None:
    """Whoever writes an entry is told all that is wrong with it."""
    file = tmp_path / "overlay.yaml"
    file.write_text("[{of: [/a], reason: r, group: nowhere, pool: x, hard: true, key: k}]", "utf-8")
    with pytest.raises(OverlayError) as caught:
        read_overlay(file)
    assert str(caught.value).splitlines() == [
        "overlay.yaml: entry 1: source is missing",
        "overlay.yaml: entry 1: group cannot be 'nowhere'",
        "overlay.yaml: entry 1: pool is not a word of the overlay; it knows "
        "group, stream, hard, affinity, key, replayable, cost, safe",
        "overlay.yaml: entry 1: hard says nothing without a stream",
    ]
