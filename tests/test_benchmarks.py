"""The benchmark harness: its arithmetic, its tables and picture, and its clients against its own worker."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import compression, load, observing, processes, programs, slow_clients, traffic
from benchmarks.__main__ import main, write_docs
from benchmarks.plot import plot
from benchmarks.profiling import by_kind, inclusive, own
from benchmarks.programs import PROGRAMS, ROOT, TEMPLATES, Processors, ProgramError, Workers
from benchmarks.results import BUDGET, METRICS, PAIR, Limit, Report, Row, from_json, to_json
from benchmarks.sampler import Sampler
from benchmarks.tables import tables
from sidecar.config.schema import Settings

values = st.floats(min_value=0.001, max_value=1e6)
numbers = st.dictionaries(
    st.sampled_from([metric.key for metric in METRICS]), st.lists(values, min_size=1, max_size=5).map(tuple)
)
rows = st.builds(Row, name=st.sampled_from([program.name for program in PROGRAMS]), numbers=numbers)
reports = st.lists(rows, max_size=4, unique_by=lambda row: row.name).map(
    lambda found: Report({"processor": "any"}, {"rounds": 5.0}, tuple(found))
)


@given(reports)
def test_report_survives_json(report: Report) -> None:
    """Numbers that were written are read back unchanged."""
    assert from_json(to_json(report)) == report


@given(reports)
def test_picture_is_well_formed(report: Report) -> None:
    """Whatever was measured and whatever was not, the SVG can be parsed and names every measured program."""
    picture = ElementTree.fromstring(plot(report))
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert all(row.name in texts for row in report.rows if row.numbers)


@given(reports)
def test_tables_judge_every_limit(report: Report) -> None:
    """Each line of the budget is kept, missed or said not to have been measured, as its ratio is."""
    lines = tables(report).splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("| budget")) + 2
    for limit, line in zip(BUDGET, lines[begin : begin + len(BUDGET)], strict=True):
        ratio = report.ratio(limit)
        verdict = "not measured" if ratio is None else "kept" if ratio <= limit.factor else "missed"
        assert line.rstrip(" |").endswith(verdict)


def test_ratio_is_of_medians() -> None:
    """One disturbed round changes no ratio."""
    ours = Row("sidecar", numbers={"small": (20.0, 22.0, 90.0)})
    theirs = Row("nginx", numbers={"small": (10.0, 11.0, 12.0)})
    assert Report({}, {}, (ours, theirs)).ratio(Limit("small", 2.2, "nginx")) == 2.0


def test_a_limit_without_a_peer_is_one_of_its_own() -> None:
    """Memory has a bound in KiB, and what is measured of the sidecar in another way is not the sidecar's."""
    rows = (Row("sidecar", numbers={"poll": (2.0,)}), Row(PAIR, numbers={"small": (3.0,)}), Row("nginx"))
    report = Report({}, {}, rows)
    assert report.ratio(Limit("poll", 3.3, "")) == 2.0
    assert "≤ 3.3 KiB" in tables(report)
    assert report.ratio(Limit("small", 1.0, "nginx")) is None


def test_problem_is_said() -> None:
    """A program that was not measured has its reason below the tables."""
    report = Report({}, {}, (Row("caddy", problem="caddy is not installed", absent=True),))
    assert "caddy: caddy is not installed" in tables(report)


@pytest.mark.parametrize(("waited", "said"), [(0.3, False), (31.0, True)])
def test_disturbed_run_says_so(waited: float, said: bool) -> None:
    """Numbers from a busy machine are marked as such."""
    text = tables(Report({}, {}, (Row("nginx", numbers={"waited": (waited,)}),)))
    assert ("no numbers for the record" in text) is said


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_templates_are_filled(program: programs.Program) -> None:
    """No placeholder is left in a configuration or in a command."""
    given_values = {"PORT": "8008", "WORKER": "/run/worker.sock", "DIRECTORY": "/run", "CONFIG": "/run/config"}
    text = programs.fill((TEMPLATES / program.template).read_text(), given_values)
    texts = [text, *(programs.fill(argument, given_values) for argument in program.command)]
    assert not [name for name in given_values for text in texts if f"@{name}@" in text]
    assert "8008" in text
    assert "/run/worker.sock" in text


def test_every_limit_names_a_metric_and_a_peer() -> None:
    """The budget speaks of what is measured."""
    assert {limit.metric for limit in BUDGET} <= {metric.key for metric in METRICS}
    assert {limit.peer for limit in BUDGET} - {""} <= {program.name for program in PROGRAMS}


def test_absent_program_has_a_reason() -> None:
    """A program that is not installed is a sentence, not a traceback."""
    with pytest.raises(ProgramError, match="no-such-proxy is not installed"):
        programs.find("no-such-proxy")


@pytest.mark.parametrize(
    ("available", "proxy", "rest"), [([3], {3}, {3}), ([0, 1], {0}, {1}), ([2, 4, 6], {2}, {4, 6})]
)
def test_processors_are_divided(available: list[int], proxy: set[int], rest: set[int]) -> None:
    """Proxies have a processor for themselves wherever there are two."""
    assert Processors.divided(available) == Processors(frozenset(proxy), frozenset(rest))


def test_profile_counts_recursion_once() -> None:
    """A function on the stack twice is in one sample, not in two."""
    stacks = ["main;turn;turn;read 3", "main;turn 1"]
    assert own(stacks) == {"read": 3, "turn": 1}
    assert inclusive(stacks) == {"main": 4, "turn": 4, "read": 3}


def test_profile_is_sorted_by_kind_of_work() -> None:
    """Regular expressions are told apart from the rest of the interpreter, in whose library they are."""
    lines = [
        " 40.10%;[kernel.kallsyms];[k] tcp_ack",
        " 30.00%;libpython3.11.so.1.0;[.] _PyEval_EvalFrameDefault",
        " 10.05%;libpython3.11.so.1.0;[.] sre_ucs1_match",
        "  5.00%;libc.so.6;[.] send",
    ]
    assert by_kind(lines) == {"kernel": 4010, "interpreter": 3000, "regular expressions": 1005, "libc.so.6": 500}


def test_sampler_writes_the_stacks_between_two_signals(tmp_path: Path) -> None:
    """What ran between the first and the second toggle is in the file, under its function's name."""
    output = tmp_path / "stacks"
    sampler, before = Sampler(output), signal.getsignal(signal.SIGPROF)
    try:
        sampler.toggle(signal.SIGUSR2, None)
        while not sampler.samples:
            sum(range(1000))
        sampler.toggle(signal.SIGUSR2, None)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    name = "test_sampler_writes_the_stacks_between_two_signals"
    assert any(frame.startswith(f"{name} (") for frame in own(output.read_text().splitlines()))


def test_requests_differ_and_fit() -> None:
    """Small requests are distinct, of a browser's size, and within the sidecar's default limits."""
    requests = traffic.small_requests(users=16)
    assert len(set(requests)) == len(requests) == 64
    assert all(400 < len(request) < Settings().limits.request_head for request in requests)


def test_token_is_synapses() -> None:
    """The token of a user carries the user's name where Synapse puts it, with a checksum of six digits."""
    kind, user, letters, checksum = traffic.token("alice").split("_")
    assert (kind, user, len(letters), len(checksum)) == ("syt", "YWxpY2U", 20, 6)


def test_usage_counts_children() -> None:
    """Processor time and memory are those of the whole tree."""
    command = [sys.executable, "-c", "import sys; sum(range(3_000_000)); print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in processes.tree(os.getpid())
        assert processes.usage(os.getpid()).total >= processes.usage(child.pid).total > 0
        assert processes.memory(os.getpid()) > processes.memory(child.pid) > 0
        child.stdin.close() if child.stdin else None


@pytest.fixture(scope="module")
def worker() -> Iterator[Workers]:
    """The worker alone, to which the clients speak without a proxy."""
    everywhere = frozenset(os.sched_getaffinity(0))
    with programs.directory() as place, programs.workers(place, Processors(everywhere, everywhere)) as running:
        yield running


def test_closed_loop_counts_what_the_worker_counts(worker: Workers) -> None:
    """Every answer that a client counts was given by the worker."""
    before = worker.answered()
    count = load.closed_loop(worker.path, traffic.small_requests(users=2), connections=4, seconds=0.05)
    assert worker.answered() - before == count > 0


def test_fixed_rate_sends_what_it_should(worker: Workers) -> None:
    """The number of requests follows from rate and time, however fast the answers are."""
    latencies = load.paced(worker.path, traffic.small_requests(users=2), connections=4, rate=500.0, seconds=0.1)
    assert len(latencies) == 50
    assert min(latencies) > 0


def test_media_arrives_whole(worker: Workers) -> None:
    """Downloads bring exactly the media, uploads take exactly as many bytes to the worker."""
    content, before = traffic.media(), worker.uploaded()
    load.download(worker.path, 1, content)
    load.download(worker.path, 2)
    load.upload(worker.path, content, 1)
    assert worker.uploaded() - before == traffic.MEDIA_SIZE


def test_wrong_media_is_noticed(worker: Workers) -> None:
    """A download that differs in its last octet fails the run."""
    content = traffic.media()
    with pytest.raises(load.LoadError, match="not the media"):
        load.download(worker.path, 1, content[:-1] + bytes([content[-1] ^ 1]))


def test_long_polls_are_held_and_answered(worker: Workers) -> None:
    """The block begins when the worker holds all of them and ends when all were answered."""
    with load.long_polls(worker.path, 70, worker.held):
        assert worker.held() == 70
        worker.release()
    assert worker.held() == 0


def test_lost_long_poll_is_noticed(worker: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long polls that no worker has seen fail the run, because their memory would say nothing."""
    monkeypatch.setattr(load, "PATIENCE", 0.05)
    lost = load.long_polls(worker.path, 3, lambda: 2)
    with pytest.raises(load.LoadError, match="holds 2 long polls of the 3"), lost:
        pass


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "the proxy answered"),
        (b"HTTP/1.1 200 OK\r\n", "closed a connection"),
        (b"", "closed a connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000, "more than the answer"),
    ],
    ids=["status", "cut", "nothing", "too much"],
)
def test_wrong_answer_is_noticed(tmp_path: Path, answer: bytes, complaint: str) -> None:
    """What is not the answer of the worker fails the run."""
    path = str(tmp_path / "proxy.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=_answer_once, args=(listener, answer))
        thread.start()
        with pytest.raises(load.LoadError, match=complaint):
            load.closed_loop(path, [traffic.request("GET", "/", "alice")], connections=1, seconds=0.01)
        thread.join()


def _answer_once(listener: socket.socket, answer: bytes) -> None:
    sock, _ = listener.accept()
    with sock:
        sock.recv(65536)
        sock.sendall(answer)


def test_unknown_program_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt name is answered with the names that there are."""
    with pytest.raises(SystemExit) as stop:
        main(["--only", "ngnix"])
    assert stop.value.code == 2
    assert "ngnix is none of sidecar, nginx, haproxy, caddy" in capsys.readouterr().err


def test_report_is_drawn_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables and picture can be made from numbers of an earlier run; a program that failed makes the exit 1."""
    saved, picture = tmp_path / "run.json", tmp_path / "run.svg"
    saved.write_text(to_json(Report({}, {}, (Row("nginx", numbers={"small": (11.5,)}),))))
    assert main(["--from", str(saved), "--plot", str(picture)]) == 0
    assert "11.5" in capsys.readouterr().out
    assert "11.5" in picture.read_text()
    saved.write_text(to_json(Report({}, {}, (Row("nginx", problem="media: it stalled"),))))
    assert main(["--from", str(saved)]) == 1


def test_page_keeps_its_text(tmp_path: Path) -> None:
    """Renewing the page replaces only what stands between its two markers, however often it is done."""
    page = tmp_path / "benchmarks.md"
    page.write_text((ROOT / "docs" / "benchmarks.md").read_text() + "\nlast line\n")
    write_docs(Report({}, {}, (Row("nginx", numbers={"small": (11.5,)}),)), tmp_path)
    write_docs(Report({}, {}, (Row("nginx", numbers={"small": (22.5,)}),)), tmp_path)
    text = page.read_text()
    assert text.startswith("# What one hop costs\n")
    assert text.endswith("\nlast line\n")
    assert "22.5" in text
    assert "11.5" not in text
    assert from_json((tmp_path / "benchmarks.json").read_text()).row("nginx").middle("small") == 22.5


def test_slow_clients(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The measurement of slow clients runs and prints a line; here with few of them, and for a moment."""
    monkeypatch.setattr(slow_clients, "PROGRAMS", PROGRAMS[:1])
    for name, value in {"EACH": 5, "SECONDS": 0.2, "SETTLE": 0.0}.items():
        monkeypatch.setattr(slow_clients, name, value)
    processors = os.sched_getaffinity(0)
    try:
        assert slow_clients.main(["--rounds", "1"]) == 0
    finally:
        os.sched_setaffinity(0, processors)
    printed = capsys.readouterr()
    assert not printed.err
    assert [line.split(" | ")[0] for line in printed.out.splitlines()] == ["|", "| ---", "| sidecar"]


@pytest.mark.parametrize(("dearest", "verdict"), [(22.9, "kept"), (23.1, "missed")])
def test_what_observing_costs(dearest: float, verdict: str) -> None:
    """Each round against the same round without; one that was disturbed as a whole changes nothing."""
    micro = {variant: [21.0, 42.0, 21.0] for variant in observing.VARIANTS}
    micro |= {"neither": [20.0, 40.0, 20.0], "metrics, log as JSON": [dearest, 2 * dearest, 90.0]}
    observed = observing.Observed({"processor": "any"}, micro)
    assert observed.cost("metrics") == pytest.approx(0.05)
    text = observing.report(observed)
    assert f"at most 15%; {verdict}. 3 rounds, processor any" in text
    assert "+5.0%" in text


def test_observing_is_measured() -> None:
    """All variants start and relay, and the table names each."""
    command = [sys.executable, "-m", "benchmarks", "--observing", "--quick", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"| {variant}" in done.stdout for variant in observing.VARIANTS)


@pytest.mark.needs("h2load", "nginx", "haproxy")
def test_http2_is_measured() -> None:
    """Every program takes HTTP/2, and the table names each."""
    command = [sys.executable, "-m", "benchmarks", "--http2", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\| +\| sidecar +\| nginx +\| haproxy +\|", done.stdout)
    assert "CPU per request over HTTP/2" in done.stdout


def test_compression_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The sidecar compresses what a real Synapse sent, and the templates have what makes the others do it."""
    processors = programs.Processors.divided(sorted(os.sched_getaffinity(0)))
    monkeypatch.setattr(compression, "_REQUESTS", 2)
    with programs.directory() as place, compression.worker(place) as behind:
        program = compression.variant("sidecar, level 1", place)
        with programs.proxy(program, place, behind, processors) as proxy:
            spent, size = compression.spent(proxy)
    assert spent > 0
    assert size < len(compression.BODY) / 3
    for name, (_, (_, new)) in compression.VARIANTS.items():
        text = (tmp_path / compression.variant(name, tmp_path).template).read_text()
        assert new in text
    assert all(0 < middle <= most for middle, most in [compression.steps(1, compression.BODY * 3)])
