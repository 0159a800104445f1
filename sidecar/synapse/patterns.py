"""Path patterns: from the regular expressions of Synapse's servlets to the notation of the table, and to segments.

The notation is a path in which `{name}` is a segment, empty or not, `{name+}` one that is not empty, `{a|b/c}` a
choice of literals, `[…]` a part that may be absent and `**`, at the end, one or more segments of any kind. Knows
nothing of Synapse but the few forms that its expressions take; any other form is a `PatternError`, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"(?P<open>\((?:\?P<(?P<name>\w+)>|\?:)?)"
    r"|(?P<close>\)\??)"
    r"|(?P<several>(?:\[(?:\\.|[^\]\\])+\]|\.)[*+])"
    r"|(?P<bar>\|)"
    r"|(?P<slash>/\?)"
    r"|\\(?P<escaped>[^A-Za-z0-9])"
    r"|(?P<plain>[A-Za-z0-9_./~%!@,:;=-])"
)

_SEGMENT = re.compile(r"\*\*|[^{}\[\]*]*|\{[^{}]+\}")


class PatternError(ValueError):
    """A regular expression of a form that the notation has no words for."""


def notation_of(regex: str) -> str:
    """The notation of a servlet's `regex`, which Synapse matches with `re.match` on the raw path.

    Three differences are meant. A dot that Synapse forgot to escape is a dot here. Without `$` an expression also
    matches what follows; here only what follows a slash. Both make the notation narrower, and what no row matches goes
    to main, which has it too. A class of characters (`[\\w\\.]*`) is any segment here. That is wider, but outside the
    class no process serves the path, so all answer it alike.
    """
    choices = _choices(_tokens(regex.removeprefix("^").removesuffix("$")), None)
    if len(choices) != 1:
        raise PatternError(f"{regex!r} has alternatives that are not in a group")
    return choices[0] if regex.endswith("$") else choices[0] + "[/**]"


def _tokens(regex: str) -> Iterator[re.Match[str]]:
    position = 0
    while position < len(regex):
        token = _TOKEN.match(regex, position)
        if token is None:
            raise PatternError(f"{regex!r} has a form that is not known here, at {regex[position:]!r}")
        yield token
        position = token.end()


def _choices(tokens: Iterator[re.Match[str]], name: str | None) -> list[str]:
    """The alternatives up to the end of the group in which `tokens` stand; `name` is that of the group."""
    choices = [""]
    for token in tokens:
        if token["close"]:
            if token["close"].endswith("?"):
                return [f"[{_one(choices)}]"]
            break
        if token["bar"]:
            choices.append("")
        else:
            choices[-1] += _part(token, tokens, name)
    return choices


def _part(token: re.Match[str], tokens: Iterator[re.Match[str]], name: str | None) -> str:
    if token["open"]:
        return _one(_choices(tokens, token["name"]))
    if token["several"] == ".*":
        return "**"
    if token["several"]:
        return "{" + (name or "_") + ("+" if token["several"].endswith("+") else "") + "}"
    if token["slash"]:
        return "[/]"
    return token["escaped"] or token["plain"]


def _one(choices: list[str]) -> str:
    return choices[0] if len(choices) == 1 else "{" + "|".join(choices) + "}"


def paths_of(notation: str) -> tuple[tuple[str, ...], ...]:
    """The segment patterns that `notation` stands for, in the form of `Endpoint.path`, longest first, none twice."""
    paths: dict[tuple[str, ...], tuple[str, ...]] = {}
    for text in _without_options(notation):
        for path in _without_slashes_in_choices(text):
            segments = tuple(path.split("/")[1:])
            if not all(_SEGMENT.fullmatch(segment) for segment in segments) or "**" in segments[:-1]:
                raise PatternError(f"{notation!r} has a segment that is neither whole literal nor whole parameter")
            paths.setdefault(tuple(shape_of(segment) for segment in segments), segments)
    return tuple(paths.values())


def shape_of(segment: str) -> str:
    """`segment` without the name of its parameter: what it matches, and nothing else."""
    if not segment.startswith("{") or "|" in segment:
        return segment
    return "{+}" if segment.endswith("+}") else "{}"


def _without_options(notation: str) -> list[str]:
    start = notation.find("[")
    if start < 0:
        return [notation]
    depth, end = 1, start
    while depth:
        end += 1
        depth += {"[": 1, "]": -1}.get(notation[end], 0)
    before, option, after = notation[:start], notation[start + 1 : end], notation[end + 1 :]
    return [*_without_options(before + option + after), *_without_options(before + after)]


def _without_slashes_in_choices(path: str) -> list[str]:
    """`{api/v1|r0|v3}` becomes `api/v1` and `{r0|v3}`: an alternative of a segment has no slash."""
    for choice in re.finditer(r"\{([^}]*\|[^}]*)\}", path):
        literals = choice[1].split("|")
        single = [literal for literal in literals if "/" not in literal]
        if len(single) < len(literals):
            forms = [literal for literal in literals if "/" in literal]
            if single:
                forms.append(_one(single))
            return [
                whole
                for form in forms
                for whole in _without_slashes_in_choices(path[: choice.start()] + form + path[choice.end() :])
            ]
    return [path]
