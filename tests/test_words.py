"""The words that people read, in the pages and in what the program prints, against a short table.

The table has what CONTRIBUTING.md asks for and proselint does not know. Code is passed over: fenced blocks, what stands
between backticks, names and docstrings; the docstring of a command is its help, and counts.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs.blocks import PAGES, without_blocks

ROOT = Path(__file__).parents[1]
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]
PROGRAM = sorted((ROOT / "sidecar").rglob("*.py"))

INSTEAD = {
    # The industry's words.
    r"told|tells?(?! (you|your|the (client|browser|load balancer)))": "say, show, report, log, send, list",
    r"octets?(?!-stream)": "byte",
    r"(is|are|was|be|stays?|as) away": "down",
    r"(away|mending|mended)(?= worker)": "down, fixed",
    r"downstream server": "client",
    # Where a reader stops.
    r"whose such": "name the thing: which user the token belongs to",
    r"the rest goes on": "say what still works",
    r"holds from": "say when the change takes effect",
    r"what is written under": "name the section",
    r"who(ever)? can connect may": "anyone who can connect",
    r"so many of (each|them)|of which so many": "give the number",
    r"(are|has|have) 1 \w+s": "one thing is singular",
    r"for ever": "forever",
    r"superfluous": "not needed",
    r"not carried over": "not converted, lost",
    r"nothing corresponds": "the sidecar has no such setting",
    r"spoken (to|for)": "connected to, used",
    r"is taken to be": "is",
    r"goes? past": "bypass",
    r"(is|are) not believed": "the sidecar ignores it",
    r"mend(s|ed|ing)?": "fix, correct",
    r"names? (say|says|said) that": "by its name",
    r"is not to be seen": "is not visible",
    r"(comes?|came) as (it was|they were) sent": "arrive unchanged",
    r"whose word": "who is trusted",
    r"without a word": "without an answer",
    r"what is no \w+ that": "if it is not …",
    r"made anew": "again, or updated",
    # https://developers.google.com/style/word-list
    r"e\.g\.": "for example",
    r"i\.e\.": "that is",
    r"in order to": "to",
    r"utili[sz]e[sd]?|leverag(e[sd]?|ing)": "use",
    r"simply|obviously": "(nothing)",
    r"blacklist|whitelist": "denylist, allowlist",
    r"click here": "say where the link leads",
    r"colou?rs?(?<=our|urs)|behaviours?|favour\w*|honours?|recognis\w+|learnt|whilst|amongst": "American spelling",
}
"""A regular expression, and what to write instead."""
QUOTED = frozenset({"url_preview_ip_range_blacklist", "federation_domain_whitelist"})
"""Settings of Synapse are not ours to rename."""
DOUBLED = re.compile(r"(?<![\w-])([a-z]{2,}) \1\b")


def prose(page: Path) -> str:
    """The text of a page without its code."""
    return re.sub(r"`[^`\n]*`", lambda found: "`" + " " * (len(found[0]) - 2) + "`", without_blocks(page))


def printed(file: Path) -> Iterator[tuple[int, str]]:
    """The text constants of a module, by line; of docstrings only those of commands."""
    tree = ast.parse(file.read_text("utf-8"))
    silent = {
        id(statement.value)
        for node in ast.walk(tree)
        for place, statement in enumerate(_statements(node))
        if isinstance(statement, ast.Expr) and not (place == 0 and _is_command(node))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.lineno, node.value


def _statements(node: ast.AST) -> list[ast.stmt]:
    body = getattr(node, "body", None)
    return body if isinstance(body, list) else []


def _is_command(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(re.search(r"\b(command|group)\(", ast.unparse(decorator)) for decorator in decorators)


def faults(text: str) -> Iterator[tuple[int, str]]:
    """Where in a text something of the table is, and what to write instead."""
    for words, instead in INSTEAD.items():
        for found in re.finditer(rf"\b(?:{words})(?![\w-])", text, re.IGNORECASE):
            yield found.start(), f"{found[0]!r}: {instead}"
    for found in DOUBLED.finditer(text):
        yield found.start(), f"{found[0]!r}: once"


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_a_page_has_the_words_of_administrators(page: Path) -> None:
    """None of the table."""
    text = prose(page)
    assert [f"{page.name}:{text.count(chr(10), 0, place) + 1}: {fault}" for place, fault in faults(text)] == []


def test_the_program_has_the_words_of_administrators() -> None:
    """None of the table in a message, a help text, or the text of a setting."""
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {fault}"
        for file in PROGRAM
        for line, text in printed(file)
        if " " in text and text not in QUOTED
        for _, fault in faults(re.sub(r"`[^`]*`", "``", text))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "Questions to Synapse whose such a token is.",
        "sync2 is missing; the rest goes on.",
        "What is written under `operator` holds from a reload on.",
        "left out, and told",
        "Who can connect may drain",
        "There are 1 endpoints.",
        "worker sync2 is away",
        "a control octet in the head",
        "the the worker",
        "Colours are for terminals",
        "superfluous: it was read",
        "a filter that is not carried over",
        "The homeserver is taken to be example.org.",
        "it is spoken to with TLS there",
        "What is below /_matrix goes past this sidecar.",
        "Its X-Forwarded-For is not believed.",
        "Mend the file, and reload again.",
        "Host comes as it was sent.",
    ],
)
def test_the_table_finds_what_it_is_for(text: str) -> None:
    """Each sentence was once ours."""
    assert list(faults(text))


@pytest.mark.parametrize(
    "text", ["application/octet-stream", "The client goes away.", "`doctor` tells you what to write.", "11 endpoints"]
)
def test_the_table_leaves_the_rest_alone(text: str) -> None:
    """What looks like it and is right."""
    assert list(faults(text)) == []
