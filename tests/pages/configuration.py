"""Writes `docs/configuration.md` and `docs/sidecar.schema.json`: `PYTHONPATH=tests python -m pages.configuration`.

A test fails where the files differ from what this writes. Adds no fact of its own about any key.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin
from urllib.parse import quote

import attrs
import yaml

from sidecar.config import kinds
from sidecar.config.kinds import Kind
from sidecar.config.load import keys_of, kind_of
from sidecar.config.schema import Settings

DOCS = Path(__file__).parents[2] / "docs"

INTRODUCTION = """\
# The configuration file

`matrix-sidecar` reads one YAML file: `/etc/matrix-sidecar/sidecar.yaml`, or the one that `--config` names. Three lines
are enough ([conf/minimal.yaml](../conf/minimal.yaml)). [conf/sidecar.yaml](../conf/sidecar.yaml) shows every key, and
[conf/explicit.yaml](../conf/explicit.yaml) shows how to list workers yourself. `matrix-sidecar check` reports every
mistake in a file, with its line. With [sidecar.schema.json](sidecar.schema.json), an editor completes and checks keys.
Editors that use yaml-language-server find it by the first line of the file:

```yaml
# yaml-language-server: $schema=/opt/venvs/matrix-sidecar/share/matrix-sidecar/sidecar.schema.json
```

This page is generated from `sidecar/config/schema.py` and `limits.py` by
`PYTHONPATH=tests python -m pages.configuration`.

## How values are written

- **Unknown keys and repeated keys are errors.** A key without a value counts as absent, so you can comment out
  every line of a section.
- **A list with one value** can be written as that value, without brackets.
- **Relative paths** are relative to the directory of the file. This includes paths in endpoint strings.
- **A variable of the environment** can stand in any value: see [below](#variables-of-the-environment).
- **YAML 1.1** does not read `on`, `no`, `1.10` or `12:30` as text. If a key expects text, put such a value in quotes.
- The file is UTF-8. It has at most 4 MiB, 64 levels, and 200000 values after aliases are expanded.
"""

FILES_AND_VARIABLES = """\
## Several files

`include` names other files with keys of this page. A [recipe](recipes.md#split-the-configuration-into-several-files)
shows it.

```yaml
include: [tls.yaml, "conf.d/*.yaml"]
```

- **A path or pattern** is relative to the directory of the file that names it. In a pattern, `*`, `?` and `[…]` stand
  for what they stand for in a shell. A pattern may match no file, but its directory must exist. A file that is named
  without a pattern must exist.
- **Order:** the files come in the order of the list, and those of a pattern in the order of their names.
- **Sections are combined key by key.** One file can add a worker to `workers`, and another one a limit to `limits`.
- **The same key in two files is an error** that names both files and lines. No file overrides another one. A key
  without a value counts as absent.
- **`routes` of all files follow one another:** first those of the file that includes, then those of the included
  files, in their order. Where a command prints `routes[12]`, it counts through all files. Messages about a mistake
  count in the file of the mistake. All other lists must stand in one file.
- **Relative paths** in an included file are relative to the directory of that file.
- **Limits:** an included file can include others, 8 deep; at most 200 files, together about 4 MiB. Each file can be
  included once.

A mistake in an included file is reported with the name of that file. A reload reads all files again; if one of them
has a mistake, nothing changes.

## Variables of the environment

| in the file | means |
| --- | --- |
| `${NAME}` | the value of the variable. It is an error if the variable is not set or is empty. |
| `${NAME:-default}` | the value, or `default` if the variable is not set or is empty; without `{` and `}` |
| `$${` | the two characters `${` |

```yaml
listen: tcp:${SIDECAR_PORT:-8008}:interface=127.0.0.1
limits:
  waiting: ${SIDECAR_WAITING:-1000}
```

- Variables work in all values of `sidecar.yaml` and of the files that it includes, also in `include` itself. They do
  not work in keys, or in Synapse's files.
- Where a number, a duration or a flag is wanted, the variable can hold one. A value that turns out empty counts as
  absent.
- Inside `{…}` and `[…]`, put the value in quotes: `limits: {waiting: "${SIDECAR_WAITING}"}`.
- Messages about a mistake show `${NAME}` and not what the variable holds, because that may be a secret.
- The environment is that of the process. A reload does not change it: after you change a variable, restart the
  sidecar. Set variables for the service with `Environment=` or `EnvironmentFile=` (`systemctl edit matrix-sidecar`),
  and for `matrix-sidecar check` in your shell.

"""

_NOTES = {
    "duration": "A number with `ms`, `s`, `m`, `h` or `d`, or a number of seconds; at most 365d.",
    "size": "A whole number of bytes, or one with `K`, `M` or `G` (1024, 1024², 1024³).",
    "network": "An address or a network of IPv4 or IPv6. No bits may be set after the prefix length.",
    "server endpoint": "A Twisted server endpoint string: `tcp:`, `tcp6:`, `ssl:`, `unix:`, `systemd:`, `haproxy:` "
    "before one of them, or an endpoint of a Twisted plugin. `ssl:` and `systemd:` take the files for TLS. "
    "Write colons in a value, as in IPv6 addresses, as `\\:`.",
    "client endpoint": "A Twisted client endpoint string: `unix:` with a path, or `tcp:` with host and port.",
    "path": "A file or a directory.",
    "name": "Letters, digits and `_ . : @ + -`, at most 128. The main process is always `main`.",
    "name or glob": "A name in which `*`, `?` and `[…]` mean what they mean in a shell.",
    "path pattern": "Segments between `/`: text, `{name}` for exactly one, `**` at the end for the rest.",
    "password hash": "The line that `matrix-sidecar password` prints, in quotes.",
    "host name": "A name without a port. `*.` in front stands for all names below it.",
}

VARIABLE = {"type": "string", "pattern": r"\$\{"}
"""What may stand in place of a value that is not any text."""


def markdown() -> str:
    """The text of `docs/configuration.md`."""
    parts = [INTRODUCTION, *_kinds(), FILES_AND_VARIABLES, *_sections()]
    return "\n".join(parts).rstrip() + "\n"


def json_schema() -> str:
    """The text of `docs/sidecar.schema.json`."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sidecar.yaml of matrix-sidecar",
        **_schema_of(Settings),
        "$defs": {name: _kind_schema(kind) for name, kind in sorted(_all_kinds().items())},
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _all_kinds() -> dict[str, Kind]:
    found = (kind_of(value) for value in vars(kinds).values())
    return {kind.name: kind for kind in found if kind is not None}


def _kinds() -> Iterator[str]:
    yield "| kind | example | |\n| --- | --- | --- |"
    for name, kind in _all_kinds().items():
        if name in _NOTES:
            yield f"| {name} | `{kind.example}` | {_NOTES[name]} |"
    yield ""


def _sections() -> Iterator[str]:
    yield from _section("## All keys", Settings)
    for name, key in keys_of(Settings).items():
        section, title = _section_of(key.type), f"`{name}`"
        if section is None:
            continue
        origin = get_origin(_given(key.type))
        if origin is not None:
            title = f"`{name}.NAME`" if origin is not tuple else f"each of `{name}`"
        yield from _section(f"## {title}", section)
        for inner_name, inner in keys_of(section).items():
            deeper = _section_of(inner.type)
            if deeper is not None:
                yield from _section(f"### `{inner_name}` in {title}", deeper)


def _section(heading: str, section: type) -> Iterator[str]:
    purpose = (inspect.getdoc(section) or "").partition("`. ")[2]
    yield f"{heading}\n"
    if purpose:
        yield f"{purpose}\n"
    yield "| key | kind | default | meaning |\n| --- | --- | --- | --- |"
    for name, key in keys_of(section).items():
        meaning = str(key.metadata["doc"]).replace("|", "\\|")
        yield f"| `{name}` | {_kind_text(key.type)} | {_default_text(key)} | {meaning} |"
    yield ""


def _section_of(annotation: Any) -> type | None:
    """The section that an annotation leads to, directly, in a list or in a mapping."""
    if attrs.has(annotation):
        section: type = annotation
        return section
    inner = [_section_of(part) for part in get_args(annotation)] if kind_of(annotation) is None else []
    return next((section for section in inner if section is not None), None)


def _given(annotation: Any) -> Any:
    """An annotation without `| None`."""
    parts = get_args(annotation)
    if kind_of(annotation) is None and type(None) in parts:
        return next(part for part in parts if part is not type(None))
    return annotation


def _kind_text(annotation: Any) -> str:
    annotation = _given(annotation)
    kind = kind_of(annotation)
    if kind is not None:
        words = kind.json.get("enum")
        return ", ".join(f"`{word}`" for word in words) if words else kind.name
    if get_origin(annotation) is tuple:
        return f"list: {_kind_text(get_args(annotation)[0])}"
    if get_args(annotation):
        key, value = get_args(annotation)
        return f"{_kind_text(key)}: {_kind_text(value)}"
    return ", ".join([*(f"`{word}`" for word in getattr(annotation, "SHORT", ())), "section"])


def _default_text(key: attrs.Attribute[Any]) -> str:
    if key.default is attrs.NOTHING:
        return "required"
    annotation = _given(key.type)
    is_list = get_origin(annotation) is tuple
    kind = kind_of(get_args(annotation)[0] if is_list else annotation)
    values: Any = key.default if is_list else (key.default,)
    if kind is None or key.default in (None, ""):
        return ""
    return ", ".join(f"`{kind.write(value)}`" for value in values or ())


def _schema_of(annotation: Any) -> dict[str, Any]:
    annotation = _given(annotation)
    kind = kind_of(annotation)
    if kind is not None:
        return {"$ref": f"#/$defs/{quote(kind.name)}"} if _all_kinds().get(kind.name) is kind else _kind_schema(kind)
    if get_origin(annotation) is tuple:
        item = _schema_of(get_args(annotation)[0])
        several = {"type": "array", "items": item}
        return several if "properties" in item else {"anyOf": [item, several]}
    if get_origin(annotation) is not None:
        return {"type": "object", "additionalProperties": _nullable(get_args(annotation)[1])}
    keys = keys_of(annotation)
    needed = [name for name, key in keys.items() if key.default is attrs.NOTHING]
    properties = {name: {"description": key.metadata["doc"], **_schema_of(key.type)} for name, key in keys.items()}
    schema: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": properties}
    schema |= {"required": needed} if needed else {}
    words = list(getattr(annotation, "SHORT", ()))
    return {"anyOf": [{"enum": words}, schema]} if words else schema


def _kind_schema(kind: Kind) -> dict[str, Any]:
    single = dict(kind.json) if "enum" in kind.json else {**kind.json, "examples": [yaml.safe_load(kind.example)]}
    return single if kind.json == {"type": "string"} else {"anyOf": [single, VARIABLE]}


def _nullable(annotation: Any) -> Mapping[str, Any]:
    schema = _schema_of(annotation)
    return schema if _given(annotation) is annotation else {"anyOf": [schema, {"type": "null"}]}


def main(docs: Path = DOCS) -> None:
    """Write both files into `docs`."""
    (docs / "configuration.md").write_text(markdown(), encoding="utf-8")
    (docs / "sidecar.schema.json").write_text(json_schema(), encoding="utf-8")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
