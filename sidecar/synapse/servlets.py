"""Asks an installed Synapse which endpoints it has, and writes them into the endpoint table.

`python -m sidecar.synapse.servlets`; see `docs/endpoint-table.md`.

Runs in an environment that holds the Synapse in question. Synapse's own code builds the resources of each listener,
of a main process and of a generic worker, under one configuration after another; what it registers is recorded. No
port is opened and no reactor runs. Must not know what an endpoint is good for: that is the overlay's part.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import re
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from twisted.web.resource import Resource

from sidecar.plurals import counted
from sidecar.synapse.overlay import OverlayError, read_overlay
from sidecar.synapse.patterns import PatternError
from sidecar.synapse.reach import lacking
from sidecar.synapse.registrations import ProbeError, Recorded, Registration, name_of, registrations
from sidecar.synapse.releases import release_of
from sidecar.synapse.table import TABLE, Fact, Facts, read_table, text_of_table

RESOURCES = ("client", "federation", "media", "keys", "openid", "consent", "static", "metrics", "health")
"""Listener resources that are asked for. `replication` is left out: it is never forwarded."""

BASE: Mapping[str, Any] = {
    "server_name": "table.invalid",
    "report_stats": False,
    "signing_key": "ed25519 a_table " + "A" * 43,
    "macaroon_secret_key": "-",
    "form_secret": "-",
    "trusted_key_servers": [],
    "enable_metrics": True,
    "url_preview_enabled": True,
    "url_preview_ip_range_blacklist": ["127.0.0.0/8"],
    "retention": {"enabled": True},
    "matrix_rtc": {"transports": [{"type": "livekit", "livekit_service_url": "https://table.invalid/"}]},
}
NO_MEDIA: Mapping[str, Any] = {"enable_media_repo": False}
MAS: Mapping[str, Any] = {
    "matrix_authentication_service": {"enabled": True, "endpoint": "http://127.0.0.1:9/", "secret": "-"},
    "enable_registration": False,
}
MAS_BEFORE_1_136: Mapping[str, Any] = {
    "experimental_features": {
        "msc3861": {
            "enabled": True,
            "issuer": "https://table.invalid/",
            "client_id": "-",
            "client_auth_method": "client_secret_basic",
            "client_secret": "-",
            "admin_token": "-",
        }
    },
    "enable_registration": False,
    "password_config": {"enabled": False},
}
OIDC = {
    "idp_id": "table",
    "idp_name": "table",
    "issuer": "https://table.invalid/",
    "client_id": "-",
    "client_secret": "-",
    "discover": False,
    "authorization_endpoint": "https://table.invalid/a",
    "token_endpoint": "https://table.invalid/t",
    "jwks_uri": "https://table.invalid/j",
    "userinfo_endpoint": "https://table.invalid/u",
}
EXTRAS = "oidc,saml2,url-preview"

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "oidc": {"oidc_providers": [OIDC]},
    "cas": {"cas_config": {"enabled": True, "server_url": "https://table.invalid/"}},
    "saml2": {"saml2_config": {"sp_config": {"metadata": {}, "xmlsec_binary": "/bin/true"}}},
    "email": {"email": {"notif_from": "a@table.invalid", "smtp_host": "127.0.0.1"}},
    "login_via_existing_session": {"login_via_existing_session": {"enabled": True, "require_ui_auth": False}},
    "federation_whitelist_endpoint": {
        "federation_whitelist_endpoint_enabled": True,
        "federation_domain_whitelist": ["table.invalid"],
    },
    "user_consent": {"user_consent": {"version": "1.0", "template_dir": "."}},
}
"""Parts of homeserver.yaml that bring endpoints, by the name that `needs` gives them."""

FLAG = re.compile(r'experimental\.get\(\s*"(\w+)"(?:,\s*([^)]*?))?,?\s*\)')
FLAG_VALUES = {"msc3886_endpoint": "https://table.invalid/", "msc4388_mode": "open"}


Presence = Mapping[tuple[str, str], Fact]
"""By method and notation: what exists under one configuration."""

LISTENERS = ("synapse.app.homeserver", "synapse.app.generic_worker", "synapse.app._base", "synapse.http.server")


def _config_error() -> type[Exception]:
    error: type[Exception] = import_module("synapse.config._base").ConfigError
    return error


class Listeners:
    """Synapse's own listener code, with the opening of ports replaced by remembering what would be served.

    Changes Synapse's modules, and Synapse keeps what it registered in them: to be used once in a process.
    """

    def __init__(self, directory: Path) -> None:
        homeserver, generic_worker, base, server = map(import_module, LISTENERS)
        self._directory = directory
        self._main, self._worker = homeserver.SynapseHomeServer, generic_worker.GenericWorkerServer
        self._recorded: dict[int, list[Recorded]] = {}
        self.server: Any = None
        """The process that was asked last."""
        self._kept: list[Resource] = []
        self._roots: list[Resource] = []
        register = server.JsonResource.register_paths

        def record(
            resource: Any, method: str, path_patterns: Any, callback: Any, servlet: str, *rest: Any, **more: Any
        ) -> Any:
            patterns = list(path_patterns)
            self._kept.append(resource)  # else its identity could be given to another one
            found = [(method, each.pattern, servlet, callback) for each in patterns]
            self._recorded.setdefault(id(resource), []).extend(found)
            return register(resource, method, patterns, callback, servlet, *rest, **more)

        def remember(*arguments: Any, **_: Any) -> list[Any]:
            self._roots.extend(each for each in arguments if isinstance(each, Resource))
            return []

        server.JsonResource.register_paths = record
        homeserver.listen_http = base.listen_http = remember  # type: ignore[attr-defined]

    def ask(self, settings: Mapping[str, Any], *, worker: bool) -> Iterator[tuple[str, Registration]]:
        """Listener resources, and what a process with `settings` registers for them. Raises Synapse's ConfigError."""
        config = import_module("synapse.config.homeserver").HomeServerConfig()
        config.parse_config_dict(self._whole(settings, worker=worker), str(self._directory), str(self._directory))
        server = (self._worker if worker else self._main)(config.server.server_name, config=config)
        server.setup()
        self.server = server
        for listener in config.worker.worker_listeners if worker else config.server.listeners:
            (resource,) = listener.http_options.resources
            self._roots.clear()
            try:
                list((server._listen_http(listener) if worker else server._listener_http(config, listener)) or ())
            except _config_error():
                continue  # a resource that these settings rule out: media without a media repository, …
            for each in registrations(self._roots[0], self._recorded):
                yield resource.names[0], each

    def _whole(self, settings: Mapping[str, Any], *, worker: bool) -> dict[str, Any]:
        listeners = [
            {"type": "http", "port": 9000 + number, "resources": [{"names": [name]}]}
            for number, name in enumerate(RESOURCES)
        ]
        process: dict[str, Any] = {"listeners": listeners}
        if worker:
            process = {
                "listeners": [],
                "worker_app": "synapse.app.generic_worker",
                "worker_name": "worker",
                "worker_listeners": listeners,
                "instance_map": {"main": {"host": "127.0.0.1", "port": 9}},
            }
        places = {
            "database": {"name": "sqlite3", "args": {"database": str(self._directory / "homeserver.db")}},
            "media_store_path": str(self._directory),
            "pid_file": str(self._directory / "pid"),
        }
        return {**BASE, **places, **settings, **process}


def presence(settings: Mapping[str, Any], known: Collection[tuple[str, str]] = ()) -> Presence | None:
    """What exists under `settings`; None where Synapse refuses them. To be called once in a process.

    What workers lack for it is not looked for where it is `known` already.
    """
    found: dict[tuple[str, str], Fact] = {}
    asked: list[list[Registration]] = []
    servers = []
    with tempfile.TemporaryDirectory(prefix="synapse-table-") as directory:
        listeners = Listeners(Path(directory))
        try:
            for worker in (False, True):
                registered = list(listeners.ask(settings, worker=worker))
                for resource, each in registered:
                    _note(found, each, resource, worker=worker)
                asked.append([each for _, each in registered if (each.method, each.notation) not in known])
                servers.append(listeners.server)
        except _config_error():
            return None
        for key, lacks in lacking(servers, asked):
            found[key] = evolve(found[key], lacks=found[key].lacks | lacks)
    return found


def _note(found: dict[tuple[str, str], Fact], each: Registration, resource: str, *, worker: bool) -> None:
    key = (each.method, each.notation)
    fact = found.get(key) or Fact(each.method, each.notation, name_of(each.servlet, each.notation))
    kind = "worker" if worker else "main"
    found[key] = evolve(fact, **{kind: getattr(fact, kind) | {resource}})


@frozen(kw_only=True)
class Presences:
    """What exists under the base settings, without a media repository, under MAS; and with each option alone and
    together with MAS (None: Synapse refuses that)."""

    base: Presence
    no_media: Presence
    mas: Presence
    options: Mapping[str, tuple[Presence | None, Presence | None]]
    """Together with MAS only where the option alone is refused or brings something."""


def conditions(presences: Presences) -> Facts:
    """Everything that some settings bring, with what each needs."""
    base = {key: _in_base(fact, presences) for key, fact in presences.base.items()}
    mas = {
        key: evolve(fact, needs=frozenset({"mas"}))
        for key, fact in presences.mas.items()
        if key not in base or "not_mas" in base[key].needs
    }
    brought: dict[tuple[str, str], Fact] = {}
    for option, (alone, with_mas) in presences.options.items():
        for key, fact in {**(with_mas or {}), **(alone or {})}.items():
            if key not in base and key not in mas:
                words = {
                    option: True,
                    "mas": key not in (alone or {}),
                    "not_mas": with_mas is not None and key not in with_mas,
                }
                fact = evolve(fact, needs=_words(words))
                known = brought.setdefault(key, fact)
                brought[key] = evolve(known, needs=_either(known.needs, fact.needs))
    return frozenset([*base.values(), *mas.values(), *brought.values()])


def _in_base(fact: Fact, presences: Presences) -> Fact:
    """With its needs; `not_mas` also where MAS changes who serves it, which makes two facts of it."""
    key = (fact.method, fact.path)
    with_mas = presences.mas.get(key)
    differs = with_mas is None or (with_mas.main, with_mas.worker) != (fact.main, fact.worker)
    lacks = fact.lacks if with_mas is None else fact.lacks | with_mas.lacks
    return evolve(fact, needs=_words({"not_mas": differs, "media_repo": key not in presences.no_media}), lacks=lacks)


def _words(words: Mapping[str, bool]) -> frozenset[str]:
    return frozenset(word for word, needed in words.items() if needed)


def _either(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """What is needed where `one` will do and `other` will: the words of both, and of the rest any: `cas|oidc`."""
    rest = "|".join(one ^ other).split("|")
    return (one & other) | ({"|".join(sorted(set(rest)))} if one ^ other else set())


def together(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both settings in one; of `experimental_features`, which both may have, the flags of both."""
    features = {**first.get("experimental_features", {}), **second.get("experimental_features", {})}
    return {**first, **second, **({"experimental_features": features} if features else {})}


def experimental_options(source: str) -> dict[str, dict[str, Any]]:
    """One option for each flag that is off unless set, found in the `source` of Synapse's experimental.py."""
    options: dict[str, dict[str, Any]] = {}
    for flag, default in FLAG.findall(source):
        if flag in FLAG_VALUES or default == "False":
            options[flag] = {"experimental_features": {flag: FLAG_VALUES.get(flag, True)}}
    return options


def installed_facts() -> Facts:
    """What the installed Synapse has. Each configuration is tried in a process of its own, forked from this one."""
    preview = "bs4" if find_spec("bs4") else "lxml"  # with which previews of URLs are made, now and before
    missing = [module for module in ("authlib", "saml2", preview) if not find_spec(module)]
    if missing:
        raise ProbeError(f"{' and '.join(missing)} cannot be imported; install matrix-synapse[{EXTRAS}]")
    for module in LISTENERS:
        import_module(module)  # so that the forked processes need not
    logging.disable(logging.CRITICAL)
    source = inspect.getsource(import_module("synapse.config.experimental"))
    mas = MAS if find_spec("synapse.config.mas") else MAS_BEFORE_1_136
    options = {**OPTIONS, **experimental_options(source)}
    with get_context("fork").Pool(maxtasksperchild=1) as pool:
        base, under_mas = pool.map(presence, [{}, mas], chunksize=1)
        if base is None or under_mas is None:
            raise ProbeError(
                f"Synapse refuses the settings to begin with; is it matrix-synapse[{EXTRAS}] that is installed?"
            )
        ask = partial(presence, known=frozenset(base))
        no_media, *alone = pool.map(ask, [NO_MEDIA, *options.values()], chunksize=1)
        if no_media is None:
            raise ProbeError("Synapse refuses to be without a media repository")
        worth = [
            name for name, found in zip(options, alone, strict=True) if found is None or found.keys() - base.keys()
        ]
        with_mas = pool.map(ask, [together(mas, options[name]) for name in worth], chunksize=1)
    both = dict(zip(worth, with_mas, strict=True))
    pairs = {name: (found, both.get(name)) for name, found in zip(options, alone, strict=True)}
    for name in [name for name, pair in pairs.items() if pair == (None, None)]:
        if name in OPTIONS:
            raise ProbeError(f"Synapse refuses {name} as it is set up here, so what it brings cannot be known")
        print(f"note: Synapse does not take {name} alone; what only it brings is missing", file=sys.stderr)
    return conditions(Presences(base=base, no_media=no_media, mas=under_mas, options=pairs))


def main(arguments: list[str] | None = None) -> int:
    """Adds the installed release to the table. Exit code 2: that cannot be done, and nothing was written."""
    parser = argparse.ArgumentParser(prog="python -m sidecar.synapse.servlets", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if the table would change")
    parser.add_argument("--table", type=Path, default=TABLE, metavar="FILE", help="default: the one in the package")
    options = parser.parse_args(arguments)
    try:
        version = installed_version("matrix-synapse")
        releases = {**read_table(options.table), release_of(version): installed_facts()}
        text = text_of_table(releases, read_overlay())
    except PackageNotFoundError:
        print("there is no Synapse here; run this where matrix-synapse is installed", file=sys.stderr)
        return 2
    except (ProbeError, PatternError, OverlayError) as error:
        print(error, file=sys.stderr)
        return 2
    changed = not options.table.exists() or options.table.read_text("utf-8") != text
    if changed and not options.check:
        options.table.write_text(text, "utf-8")
    count = len(releases[release_of(version)])
    print(f"Synapse {version}: {counted(count, 'endpoint')}; the table {'changes' if changed else 'stays as it is'}")
    return 1 if changed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
