"""Several files as one: every key keeps its file and line, nothing is dropped, and nothing is decided in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.config.including import DEEPEST, MOST_FILES, put_together, read_with_includes
from sidecar.config.load import load_settings
from sidecar.document import MOST_BYTES, Document, KeyPath, dotted, parse_document
from sidecar.errors import ConfigError

KEYS = st.sampled_from(["a", "b", "c", "routes"])
LEAVES = st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2)
SECTIONS = st.recursive(LEAVES, lambda each: st.dictionaries(KEYS, each, max_size=3), max_leaves=8)
FILES = st.lists(
    st.dictionaries(KEYS, SECTIONS, max_size=3).map(lambda value: {**value, "routes": [1, 2]}), min_size=1, max_size=4
)
WORKERS = 'workers:\n  main: {endpoint: "unix:/run/main.sock"}\n'


def documents(values: list[dict[str, Any]]) -> tuple[Document, ...]:
    """Each key on a line of its own."""
    texts = (json.dumps(value, indent=1) for value in values)
    return tuple(parse_document(text.encode(), f"f{number}") for number, text in enumerate(texts))


def leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Everything but what is made of other things that are looked at; of lists, only `routes` at the top is."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, (*path, key))
    elif isinstance(value, list) and path == ("routes",):
        yield from (((*path, index), each) for index, each in enumerate(value))
    else:
        yield path, value


@given(FILES)
@example([{"routes": [1]}, {"a": {"b": 1}, "routes": [1, 2]}, {"a": {"c": 1}, "routes": [1]}])
@example([{"a": 1, "routes": []}, {"a": {"b": 1}, "routes": []}])
@example([{"a": {}, "routes": []}, {"a": {"b": [1]}, "routes": []}, {"a": {"b": [1]}, "routes": []}])
def test_every_value_is_there_in_its_place_or_reported(values: list[dict[str, Any]]) -> None:
    """What one file alone says holds, with its file and line; of what two say, the second is reported with both."""
    files = documents(values)
    found = put_together(files)
    for path, value in leaves(found.value):
        origin, inner = found.origin(path)
        assert (inner, value) in list(leaves(origin.value))
        assert found.problem(path, "x") == origin.problem(inner, "x")
    held = {(found.origin(path)[0].file, found.origin(path)[1]) for path, _ in leaves(found.value)}
    reported = {(problem.file, problem.key): problem.message for problem in found.problems}
    for document in files:
        for path, _ in leaves(document.value):
            above = (dotted(path[:end]) for end in range(1, len(path) + 1))
            told = [reported[document.file, key] for key in above if (document.file, key) in reported]
            assert bool(told) != ((document.file, path) in held or not path)
    assert all(" sets this too" in message for message in reported.values())


@given(FILES)
def test_lists_of_routes_follow_one_another(values: list[dict[str, Any]]) -> None:
    """None is lost, and the first file comes first."""
    assert put_together(documents(values)).value["routes"] == [each for value in values for each in value["routes"]]


# -- files


def written(directory: Path, **texts: str) -> str:
    """Writes files whose names have `__` for `/`; returns the path of sidecar.yaml."""
    for name, text in texts.items():
        file = directory / (name.replace("__", "/") + ".yaml")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return str(directory / "sidecar.yaml")


def told(directory: Path, **texts: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(written(directory, **texts))
    return [str(problem).replace(f"{directory}/", "") for problem in caught.value.problems]


def test_files_come_in_the_order_in_which_they_are_named(tmp_path: Path) -> None:
    """Those of a pattern by name; each before what it includes; hidden ones and backups never."""
    path = written(
        tmp_path,
        sidecar=f'include: [z.yaml, "conf.d/*.yaml"]\n{WORKERS}routes: [{{path: /0, refuse: 403}}]',
        z="include: inner/y.yaml\nroutes: [{path: /1, refuse: 403}]",
        inner__y="routes: [{path: /2, refuse: 403}]\naccess: {admin: 10.0.0.0/8}",
        conf__d="routes: [{path: /9, refuse: 403}]",
    )
    (tmp_path / "conf.d").mkdir()
    for name, number in (("b.yaml", 4), ("a.yaml", 3), (".hidden.yaml", 8), ("a.yaml~", 8), ("c.yaml.dpkg-new", 8)):
        (tmp_path / "conf.d" / name).write_text(f"routes: [{{path: /{number}, refuse: 403}}]")
    settings = load_settings(path)
    assert [route.path for route in settings.routes] == ["/0", "/1", "/2", "/3", "/4"]
    assert [Path(document.file).name for document in settings.source.files] == [
        "sidecar.yaml",
        "z.yaml",
        "y.yaml",
        "a.yaml",
        "b.yaml",
    ]


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    """Of files that are included, and in every value."""
    path = written(
        tmp_path,
        sidecar=f"include: inner/one.yaml\n{WORKERS}synapse: {{config: homeserver.yaml}}",
        inner__one='include: two.yaml\nlog: {secret_file: secret}\nworkers: {w: {endpoint: "unix:w.sock"}}',
        inner__two="operator: {password_file: password}\nadmin: unix:admin.sock",
    )
    settings = load_settings(path)
    assert settings.synapse.config == (f"{tmp_path}/homeserver.yaml",)
    assert settings.log.secret_file == f"{tmp_path}/inner/secret"
    assert settings.workers["w"].endpoint == f"unix:{tmp_path}/inner/w.sock"
    assert settings.operator.password_file == f"{tmp_path}/inner/password"
    assert settings.include == (f"{tmp_path}/inner/one.yaml", f"{tmp_path}/inner/two.yaml")


def test_a_directory_with_marks_of_a_pattern_is_no_pattern(tmp_path: Path) -> None:
    """Only what the file says is."""
    odd = tmp_path / "a[b]*"
    odd.mkdir()
    path = written(odd, sidecar=f'include: "*/w.yaml"\n{WORKERS}', inner__w="access: {admin: 10.0.0.0/8}")
    assert load_settings(path).access.admin


def test_mistakes_of_several_files_are_reported_at_once(tmp_path: Path) -> None:
    """In the order of the files, each with its own file, line and key."""
    assert told(
        tmp_path,
        sidecar=f"include: one.yaml\n{WORKERS}limits: {{waiting: 5}}\nroutes: [{{path: /x, refuse: 99}}]",
        one="\nlimits:\n  waiting: 6\n  waitng: 1\nroutes:\n  - {path: /y, refuse: 403}\n  - {path: /z, refuse: 98}",
    ) == [
        "one.yaml:3: limits.waiting: sidecar.yaml:4 sets this too; leave it out here or there",
        "sidecar.yaml:5: routes[0].refuse: must be from 400 to 599, not `99`",
        "one.yaml:4: limits.waitng: unknown key; did you mean `waiting`?",
        "one.yaml:7: routes[1].refuse: must be from 400 to 599, not `98`",
    ]


def test_files_are_bounded_in_depth_and_number(tmp_path: Path) -> None:
    """One sentence each; the deepest that is allowed is read."""
    deep = {f"f{number}": f"include: f{number + 1}.yaml" for number in range(1, DEEPEST + 1)}
    (message,) = told(tmp_path, sidecar=f"include: f1.yaml\n{WORKERS}", **deep, f9="{}", f10="{}")
    assert message.startswith("f8.yaml:1: include: files are included 8 deep already; include f9.yaml further up")
    (tmp_path / "f8.yaml").write_text("access: {admin: 10.0.0.0/8}")
    assert load_settings(str(tmp_path / "sidecar.yaml")).access.admin
    many = tmp_path / "many"
    many.mkdir()
    for number in range(MOST_FILES + 5):
        (many / f"{number:03}.yaml").write_text("")
    assert told(tmp_path, sidecar=f'include: "many/*.yaml"\n{WORKERS}') == [
        "sidecar.yaml:1: include: there are more than 200 files; put some of them together"
    ]


def test_files_are_bounded_in_size(tmp_path: Path) -> None:
    """All of them together."""
    half = "#" + "x" * (MOST_BYTES // 2)
    (message,) = told(tmp_path, sidecar=f"include: [a.yaml, b.yaml, c.yaml, d.yaml]\n{WORKERS}", a=half, b=half, c="")
    assert message == "sidecar.yaml:1: include[2]: the files together are larger than 4 MiB; are they the right ones?"


def test_variables_hold_in_included_files_and_in_their_names(tmp_path: Path) -> None:
    """With one environment for all."""
    path = written(
        tmp_path,
        sidecar="include: ${SITE}.yaml\n",
        one="workers:\n  main:\n    endpoint: unix:${DIR:-/run}/main.sock\n",
    )
    document = read_with_includes(path, {"SITE": "one"})
    assert document.value["workers"] == {"main": {"endpoint": "unix:/run/main.sock"}}
    (problem,) = read_with_includes(path, {}).problems
    assert problem.message.startswith("the environment variable `SITE` is not set")
