"""HTML is made so that nothing that is put into it can be anything but text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pictures import parsed

from sidecar.admin.page.markup import Markup, joined, tag

# What HTML itself does not keep: NUL, and CR, which it reads as LF.
TEXT = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"])) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "&lt;", "'", "</td></tr>", "<!--", "]]>"]
)


@given(TEXT, TEXT)
def test_text_stays_text(text: str, value: str) -> None:
    """What was put in comes out, in content and in attributes, and nothing besides."""
    root = parsed(tag("p", text, tag("b", text), title=value, class_="x"))
    (element,) = root.children
    assert element == root.one("p")
    assert element.attributes == {"title": value, "class": "x"}
    assert element.text == text + text
    assert [each.name for each in root.all()] == ["p", "b"]


def test_children_and_attributes() -> None:
    """Numbers, nothing, lists; an attribute that is true, one that is not."""
    assert tag("td", 3, None, ["<", tag("i")], data_x=True, hidden=False, title=None) == (
        "<td data-x>3&lt;<i></i></td>"
    )
    assert tag("input", name="a", value=3) == '<input name="a" value="3">'
    assert isinstance(joined(["&"]), Markup)
    assert joined([joined(["&"])]) == "&amp;"
