"""What heads remember of their sections: within its bounds, and longest what comes again and again."""

from __future__ import annotations

from collections import Counter

from sidecar.wire.head import LONGEST_SECTION, MOST_SECTIONS, OctetMemory

HALF = MOST_SECTIONS // 2


class Judge:
    """Counts what it is asked about."""

    def __init__(self) -> None:
        self.asked: Counter[bytes] = Counter()
        self.memory: OctetMemory[str] = OctetMemory(self)

    def __call__(self, raw: bytes) -> str:
        self.asked[raw] += 1
        return f"{len(raw)} octets"

    def fill(self, prefix: bytes, count: int) -> list[bytes]:
        sections = [b"%s%d" % (prefix, number) for number in range(count)]
        for section in sections:
            self.memory.find(section)
        return sections


def test_the_older_half_is_forgotten() -> None:
    """As soon as the younger one is full; what was asked for meanwhile belongs to the younger one."""
    judge = Judge()
    first, second, *_ = judge.fill(b"a", HALF)
    assert (len(judge.memory), len(judge.memory.recent)) == (HALF, HALF)
    judge.fill(b"b", 1)
    assert (len(judge.memory), list(judge.memory.recent)) == (HALF + 1, [b"b0"])
    assert judge.memory.find(first) == "2 octets"
    assert (judge.asked[first], first in judge.memory.recent) == (1, True)
    judge.fill(b"c", HALF - 2)
    assert len(judge.memory.recent) == HALF
    judge.fill(b"d", 1)
    judge.memory.find(first)
    judge.memory.find(second)
    assert (judge.asked[first], judge.asked[second]) == (1, 2)


def test_what_is_long_is_not_kept() -> None:
    """Whatever comes again."""
    judge = Judge()
    for _ in range(2):
        judge.memory.find(b"x" * (LONGEST_SECTION + 1))
    assert (list(judge.asked.values()), len(judge.memory)) == ([2], 0)
    judge.memory.find(b"x" * LONGEST_SECTION)
    assert len(judge.memory) == 1
    judge.memory.clear()
    assert len(judge.memory) == 0
