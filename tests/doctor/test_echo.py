"""What a request that came says of the proxy in front, case by case."""

from __future__ import annotations

import pytest

from sidecar.doctor.echo import Echo, judge_client, judge_host, judge_scheme
from sidecar.doctor.findings import Level

CLAIM = "198.51.100.77"


def echo(client: str, *lines: str, scheme: str = "http", proto: tuple[str, ...] = (), host: str = "x") -> Echo:
    fields = {"x-forwarded-for": lines, "x-forwarded-proto": proto, "host": (host,)}
    return Echo(target="/", client=client, scheme=scheme, fields=fields)


@pytest.mark.parametrize(
    ("seen", "level", "part"),
    [
        (echo("203.0.113.5", "203.0.113.5"), Level.FINE, "The client's address is 203.0.113.5, whatever it claims."),
        (echo("2001:db8::5", "[2001:db8::5]:443"), Level.FINE, "The client's address is 2001:db8::5, whatever"),
        (
            echo("203.0.113.5", f"{CLAIM}, 203.0.113.5"),
            Level.FINE,
            "ignores the address that it claims in X-Forwarded-For",
        ),
        (
            echo("203.0.113.5", CLAIM, "203.0.113.5, 127.0.0.1"),
            Level.FINE,
            "ignores the address that it claims in X-Forwarded-For",
        ),
        (echo(CLAIM, CLAIM), Level.ERROR, "Every client can pretend to have any address"),
        (
            echo(CLAIM, f"{CLAIM}, 10.0.0.1"),
            Level.WARNING,
            "trusts the claim of 10.0.0.1, which is in `forwarded.trust`",
        ),
        (echo("127.0.0.1"), Level.ERROR, "The proxy in front sends no X-Forwarded-For"),
        (echo("127.0.0.1", "unknown"), Level.ERROR, "has the address 127.0.0.1, which is not in `forwarded.trust`"),
        (
            echo("10.0.0.9", "203.0.113.5"),
            Level.ERROR,
            "has the address 10.0.0.9, which is not in `forwarded.trust`",
        ),
    ],
)
def test_who_the_client_is_taken_for(seen: Echo, level: Level, part: str) -> None:
    """It claimed to be 198.51.100.77."""
    finding = judge_client(seen)
    assert finding.level is level
    assert part in finding.sentence
    assert bool(finding.mend) is (level is not Level.FINE)


def test_the_address_to_trust_is_written_out() -> None:
    """Ready to be copied."""
    assert judge_client(echo("10.0.0.9", "203.0.113.5")).mend == (
        'Add it: `forwarded: {trust: ["127.0.0.0/8", "::1", "10.0.0.9"]}`.'
    )


@pytest.mark.parametrize(
    ("seen", "level", "part"),
    [
        (echo("x", scheme="https", proto=("https",)), Level.FINE, "The scheme is https, whatever a client claims."),
        (echo("x", scheme="https"), Level.WARNING, "The proxy in front sends no X-Forwarded-Proto"),
        (echo("x"), Level.WARNING, "The proxy in front sends no X-Forwarded-Proto"),
        (echo("x", proto=("http",)), Level.WARNING, "the sidecar sees what a client claims"),
        (
            echo("x", scheme="ftp", proto=("https",)),
            Level.WARNING,
            "The sidecar ignores X-Forwarded-Proto: it takes https",
        ),
    ],
)
def test_which_scheme_is_believed(seen: Echo, level: Level, part: str) -> None:
    """The client used https, and claimed http."""
    finding = judge_scheme(seen, "https", "http")
    assert finding.level is level
    assert part in finding.sentence


@pytest.mark.parametrize(
    ("came", "level"),
    [("example.org:8443", Level.FINE), ("Example.org", Level.FINE), ("other:8443", Level.ERROR), ("", Level.ERROR)],
)
def test_host(came: str, level: Level) -> None:
    """As it was sent, or without the port."""
    assert judge_host("example.org:8443", echo("x", host=came)).level is level
