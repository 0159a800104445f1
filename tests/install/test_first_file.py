"""The file that `init` writes: taken by the loader, with what was decided, and with a reason for every key."""

from __future__ import annotations

from pathlib import Path

import yaml
from attrs import evolve

from sidecar.config.load import load_settings
from sidecar.install.first_file import FirstFile

DRAFT = FirstFile(
    listen=("tcp:8008:interface=127.0.0.1", "tcp:8008:interface=\\:\\:1"),
    admin="unix:/run/matrix-sidecar/admin.sock:mode=660",
    config=("/etc/matrix-synapse/homeserver.yaml", '/etc/it\'s "odd"/ü: #.yaml'),
    workers=("/etc/matrix-synapse/workers",),
    how="found in /etc/matrix-synapse",
)


def test_the_loader_takes_it(tmp_path: Path) -> None:
    """What was decided is what is read, however odd the paths."""
    file = tmp_path / "sidecar.yaml"
    file.write_text(evolve(DRAFT, trust=("10.0.0.2/32",), request_body=100 * 1024 * 1024).text(), "utf-8")
    settings = load_settings(str(file))
    assert settings.warnings == ()
    assert settings.listen == DRAFT.listen
    assert settings.admin == DRAFT.admin
    assert settings.synapse.config == DRAFT.config
    assert settings.synapse.workers == DRAFT.workers
    assert [str(network) for network in settings.forwarded.trust] == ["127.0.0.0/8", "::1/128", "10.0.0.2/32"]
    assert settings.limits.request_body == 100 * 1024 * 1024


def test_what_was_not_decided_is_a_comment() -> None:
    """Defaults stay defaults."""
    assert set(yaml.safe_load(DRAFT.text())) == {"listen", "admin", "synapse"}
    assert "# forwarded:\n#   trust:" in DRAFT.text()
    assert "  # workers: " in evolve(DRAFT, workers=()).text()


def test_the_comments_are_right_when_they_are_uncommented(tmp_path: Path) -> None:
    """Someone will take the number sign away."""
    text = DRAFT.text().replace("# forwarded:\n#   trust", "forwarded:\n  trust")
    text = text.replace("# access:\n#   admin", "access:\n  admin").replace("  # version:", "  version:")
    (tmp_path / "sidecar.yaml").write_text(text, "utf-8")
    settings = load_settings(str(tmp_path / "sidecar.yaml"))
    assert [str(network) for network in settings.access.admin] == ["10.0.0.0/8"]
    assert settings.synapse.version == "1.163"


def test_every_key_has_its_reason_in_front() -> None:
    """Each section begins with a comment."""
    lines = evolve(DRAFT, trust=("10.0.0.2/32",), request_body=1024).text().splitlines()
    for number, line in enumerate(lines):
        if line[:1].isalpha():
            assert lines[number - 1].startswith("#"), line


def test_no_line_is_too_long_to_read() -> None:
    """But for the paths that it is given."""
    assert max(len(line) for line in evolve(DRAFT, config=("/a",), request_body=1024).text().splitlines()) <= 120
