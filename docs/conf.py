"""Builds this directory as a site: `sphinx-build -W --keep-going -n docs build/site`.

The pages are plain Markdown that a forge shows as well. What is here makes the navigation from the lists in index.md,
lets links lead out of this directory, and stacks the cells of wide tables on small screens. Nothing is fetched, neither
for the build nor by the site.
"""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

project = "matrix-sidecar"
author = "the authors of matrix-sidecar"
extensions = ["myst_parser"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = project
html_show_copyright = False
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
myst_heading_anchors = 4
# No curly quotes, and no dashes that were not written: commands are copied from here.
smartquotes = False

SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n?)*)", re.MULTILINE)
PAGE = re.compile(r"^- \[([^]]+)\]\((\w[\w-]*)\.md\)", re.MULTILINE)
SENTENCE = 60
"""Characters of a cell that wants a line of its own on a small screen."""
OUTSIDE = re.compile(r"\[([^]]+)\]\((\.\./[^)#]+)\)")


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Each section of the front page that lists pages is a part of the navigation, with the same titles."""
    if name == app.config.root_doc:
        for title, text in SECTION.findall(source[0]):
            pages = "".join(f"{words} <{page}>\n" for words, page in PAGE.findall(text))
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}```\n" if pages else ""


def lead_outside(app: Sphinx, _name: str, source: list[str]) -> None:
    """A file of the checkout is a download, which it would not be if it is Markdown; a directory is only its name."""

    def link(found: re.Match[str]) -> str:
        text, target = found.groups()
        return text if (Path(app.srcdir) / target).is_dir() else f"[{text}](path:{target})"

    source[0] = OUTSIDE.sub(link, source[0])


def stack_tables(_app: Sphinx, document: nodes.document) -> None:
    """A table of three or more columns with sentences in its last one: each cell gets the title of its column."""
    for table in document.findall(nodes.table):
        head, *rows = table.findall(nodes.row)
        titles = [title.astext() for title in head]
        if len(titles) > 2 and any(len(row[-1].astext()) > SENTENCE for row in rows):
            table["classes"].append("stacked")
            for row in rows:
                for title, cell in zip(titles[1:], row[1:], strict=True):
                    if not cell.astext():
                        cell["classes"].append("empty")
                    elif title:
                        cell[0].insert(0, nodes.inline("", f"{title}: ", classes=["column-title"]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.connect("source-read", add_contents)
    app.connect("source-read", lead_outside)
    app.connect("doctree-read", stack_tables)
    return {"parallel_read_safe": True}
