"""What the pages show of files: each part is one that the program which reads it takes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from front_files import checking, program, write_whole

from sidecar.config.load import load_settings

from .blocks import PAGES, Block, blocks, without_blocks

ALL = [block for page in PAGES for block in blocks(page)]
PROXIES = ("nginx", "caddy", "apache", "haproxy")
LANGUAGES = {"sh", "console", "yaml", "json", "python", "text", *PROXIES}


def parts(language: str, file: str = "") -> list[Any]:
    """The blocks in a language, of YAML those of a file."""
    found = [block for block in ALL if block.language == language]
    if language == "yaml":
        found = [block for block in found if file_of(block) == file]
    return [pytest.param(block, id=str(block)) for block in found]


def file_of(block: Block) -> str:
    return Path(block.about).name if block.remark == "file" else "sidecar.yaml"


def test_every_block_is_of_a_kind_that_is_looked_at() -> None:
    """A block has a language, one of YAML is of a known file, and what could be commands is fenced."""
    assert [str(block) for block in ALL if block.language not in LANGUAGES] == []
    files = {file_of(block) for block in ALL if block.language == "yaml"}
    assert files <= {"sidecar.yaml", "homeserver.yaml", "worker.yaml", "prometheus.yml"}
    indented = re.compile(r"^    (\$ |matrix-sidecar |python |pip |curl |systemctl )", re.MULTILINE)
    assert [page.name for page in PAGES if indented.search(without_blocks(page))] == []


def test_every_remark_is_one_that_is_known() -> None:
    """A misspelt one would be a comment, and pass over what it should say."""
    for page in PAGES:
        before = re.findall(r"<!-- (.*?) -->\n *```", page.read_text("utf-8"), re.DOTALL)
        assert len(before) == len([block for block in blocks(page) if block.remark]), page.name


@pytest.mark.parametrize("block", parts("yaml", "sidecar.yaml"))
def test_a_part_of_a_configuration_is_taken_without_a_word(block: Block, tmp_path: Path) -> None:
    """By the loader of the sidecar, with as much added as makes it whole."""
    whole = block.text
    keys = yaml.safe_load(block.text) or {}
    if not {"synapse", "workers"} & set(keys):
        whole += "synapse: {config: /etc/matrix-synapse/homeserver.yaml}\n"
    if "operator" in keys and "admin" not in keys:
        whole += 'admin: "unix:/run/matrix-sidecar/admin.sock:mode=660"\n'
    for name in keys.get("include", ()):
        included = tmp_path / name.replace("*", "one")
        included.parent.mkdir(exist_ok=True)
        included.touch()
    (tmp_path / "sidecar.yaml").write_text(whole)
    assert [str(problem) for problem in load_settings(str(tmp_path / "sidecar.yaml")).warnings] == []


@pytest.mark.parametrize("block", parts("yaml", "homeserver.yaml"))
def test_a_part_of_synapses_configuration_is_taken_by_synapse(block: Block) -> None:
    """Its modules and its listeners."""
    loading = pytest.importorskip("synapse.util.module_loader")
    server = pytest.importorskip("synapse.config.server")
    keys = yaml.safe_load(block.text)
    assert set(keys) <= {"modules", "listeners", "worker_listeners", "matrix_authentication_service"}
    if "matrix_authentication_service" in keys:
        pytest.importorskip("synapse.config.mas").MasConfigModel(**keys.pop("matrix_authentication_service"))
    for module in keys.pop("modules", []):
        loading.load_module(module, ("modules",))
    for listeners in keys.values():
        for number, listener in enumerate(listeners):
            server.parse_listener_def(number, listener)


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("block", parts("yaml", "prometheus.yml"))
def test_a_part_of_prometheus_configuration_is_taken_by_promtool(block: Block, tmp_path: Path) -> None:
    """A list is one of jobs."""
    jobs = isinstance(yaml.safe_load(block.text), list)
    (tmp_path / "prometheus.yml").write_text(f"scrape_configs:\n{block.text}" if jobs else block.text)
    done = subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", parts("json"))
def test_json_is_json(block: Block) -> None:
    """However it is broken into lines."""
    json.loads(block.text)


@pytest.mark.parametrize("block", [param for kind in PROXIES for param in parts(kind)])
def test_lines_for_a_proxy_are_taken_by_it(block: Block, tmp_path: Path) -> None:
    """By the real program, where it is installed."""
    found = program(block.language)
    if found is None:
        pytest.skip(f"{block.language} is not installed")
    file = write_whole(block.language, block.text, 1, tmp_path / "proxy")
    done = subprocess.run([found, *checking(block.language, file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
