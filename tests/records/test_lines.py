"""The lines of the access log: what is in them can be read back, and nothing else is in them."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from noted import PLAIN, noted

from sidecar.exchange.failures import Failure
from sidecar.records.access_log import AccessLog
from sidecar.records.choice import LogChoice
from sidecar.records.lines import KEPT, Hasher, Lines
from sidecar.records.record import DONE, ENDED_BY, Record, ended_by, is_fault
from sidecar.records.request_id import NewIds
from sidecar.synapse.names import BUILT_IN_POOLS

SECRET = b"known to nobody"
NOW = 1764080000.25
"""When everything ends."""
ENDINGS = [DONE, "refuse", "respond", "redirect", "malformed", *(failure.name.lower() for failure in Failure)]
SECONDS = st.floats(0, 1e6)
RECORDS = st.builds(
    Record,
    client=st.ip_addresses().map(str),
    method=st.from_regex(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}", fullmatch=True),
    endpoint=st.sampled_from(["sync", "room_send_event", "unknown"]),
    pool=st.sampled_from(["", *BUILT_IN_POOLS]),
    kind=st.sampled_from(["user", "room", "none"]),
    key=st.none() | st.text(),
    worker=st.text(),
    status=st.integers(0, 999),
    bytes_up=st.integers(0, 2**40),
    bytes_down=st.integers(0, 2**40),
    queue=st.just(0.0) | SECONDS,
    connect=SECONDS,
    first_byte=SECONDS,
    began=SECONDS | st.floats(1e6 - 1, 1e6),
    ended=st.just(1e6),
    attempts=st.integers(0, 3),
    moved=st.booleans(),
    uncompressed=st.just(0) | st.integers(0, 2**40),
    ending=st.sampled_from(ENDINGS),
    request_id=st.from_regex(r"[A-Za-z0-9._:/+=@-]{1,128}", fullmatch=True),
).map(
    lambda record: evolve(
        record,
        connect=min(record.connect, record.queue),
        first_byte=min(record.first_byte, record.ended - record.began),
    )
)
SHARES = st.just(1.0) | st.floats(0.001, 0.999)


def line(record: Record, *, as_json: bool, share: float = 1.0, now: float = NOW) -> str:
    """The first that is told of, where of what goes well only a share is."""
    lines = Lines(Hasher(SECRET), NewIds("c0ffee"), LogChoice(share), json=as_json)
    while not (told := lines.of([record], now - record.ended)):
        pass
    return told[0]


def test_json() -> None:
    """One object on one line, with what the documentation promises."""
    assert json.loads(line(PLAIN, as_json=True)) == {
        "time": "2025-11-25T14:13:20.250Z",
        "id": "c0ffee-1f",
        "client": "203.0.113.7",
        "method": "GET",
        "endpoint": "sync",
        "pool": "sync",
        "worker": "sync1",
        "affinity": "user",
        "key": Hasher(SECRET).hashed("user", "alice"),
        "status": 200,
        "bytes_up": 512,
        "bytes_down": 1523,
        "queue": 0,
        "connect": 0,
        "first_byte": 0.00123,
        "total": 0.00234,
        "retries": 0,
        "ending": "done",
        "ended_by": "worker",
    }


def test_text() -> None:
    """The same for people."""
    assert re.fullmatch(
        r"2025-11-25T14:13:20\.250Z id=c0ffee-1f 203\.0\.113\.7 GET sync pool=sync worker=sync1 key=user:[0-9a-f]{16} "
        r"200 up=512 down=1523 queue=0 connect=0 first_byte=0\.001230 total=0\.002340 retries=0 done by=worker\n",
        line(PLAIN, as_json=False),
    )
    nobody = noted(pool="", worker="", kind="none", key=None, status=503, ending="no_worker", queue=10.0)
    assert " pool=- worker=- key=none 503 up=512 down=1523 queue=10.000000 " in line(nobody, as_json=False)
    assert line(nobody, as_json=False).endswith(" no_worker by=sidecar\n")
    assert line(PLAIN, as_json=False, share=0.1).endswith(" done by=worker share=0.1\n")
    assert line(noted(uncompressed=9000), as_json=False).endswith(" done by=worker uncompressed=9000\n")


@given(RECORDS, SHARES)
def test_json_can_be_read_back(record: Record, share: float) -> None:
    """Whatever the values, a machine reads the same from the line; a plain line differs from any other in nothing."""
    written = line(record, as_json=True, share=share)
    assert written.count("\n") == 1
    told = json.loads(written)
    assert list(told)[:19] == list(json.loads(line(PLAIN, as_json=True)))
    assert told.pop("time") == "2025-11-25T14:13:20.250Z"
    assert told.pop("id") == record.request_id
    assert told.pop("ended_by") == ended_by(record.ending)
    assert told.pop("affinity") == record.kind
    assert told.pop("method") == record.method.decode()
    assert (told.pop("key") is None) is (record.key is None)
    assert told.pop("share", 1.0) == pytest.approx(1.0 if is_fault(record.status, record.ending) else share, rel=1e-4)
    assert told.pop("uncompressed", 0) == record.uncompressed
    assert told.pop("total") == pytest.approx(record.ended - record.began, abs=1e-6)
    assert told.pop("retries") == max(0, record.attempts - 1)
    for name, value in told.items():
        expected = getattr(record, name)
        assert value == (pytest.approx(expected, abs=1e-6) if isinstance(expected, float) else expected), name


QUICK = st.builds(
    lambda record, first_byte, took, ended: evolve(
        record,
        ending=DONE,
        status=200,
        attempts=1,
        queue=0.0,
        uncompressed=0,
        began=ended - took,
        ended=ended,
        first_byte=first_byte * (ended - (ended - took)),
    ),
    RECORDS,
    st.floats(0.0, 1.0),
    st.floats(0.0, 0.9999) | st.integers(0, 9999).map(lambda number: number / 1e4),
    st.floats(1.0, 2.0) | st.integers(1000, 2000).map(lambda number: number / 1e3),
)
"""Requests that went well, at once and within a second; they end in any order, also when a millisecond begins."""


@given(st.lists(QUICK, max_size=20), st.floats(1.7e9, 1.8e9), st.booleans())
def test_plain_lines_in_templates(records: list[Record], since: float, as_json: bool) -> None:
    """What is put together from remembered pieces is what templates make of each record by itself."""
    lines = Lines(Hasher(SECRET), NewIds("c0ffee"), json=as_json)
    assert lines.of(records, since) == [template(record, since, as_json=as_json) for record in records]


def template(record: Record, since: float, *, as_json: bool) -> str:
    moment = int((since + record.ended) * 1000)
    date = datetime.fromtimestamp(moment // 1000, timezone.utc)
    key = None if record.key is None else Hasher(SECRET).hashed(record.kind, record.key)
    micro = int(record.first_byte * 1e6), int((record.ended - record.began) * 1e6)
    up, down, first, total = record.bytes_up, record.bytes_down, f"0.{micro[0]:06d}", f"0.{micro[1]:06d}"
    time = f"{date:%Y-%m-%dT%H:%M:%S}.{moment % 1000:03d}Z"
    verb, pool, worker = record.method.decode(), record.pool, json.dumps(record.worker)
    if as_json:
        told = "null" if key is None else f'"{key}"'
        return (
            f'{{"time":"{time}","id":"{record.request_id}","client":"{record.client}","method":"{verb}",'
            f'"endpoint":"{record.endpoint}","pool":"{pool}","worker":{worker},"affinity":"{record.kind}",'
            f'"key":{told},"status":200,"bytes_up":{up},"bytes_down":{down},"queue":0,"connect":0,'
            f'"first_byte":{first},"total":{total},"retries":0,"ending":"done","ended_by":"worker"}}\n'
        )
    word = worker[1:-1].replace(" ", "\\u0020") or "-"
    hashed = "" if key is None else f":{key}"
    return (
        f"{time} id={record.request_id} {record.client} {verb} {record.endpoint} pool={pool or '-'} worker={word} "
        f"key={record.kind}{hashed} 200 up={up} down={down} queue=0 connect=0 first_byte={first} total={total} "
        "retries=0 done by=worker\n"
    )


@given(RECORDS, SHARES)
def test_text_is_words(record: Record, share: float) -> None:
    """A worker's name is the only text that is not checked elsewhere; it stays one word on one line."""
    words = line(record, as_json=False, share=share).removesuffix("\n").split(" ")
    assert all(word and word.isprintable() for word in words)
    pairs = dict(word.split("=", 1) for word in words if re.match(r"[a-z_]+=", word))
    assert {"id", "pool", "worker", "key", "up", "down", "queue", "connect", "first_byte", "total", "retries"} < set(
        pairs
    )
    assert record.method.decode() in words
    assert float(pairs["total"]) == pytest.approx(record.ended - record.began, abs=1e-6)
    assert pairs["by"] == ended_by(record.ending)


@given(RECORDS, st.booleans())
def test_a_key_is_not_told(record: Record, as_json: bool) -> None:
    """Neither the key nor a part of it, whatever it is."""
    secret = "@zxqv:yjkw.example"
    told = line(evolve(record, key=secret, worker="w", request_id="1"), as_json=as_json)
    assert not re.search("zxqv|yjkw", told)


@given(st.floats(86_400, 4_000_000_000))
def test_times(now: float) -> None:
    """UTC, cut to milliseconds, never in the future."""
    told = json.loads(line(PLAIN, as_json=True, now=now))["time"]
    moment = datetime.fromisoformat(told.replace("Z", "+00:00"))
    assert moment.tzinfo == timezone.utc
    assert -1e-4 <= now - moment.timestamp() < 0.0011


def test_seconds_change() -> None:
    """The date is worked out once a second, backwards too."""
    lines = Lines(Hasher(SECRET), NewIds("c0ffee"))
    told = [lines.of([PLAIN], now - PLAIN.ended)[0][:24] for now in (NOW, NOW + 1, NOW - 1)]
    assert [each[17:19] for each in told] == ["20", "21", "19"]


def test_ids_are_made() -> None:
    """A request that nobody was told the id of has one in the log, and no other has the same."""
    new = NewIds("c0ffee")
    lines = Lines(Hasher(SECRET), new, json=True)
    nameless = noted(request_id="")
    told = [*lines.of([nameless, PLAIN, nameless], NOW), *lines.of([nameless], NOW)]
    assert [json.loads(each)["id"] for each in told] == ["c0ffee-1", PLAIN.request_id, "c0ffee-2", "c0ffee-3"]
    assert new.make() == "c0ffee-4"


def test_groups_are_bounded() -> None:
    """Keys come from clients; what is remembered of them has a limit, and forgetting changes no line."""
    lines = Lines(Hasher(SECRET), NewIds("c0ffee"), json=True)
    for number in range(KEPT + 10):
        lines.of([noted(key=str(number))], NOW)
        assert len(lines._groups) <= KEPT
    assert lines.of([PLAIN], NOW - PLAIN.ended) == [line(PLAIN, as_json=True)]


def test_hashes() -> None:
    """Equal keys are told as equal, with the same secret in every process; others, and other kinds, are not."""
    one, same, other = Hasher(SECRET), Hasher(SECRET), Hasher(b"another")
    assert one.hashed("user", "alice") == same.hashed("user", "alice")
    words = [one.hashed("user", "alice"), one.hashed("user", "bob"), one.hashed("room", "alice")]
    assert len({*words, other.hashed("user", "alice")}) == 4
    assert Hasher(b"x" * 1000).hashed("user", "\udc80") != Hasher(b"x" * 999).hashed("user", "\udc80")


def test_every_failure_has_a_party() -> None:
    """A new way to fail must be thought of: does somebody have to look at it, and who ended the exchange?"""
    by_client = {"client_cut", "client_gone", "client_slow_body", "client_slow_head", "client_stalled"}
    not_faults = by_client | {"body_too_large", "head_too_large"}
    for failure in Failure:
        name = failure.name.lower()
        assert is_fault(0, name) is (name not in not_faults), name
    assert set(ENDED_BY) - {DONE} <= {failure.name.lower() for failure in Failure}
    assert ended_by("client_gone") == "client"
    assert ended_by("worker_silent") == "sidecar"
    assert is_fault(502, DONE)
    assert not is_fault(404, DONE)


@pytest.mark.parametrize(("levels", "plain", "fault"), [(True, "<6>", "<4>"), (False, "", "")])
def test_levels(levels: bool, plain: str, fault: str) -> None:
    """The journal shows what somebody has to look at with `-p warning`."""
    written: list[str] = []
    lines = Lines(Hasher(SECRET), NewIds("c0ffee"), levels=levels)
    log = AccessLog(lines, lambda *lines: written.extend(lines), lambda: NOW)
    log.tell([PLAIN, noted(status=502, ending="worker_cut")], PLAIN.ended)
    AccessLog(Lines(Hasher(SECRET), NewIds("c0ffee"), LogChoice(0.0)), pytest.fail, lambda: NOW).tell([PLAIN], 0.0)
    assert [each.partition("2025")[0] for each in written] == [plain, fault]
