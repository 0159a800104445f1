"""What is seen of frames before the library takes them."""

from __future__ import annotations

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import strategies as st

from sidecar.http2.faults import ConversationError, ErrorCode
from sidecar.http2.frames import PREFACE, Allowance, FrameWatch, goaway

HEADERS = HeadersFrame(1, data=b"abc", flags=["END_HEADERS"])
BEGUN = HeadersFrame(1, data=b"abc")
MORE = ContinuationFrame(1, data=b"d")
LAST = ContinuationFrame(1, data=b"", flags=["END_HEADERS"])
GOAWAY = GoAwayFrame(0, 1, 0, b"so long")


def octets(*frames: Frame) -> bytes:
    return PREFACE + b"".join(frame.serialize() for frame in frames)


@given(st.lists(st.sampled_from([HEADERS, DataFrame(1, data=b"x" * 300), PingFrame(0), GOAWAY])), st.data())
def test_all_goes_on_but_a_farewell(frames: list[Frame], data: st.DataObject) -> None:
    """However the octets are cut. h2 would send no answer any more behind a GOAWAY."""
    whole = octets(*frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    watch = FrameWatch(1000)
    out = b"".join(watch.feed(whole[start:end]) for start, end in zip((0, *cuts), (*cuts, len(whole)), strict=True))
    assert out == octets(*(frame for frame in frames if frame is not GOAWAY))
    assert watch.farewell is (GOAWAY in frames)
    assert watch.take_idle() == sum(isinstance(frame, PingFrame | GoAwayFrame) for frame in frames)


@pytest.mark.parametrize(
    ("frame", "idle"),
    [
        (SettingsFrame(0), 1),
        (PingFrame(0), 1),
        (WindowUpdateFrame(0, 1), 1),
        (DataFrame(1), 1),
        (DataFrame(1, data=b"x"), 0),
        (DataFrame(1, data=b"", flags=["PADDED"], pad_length=9), 1),
        (DataFrame(1, flags=["END_STREAM"]), 0),
        (HEADERS, 0),
    ],
)
def test_what_asks_for_nothing(frame: Frame, idle: int) -> None:
    """CVE-2019-9512, 9515, 9517, 9518: what is counted."""
    watch = FrameWatch(1000)
    watch.feed(octets(frame))
    assert watch.take_idle() == idle
    assert watch.take_idle() == 0


def test_lists_of_fields_that_do_not_end() -> None:
    """CVE-2024-27316: a block is bounded while it comes, and each CONTINUATION is counted."""
    watch = FrameWatch(3 + 40)
    watch.feed(octets(BEGUN, *[MORE] * 40))
    assert watch.in_block
    assert watch.take_idle() == 40
    with pytest.raises(ConversationError) as caught:
        watch.feed(MORE.serialize())
    assert caught.value.code == ErrorCode.ENHANCE_YOUR_CALM
    watch = FrameWatch(100)
    watch.feed(octets(BEGUN, LAST))
    assert not watch.in_block


def test_a_farewell_within_a_list_of_fields_is_not_hidden() -> None:
    """It is against the rules there (RFC 9113 6.10), and h2 shall see it."""
    assert FrameWatch(100).feed(octets(BEGUN, GOAWAY)) == octets(BEGUN, GOAWAY)


def test_a_frame_that_is_too_long_is_not_waited_for() -> None:
    """By its first nine octets."""
    with pytest.raises(ConversationError) as caught:
        FrameWatch(100).feed(PREFACE + b"\x00\x40\x01\x00" + bytes(5))
    assert caught.value.code == ErrorCode.FRAME_SIZE_ERROR


def test_our_farewell_is_one() -> None:
    """As the library reads it."""
    frame, length = Frame.parse_frame_header(memoryview(goaway(7, 11))[:9])
    frame.parse_body(memoryview(goaway(7, 11))[9 : 9 + length])
    assert isinstance(frame, GoAwayFrame)
    assert (frame.last_stream_id, frame.error_code, len(goaway(7, 11))) == (7, 11, 9 + length)


def test_an_allowance() -> None:
    """So many at once, and as many again in a minute; never more than that is saved."""
    allowance = Allowance(60, 100.0)
    assert allowance.spend(60, 100.0)
    assert not allowance.spend(1, 100.0)
    assert allowance.spend(1, 102.0)
    assert not allowance.spend(61, 1000.0)
    assert allowance.spend(0, 1001.0)
    allowance.earn(5)
    assert allowance.spend(5, 1001.0)
