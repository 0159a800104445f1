"""YAML with lines: what PyYAML reads is what we read, within bounds, and every fault is a sentence with a place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.document import MOST_BYTES, MOST_DEPTH, Document, dotted, parse_document, read_document
from sidecar.errors import Severity

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.dates()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=12,
)
# fmt: off
SNIPPETS = st.sampled_from([
    "a: 1\n", "b: ", "- ", "[", "]", "{", "}", "*x ", "&x ", "<<: ", "? ", ": ", "!t ", "!!int ", "'", '"', "|\n", " ",
    "\n", "\t", "#", "---\n", "%Y\n", "1:2", "0x", "2001-99-99", "\0", "é", "~",
])
# fmt: on
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def only_message(document: Document) -> str:
    assert document.value is None
    assert not document.usable
    (problem,) = document.problems
    return str(problem)


@given(VALUES)
def test_values_are_those_of_the_safe_loader(value: object) -> None:
    """What the safe loader reads from a file is what we read."""
    text = yaml.safe_dump(value, allow_unicode=True)
    assert parse_document(text.encode(), "f").value == yaml.safe_load(text)


@given(st.binary(max_size=60) | st.lists(SNIPPETS, max_size=12).map(lambda parts: "".join(parts).encode()))
@example(b"&x a: &x\n- *x\n")
@example(b"a: &x {b: *x}")
@example(b"a: &x {<<: *x}")
@example(b"a: &x {<<: [*x]}")
@example(b"!!bool x")
@example(b"!!int ''")
@example(b"!!float 1:2:x")
@example(b"!!timestamp x")
@example(b"!!binary '?'")
@example(b"!!null {}")
@example(b"!!set {a}")
@example(b"!!seq {a: b}")
@example(b"<<: 3")
@example(b"? [a]\n: b")
@example(b"1" * 5000)
def test_any_octets_give_a_document(content: bytes) -> None:
    """No content raises, and content without a value or a fault is empty."""
    document = parse_document(content, "f")
    assert document.usable or all(problem.message for problem in document.problems)
    assert all(problem.line <= content.count(b"\n") + content.count(b"\r") + 2 for problem in document.problems)


@given(st.lists(SNIPPETS, max_size=12).map("".join))
@example("a: &x {k: 1}\nb: {<<: *x, k: 2, j: 3}\nc: {<<: [*x, {k: 4, l: 5}]}")
@example("a: {<<: {k: 1}, <<: {k: 2}}")
@example("a: {=: 1}")
def test_what_we_accept_the_safe_loader_reads_the_same(text: str) -> None:
    """Merge keys, aliases and odd keys mean what they mean to Synapse."""
    document = parse_document(text.encode(), "f")
    if document.usable:
        assert document.value == yaml.load(text, Loader=LOADER)


def test_every_key_and_item_has_its_line() -> None:
    """Lines count from one and belong to the key, or to the item of a list."""
    document = parse_document(b"a: 1\nb:\n  - x\n  - c: 2\n    d:\n      3\n", "f")
    lines = {dotted(path): line for path, line in document.lines.items()}
    assert lines == {"": 1, "a": 1, "b": 2, "b[0]": 3, "b[1]": 4, "b[1].c": 4, "b[1].d": 5}
    assert document.line(("b", 1, "d", "deeper")) == 5
    assert document.line(("unknown",)) == 1
    assert parse_document(b"", "f").line(("a",)) == 0


def test_lines_behind_merge_keys_are_where_the_text_stands() -> None:
    """A merged entry is found where it was written."""
    document = parse_document(b"a: &x\n  k: 1\nb:\n  <<: *x\n  j: 2\n", "f")
    assert document.line(("b", "k")) == 2
    assert document.line(("b", "j")) == 5


def test_a_repeated_merge_key_is_told() -> None:
    """What it means depends on the release of PyYAML, and so on whose process reads it."""
    document = parse_document(b"a:\n  <<: {k: 1}\n  <<: {k: 2}\n", "f")
    assert not document.usable
    assert "`<<` was given before" in only_message(document)


def test_a_repeated_key_is_told_with_both_lines() -> None:
    """A key given twice is an error in our file and a warning in Synapse's, and the last one counts."""
    document = parse_document(b"a: 1\nb:\n  c: 2\n  d: 3\n  c: 4\n", "f")
    assert document.value == {"a": 1, "b": {"c": 4, "d": 3}}
    assert [str(problem) for problem in document.problems] == [
        "f:5: b.c: the key was given before in line 3; the last one counts; remove one of them"
    ]
    assert not document.usable
    assert parse_document(b"a: 1\na: 2\n", "f", Severity.WARNING).usable


def test_overriding_a_merged_key_is_no_repetition() -> None:
    """Merge keys exist in order to be overridden."""
    assert parse_document(b"a: &x {k: 1}\nb: {<<: *x, k: 2}\n", "f").problems == ()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a: [1\nb: 2", "f:2: this is no valid YAML"),
        (b"a: b: c", "f:1: this is no valid YAML: there is a `: ` where no key is expected"),
        (b"a: 1\n--- \nb: 2", "f:2: this is no valid YAML: but found another document"),
        (b"a: 1\nb: \xff", "f:2: the file is not UTF-8 here"),
        (b"a: \x01", "control character"),
        (b"a: &x [*x]", "f:1: this value contains itself"),
        (b"a: &x\n  <<: *x", "f:2: this value contains itself"),
        (b"\na: !secret x", "f:2: this value begins with a YAML tag"),
        (b"a: !!set {x}", "has a YAML tag"),
        (b"a: !t [x]", "has a YAML tag"),
        (b"a: 0x" + b"f" * 5000, "takes this value for `int`"),
        (b"a: 2001-99-99", "takes this value for `timestamp`"),
        (b"? [x]\n: y", "a list or mapping cannot be a key"),
        (b"<<: 3", "`<<` takes a mapping"),
        (b"[" * (MOST_DEPTH + 1), f"nested deeper than {MOST_DEPTH}"),
        (b" " * (MOST_BYTES + 1), "larger than 4 MiB"),
    ],
)
def test_unusable_content_is_one_sentence(content: bytes, sentence: str) -> None:
    """What cannot be read as YAML is told in one sentence with the line."""
    assert sentence in only_message(parse_document(content, "f"))


@pytest.mark.parametrize("value", ["*hunter2", "!hunter2", "!h!hunter2", "&hunter2 *hunter3", "'hunter2", "`hunter2"])
def test_no_sentence_shows_what_may_be_a_password(value: str) -> None:
    """A secret with special characters that somebody forgot to quote stays out of the error."""
    assert "hunter" not in only_message(parse_document(f"registration_shared_secret: {value}\n".encode(), "f"))


def doubling(lines: int, template: str, start: str) -> bytes:
    text = [f"a0: &a0 {start}"] + [f"a{n}: &a{n} " + template.format(previous=f"*a{n - 1}") for n in range(1, lines)]
    return "\n".join(text).encode()


@pytest.mark.parametrize(
    "content",
    [
        doubling(40, "[{previous}, {previous}]", "[x]"),
        doubling(40, "{{p: {previous}, q: {previous}}}", "{x: 1}"),
        doubling(40, "{{<<: [{previous}, {previous}]}}", "{x: 1}"),
        doubling(40, "{{<<: [{previous}, {previous}]}}", "{}"),
        doubling(5000, "[{previous}]", "[x]"),
        doubling(5000, "{{<<: {previous}}}", "{x: 1}"),
    ],
)
def test_aliases_cannot_multiply_without_bound(content: bytes) -> None:
    """A few lines that stand for billions of values, or for endless depth, are refused."""
    message = only_message(parse_document(content, "f"))
    assert "aliases are expanded" in message or "nested deeper" in message


def test_unreadable_files_are_sentences(tmp_path: Path) -> None:
    """Each reason for which a file cannot be read has its sentence."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    secret = tmp_path / "secret"
    secret.write_text("a: 1")
    secret.chmod(0)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "does not exist" in only_message(read_document(str(tmp_path / "absent")))
    assert "directory" in only_message(read_document(str(tmp_path)))
    assert "not a regular file" in only_message(read_document(str(fifo)))
    assert "cannot be read" in only_message(read_document(str(loop)))
    assert "cannot be read" in only_message(read_document("a\0b"))
    if os.geteuid():
        assert "no permission" in only_message(read_document(str(secret)))


def test_a_missing_permission_is_told_apart() -> None:
    """The sentence for a file without permission says what to do; the tests may run as root, so it is asked for."""
    from sidecar.document import _read_error

    assert "no permission" in _read_error(PermissionError(13, "Permission denied"))


def test_a_file_is_read_with_its_name(tmp_path: Path) -> None:
    """A file's value and place arrive; a byte order mark is no content."""
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    document = read_document(str(file))
    assert (document.file, document.value, document.problems) == (str(file), {"a": 1}, ())
    assert str(document.problem(("a", "b"), "is wrong")) == f"{file}:1: a.b: is wrong"


def test_paths_are_written_as_people_write_them() -> None:
    """Keys are joined by dots, items have brackets, what is no text is shown as it is."""
    assert dotted(("routes", 0, "path")) == "routes[0].path"
    assert dotted((True, None)) == "True.None"
    assert dotted(()) == ""


def test_the_pure_python_loader_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyYAML was built without libyaml, values, lines and secrets fare the same."""
    monkeypatch.setattr("sidecar.document._LOADER", yaml.SafeLoader)
    document = parse_document(b"a: 1\nb:\n  - &x {c: 2}\n  - <<: *x\n", "f")
    assert document.value == {"a": 1, "b": [{"c": 2}, {"c": 2}]}
    assert document.line(("b", 1)) == 4
    for value in ("*hunter2", "!hunter2", "!h!hunter2", "\x01"):
        assert "hunter" not in only_message(parse_document(f"a: {value}\n".encode(), "f"))
