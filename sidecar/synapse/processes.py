"""What one Synapse process can do, from the configuration that it sees.

Source: Synapse config/workers.py, config/repository.py, config/mas.py and the servlets' own conditions. A role
follows from what is configured, never from a name. Knows nothing of the other processes.
"""

from __future__ import annotations

import re
from typing import Any

from attrs import evolve, field, frozen

from sidecar.errors import Problem, printable
from sidecar.synapse.files import Merged
from sidecar.synapse.listeners import SynapseListener, choose, legacy_listeners, read_listeners
from sidecar.synapse.names import MAIN

BODY_LIMIT = 200 * 65536
"""Octets of a request body that any process takes (Synapse api/constants.py, MAX_REQUEST_SIZE)."""
UPLOAD_LIMIT = 50 * 1024 * 1024
"""Default of `max_upload_size`."""

MAIN_APP = "synapse.app.homeserver"
MEDIA_APP = "synapse.app.media_repository"
WORKER_APPS = (
    "synapse.app.generic_worker",
    "synapse.app.appservice",
    "synapse.app.client_reader",
    "synapse.app.event_creator",
    "synapse.app.federation_reader",
    "synapse.app.federation_sender",
    "synapse.app.frontend_proxy",
    MEDIA_APP,
    "synapse.app.pusher",
    "synapse.app.synchrotron",
    "synapse.app.user_dir",
)
_SIZE = re.compile(r"(\d{1,15})([KMGT]?)", re.ASCII)
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


@frozen(kw_only=True)
class Process:
    """One Synapse process as the sidecar sees it."""

    name: str
    """`main`, or the worker's `worker_name`."""
    endpoint: str = ""
    """Twisted client endpoint string of the listener that takes our requests; empty: it has none."""
    serves: frozenset[str] = frozenset()
    """Listener resources behind `endpoint`."""
    writes: frozenset[str] = frozenset()
    """Streams."""
    media: bool = False
    """Its media repository is enabled, which `media` and parts of `client` and `federation` need."""
    background: bool = False
    """It runs the background jobs of the media repository."""
    x_forwarded: bool = True
    """It believes the X-Forwarded-For that it is sent."""
    request_id_header: str | None = None
    """Field whose value it writes to its log as the name of a request."""
    body_limit: int | None = None
    """Octets of a request body beyond which it cuts the connection; None: unknown."""
    features: frozenset[str] = frozenset()
    """What is configured of `Endpoint.needs`, except `media_repo`, which is `media`."""
    app: str | None = None
    """`worker_app`."""
    file: str = ""
    """The file that describes it."""
    fault: str = ""
    """Why its file says less than it should, so that nobody knows how to reach it; empty: it says all."""
    config: Merged = field(factory=Merged, eq=False, repr=False)
    listener: SynapseListener | None = field(default=None, repr=False)
    """The one that `endpoint` leads to; None where the endpoint was stated by hand."""
    others: tuple[SynapseListener, ...] = field(default=(), repr=False)
    """Its other listeners."""

    @property
    def is_main(self) -> bool:
        """Whether this is the main process."""
        return self.name == MAIN


def main_process(config: Merged, problems: list[Problem]) -> Process:
    """The main process; it exists even where no file gives it a listener."""
    listeners = read_listeners(config, "listeners", problems, media=media_enabled(config))
    legacy = legacy_listeners(config, problems)
    listeners = listeners if legacy is None else legacy
    if config.get("no_tls"):
        problems.append(config.warning(("no_tls",), "is obsolete; remove it, and the listeners with `tls: true`"))
        listeners = tuple(listener for listener in listeners if not listener.tls)
    return _process(MAIN, config, listeners, problems)


def worker_process(config: Merged, problems: list[Problem]) -> Process:
    """The worker that sees `config`, whose own file is `config.file`."""
    app, name = config.get("worker_app"), config.get("worker_name")
    if app not in WORKER_APPS:
        message = f"must be the class of a worker; write `worker_app: {WORKER_APPS[0]}`"
        problems.append(config.problem(("worker_app",), message))
    if name is None:
        name = app if isinstance(app, str) else config.file
        problems.append(config.warning((), f"`worker_name` is missing; Synapse calls the process `{name}`"))
    elif not isinstance(name, str) or not name:
        problems.append(config.problem(("worker_name",), "must be a text; put it in quotes"))
        name = str(name)
    if not name.isprintable():
        name = printable(name)
        message = f"`{name}` holds a control character; write the name without it"
        problems.append(config.problem(("worker_name",), message))
    listeners = read_listeners(config, "worker_listeners", problems, media=media_enabled(config))
    return _process(name, config, listeners, problems)


def faulty_process(config: Merged, name: str, serves: frozenset[str], fault: str) -> Process:
    """The worker whose own file cannot be read to its end, and `config` what could be.

    What is unknown is not denied: it may serve all of `serves`, and media. It cannot be reached, so its endpoint only
    names the file.
    """
    listeners = read_listeners(config, "worker_listeners", [], media=True)
    process = _process(name, config, listeners, [])
    return evolve(
        process,
        endpoint="unix:" + config.file.replace("\\", "\\\\").replace(":", "\\:"),
        serves=process.serves or serves,
        media=True,
        fault=fault,
        listener=None,
        others=(),
    )


def _process(name: str, config: Merged, listeners: tuple[SynapseListener, ...], problems: list[Problem]) -> Process:
    chosen = choose(listeners)
    app = config.get("worker_app")
    instance = "master" if name == MAIN else name
    media = media_enabled(config)
    jobs = config.get("media_instance_running_background_jobs")
    upload = upload_limit(config, problems)
    return Process(
        name=name,
        endpoint=chosen.endpoint if chosen else "",
        serves=chosen.resources if chosen else frozenset(),
        media=media,
        background=media and jobs in (None, instance),
        x_forwarded=chosen.x_forwarded if chosen else True,
        request_id_header=chosen.request_id_header if chosen else None,
        body_limit=max(BODY_LIMIT, upload) if media else BODY_LIMIT,
        features=features(config, problems),
        app=app if isinstance(app, str) else None,
        file=config.file,
        config=config,
        listener=chosen,
        others=tuple(listener for listener in listeners if listener is not chosen),
    )


def media_enabled(config: Merged) -> bool:
    """Whether the media repository runs here; nothing but a literal `false` disables it (config/repository.py)."""
    return config.get("enable_media_repo") is not False or config.get("worker_app") == MEDIA_APP


def upload_limit(config: Merged, problems: list[Problem]) -> int:
    """`max_upload_size` in octets, as Synapse's parse_size reads it."""
    value = config.get("max_upload_size")
    if "max_upload_size" not in config.values:
        return UPLOAD_LIMIT
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        problems.append(config.problem(("max_upload_size",), "must be a size: write for example `50M`"))
        return UPLOAD_LIMIT
    return int(match[1]) * _UNITS[match[2]]


def features(config: Merged, problems: list[Problem]) -> frozenset[str]:
    """The words of `Endpoint.needs` that hold, except `media_repo`; experimental features by their own names."""

    def section(key: str) -> dict[Any, Any]:
        value = config.get(key)
        if value is None or isinstance(value, dict):
            return value or {}
        problems.append(config.problem((key,), "must be a mapping of keys"))
        return {}

    oidc, cas, saml = section("oidc_config"), section("cas_config"), section("saml2_config")
    experimental = section("experimental_features")
    # Before 1.136; from 1.157 on Synapse refuses to start with it.
    msc3861 = experimental.get("msc3861")
    found = {
        "mas": section("matrix_authentication_service").get("enabled") is True
        or (isinstance(msc3861, dict) and msc3861.get("enabled") is True),
        "oidc": bool(config.get("oidc_providers")) or bool(oidc.get("enabled")),
        "cas": bool(cas) and bool(cas.get("enabled", True)),
        "saml2": bool(saml) and bool(saml.get("enabled", True)),
        "email": bool(section("email")),
        "user_consent": bool(section("user_consent")),
        "login_via_existing_session": bool(section("login_via_existing_session").get("enabled")),
        "federation_whitelist_endpoint": bool(config.get("federation_whitelist_endpoint_enabled")),
    }
    found["not_mas"] = not found["mas"]
    flags = {str(flag) for flag, value in experimental.items() if value and value != "off"}
    return frozenset(flags | {name for name, holds in found.items() if holds})
