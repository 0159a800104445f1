"""Variables of the environment: what each spelling means, and that nothing else changes or is told."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.config.load import settle
from sidecar.config.schema import Settings
from sidecar.config.variables import with_variables
from sidecar.document import MOST_BYTES, Document, parse_document
from sidecar.errors import ConfigError

WORKERS = 'workers: {main: {endpoint: "unix:/run/main.sock"}}\n'
NAMES = st.sampled_from(["A", "B_1", "_c", "UNSET", "EMPTY"])
SET = {"A": "one", "B_1": "${A} $${", "_c": "2\n3", "EMPTY": ""}
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="${}"), max_size=5)
PIECES = st.one_of(
    PLAIN.map(lambda text: (text, text)),
    st.sampled_from(["$", "}", "$ ", "{"]).map(lambda text: (text + " ", text + " ")),
    st.just(("$${", "${")),
    NAMES.filter(SET.get).map(lambda name: (f"${{{name}}}", SET[name])),
    st.tuples(NAMES, PLAIN).map(lambda pair: (f"${{{pair[0]}:-{pair[1]}}}", SET.get(pair[0]) or pair[1])),
)


def read(text: str, environment: Mapping[str, str]) -> Settings:
    content = (WORKERS + text).encode()
    return settle(with_variables(evolve(parse_document(content, "/etc/s/sidecar.yaml"), content=content), environment))


def faults(text: str, environment: Mapping[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, environment)
    return [str(problem).removeprefix("/etc/s/sidecar.yaml:") for problem in caught.value.problems]


@given(st.lists(PIECES, max_size=6))
@example([("$", "$"), ("$${", "${"), ("A}", "A}")])
def test_a_text_is_the_sum_of_its_pieces(pieces: list[tuple[str, str]]) -> None:
    """Each piece by itself, once: what a variable holds is not looked through for variables."""
    written, meant = ("".join(each) for each in zip(*pieces, strict=True)) if pieces else ("", "")
    document = with_variables(Document("f", {"a": [written, {"b": written}]}), SET)
    assert document.problems == ()
    assert document.value == {"a": [meant or (None if "${" in written else ""), {"b": document.value["a"][0]}]}


@given(st.recursive(st.none() | st.integers() | PLAIN, lambda each: st.lists(each) | st.dictionaries(PLAIN, each)))
def test_what_names_no_variable_stays_as_it_is(value: object) -> None:
    """Keys, numbers and all other text."""
    assert with_variables(Document("f", {"a": value, "${A}": 1}), SET).value == {"a": value, "${A}": 1}


@pytest.mark.parametrize(
    ("text", "holds", "meant"),
    [
        ("limits:\n  waiting: ${V}", "7", lambda settings: settings.limits.waiting == 7),
        ('limits: {waiting: "${V}"}', "7", lambda settings: settings.limits.waiting == 7),
        ("limits:\n  request_body: ${V}M", "7", lambda settings: settings.limits.request_body == 7 * 1024**2),
        ("timeouts:\n  wait: ${V}", "2", lambda settings: settings.timeouts.wait == 2),
        ("access:\n  admin: ${V}", "10.0.0.0/8", lambda settings: str(settings.access.admin[0]) == "10.0.0.0/8"),
        ("listen: tcp:${V}", "8009", lambda settings: settings.listen == ("tcp:8009",)),
        ("admin: ${UNSET:-}", "", lambda settings: settings.admin is None),
        ("compress: ${UNSET:-}", "", lambda settings: settings.compress is None),
        (
            "routes:\n  - path: /x\n    respond:\n      body: ${V}",
            "12:30",
            lambda settings: settings.routes[0].respond.body == "12:30",
        ),
        (
            "routes:\n  - path: /x\n    table: ${V}",
            "true",
            lambda settings: settings.routes[0].table is True,
        ),
    ],
)
def test_the_key_decides_what_a_variable_is(text: str, holds: str, meant: object) -> None:
    """A number where one is wanted, text where text is wanted, whether in quotes or not."""
    assert callable(meant)
    assert meant(read(text, {"V": holds}))


@pytest.mark.parametrize(
    ("text", "environment", "told"),
    [
        (
            "admin: ${V}",
            {},
            "2: admin: the environment variable `V` is not set; set it where this program starts, or write "
            "`${V:-default}`",
        ),
        (
            "listen: [tcp:1, 'tcp:${V}']",
            {"V": ""},
            "2: listen[1]: the environment variable `V` is empty; set it where this program starts, or write "
            "`${V:-default}`",
        ),
        (
            "admin: ${V",
            {},
            "2: admin: `${` begins a variable: write `${NAME}` or `${NAME:-default}`, or `$${` for the two characters "
            "themselves",
        ),
        (
            "admin: ${V-x}",
            {},
            "2: admin: `${` begins a variable: write `${NAME}` or `${NAME:-default}`, or `$${` for the two characters "
            "themselves",
        ),
        (
            "admin: ${V}",
            {"V": "\udcff"},
            "2: admin: the environment variable `V` is not UTF-8; set it to text",
        ),
        (
            "limits:\n  waiting: ${V}",
            {"V": "hunter2"},
            "3: limits.waiting: what the environment gives for `${V}` does not fit; it must be a number such as `1000`",
        ),
        (
            "operator:\n  password_hash: ${V}",
            {"V": "hunter2"},
            "3: operator.password_hash: what the environment gives for `${V}` does not fit; it must be a password hash "
            "such as `$scrypt$ln=14,r=8,p=1$GVhUi95C2dXv11AvfWmN8g$WwmtKOc29uHppSiLTRmfn1dpu4nup5HY1ss2NE4WKf4`",
        ),
        (
            "compress: ${V}",
            {"V": "hunter2"},
            "2: compress: must be a mapping with keys such as `types: application/json`, not a single value",
        ),
        (
            "limits: {waiting: ${V}}",
            {"V": "7"},
            "2: this is no valid YAML: a `,` or the `}` of a mapping is missing; inside `{…}` and `[…]` write "
            '"${NAME}" in quotes',
        ),
        (
            "admin: ${V}${V}",
            {"V": "x" * (MOST_BYTES // 2 + 1)},
            "2: admin: the variables of this file together hold more than 4 MiB; name a shorter one",
        ),
    ],
)
def test_each_mistake_is_one_sentence_without_the_value(text: str, environment: dict[str, str], told: str) -> None:
    """With line and key, and with what is written in the file."""
    (problem,) = faults(text, environment)
    assert problem == told
    assert "hunter2" not in problem
