"""What becomes of each directive of nginx that sends no request anywhere, and the whole of it made ready to examine.

The table says it for each name; only numbers that have a counterpart are looked into.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from sidecar.config.compression import is_compressible
from sidecar.importing.asked import Asked
from sidecar.importing.assessment import FileLine, Foreign, Remark
from sidecar.importing.draft import Draft
from sidecar.importing.nginx_locations import find, location
from sidecar.importing.nginx_routes import admin_networks, own_routes, trusted_networks
from sidecar.importing.nginx_site import nginx_site
from sidecar.importing.nginx_tree import Directive, every
from sidecar.importing.nginx_uri import normalized
from sidecar.importing.prefixes import of_replacement

_TIME = re.compile(r"(\d+)(ms|s|m|h|d|)")
_PLAIN = re.compile(r"/[\w/.~-]*", re.ASCII)
_SIZE = re.compile(r"(\d+)([kKmMgG]?)")

_STREAMS = "the sidecar streams bodies and does not buffer them"
_BYTES = "the sidecar forwards requests and responses byte for byte"
_OWN = "the sidecar has settings of its own, see docs/configuration.md"
_KEPT = "the sidecar keeps each user, room and server on one worker anyway"
_TLS = "end TLS in the sidecar with `ssl:` in `listen`, or keep this proxy in front"
_RETRIES = "requests wait for a worker that restarts, and the sidecar retries them where HTTP allows it"
_BROTLI = "the sidecar compresses with gzip; see `compress`"
_LIMITS = "Synapse limits by itself (`rc_…`)"
_NO_CACHE = "the sidecar does not cache"
_SCRIPT = "the sidecar finds the user of a token itself; anything else that the script does is lost"
_LOG = "see `log` in docs/configuration.md"
_FILES = "the sidecar serves no files; keep them on a web server"

_SUPERFLUOUS: Mapping[str, str] = {
    **dict.fromkeys(("proxy_buffering", "proxy_request_buffering", "proxy_buffer_size", "proxy_buffers"), _STREAMS),
    **dict.fromkeys(("proxy_busy_buffers_size", "client_body_buffer_size", "proxy_max_temp_file_size"), _STREAMS),
    **dict.fromkeys(("proxy_http_version", "proxy_redirect", "proxy_pass_request_headers"), _BYTES),
    **dict.fromkeys(("proxy_socket_keepalive", "proxy_ssl_verify", "proxy_ssl_server_name", "sendfile"), _OWN),
    **dict.fromkeys(("tcp_nodelay", "tcp_nopush", "keepalive_requests", "server_tokens", "charset"), _OWN),
    **dict.fromkeys(("client_header_buffer_size", "large_client_header_buffers", "resolver", "resolver_timeout"), _OWN),
    **dict.fromkeys(("server_names_hash_bucket_size", "map_hash_bucket_size", "types_hash_max_size"), _OWN),
    **dict.fromkeys(("map_hash_max_size", "variables_hash_max_size", "variables_hash_bucket_size", "aio"), _OWN),
    **dict.fromkeys(("pid", "worker_processes", "worker_rlimit_nofile", "pcre_jit", "multi_accept", "use"), _OWN),
    **dict.fromkeys(("user", "daemon", "master_process", "load_module", "http2_max_concurrent_streams"), _OWN),
    "http2": "put `http2:` in front of an entry of `listen`, see docs/http2.md",
    **dict.fromkeys(("hash", "ip_hash", "least_conn", "random", "zone", "max_fails"), _KEPT),
    **dict.fromkeys(("gzip_buffers", "gzip_disable", "gzip_http_version", "gzip_proxied"), _OWN),
    "gzip_vary": "the sidecar always sends `Vary: Accept-Encoding`",
    "map": "import used it to find out where requests go; the sidecar recognizes tokens, users and rooms itself",
    "set": "import used it to find out where requests go",
    "proxy_next_upstream": _RETRIES,
    "proxy_next_upstream_tries": _RETRIES,
    "server_name": "the sidecar answers for every host name; conditions on host names become `routes`",
    "include": "import read this file",
    "default_type": "the sidecar serves no files",
    "types": "the sidecar serves no files",
    "real_ip_recursive": "the sidecar always takes the rightmost address that is not trusted",
    "proxy_send_timeout": "see `timeouts.stall` and `timeouts.answer_body`",
    "limit_except": "methods are in the endpoint table",
}
_LOST: Mapping[str, str] = {
    **dict.fromkeys(("ssl_certificate", "ssl_certificate_key", "ssl_protocols", "ssl_ciphers"), _TLS),
    **dict.fromkeys(("ssl_prefer_server_ciphers", "ssl_session_cache", "ssl_session_timeout", "ssl_dhparam"), _TLS),
    **dict.fromkeys(("ssl_session_tickets", "ssl_stapling", "ssl_stapling_verify", "ssl_trusted_certificate"), _TLS),
    **dict.fromkeys(("brotli", "brotli_types", "brotli_comp_level", "gzip_static"), _BROTLI),
    **dict.fromkeys(("access_log", "error_log", "log_format"), _LOG),
    **dict.fromkeys(("root", "alias", "try_files", "index", "autoindex"), _FILES),
    **dict.fromkeys(("limit_req_zone", "limit_conn_zone"), _LIMITS),
    **dict.fromkeys(("proxy_cache", "proxy_cache_valid", "proxy_cache_path", "proxy_cache_use_stale"), _NO_CACHE),
    **dict.fromkeys(("js_import", "js_set", "js_var", "js_path"), _SCRIPT),
    "auth_request_set": _SCRIPT,
    "rewrite": "the sidecar can change only the beginning of a path, with `strip_prefix`; write a redirect as a route",
    "if": "write it as conditions of a route, unless the `return` in it is listed as converted",
    "proxy_ssl_certificate": "the sidecar speaks plain HTTP to workers",
    "error_page": "the sidecar answers clients with Matrix errors",
    "split_clients": "write the shares as the `weight` of workers",
    "geo": "write it as `source` of a route",
    "proxy_hide_header": "the sidecar forwards Synapse's responses byte for byte",
    "proxy_method": "the sidecar forwards requests byte for byte",
    "proxy_set_body": "the sidecar forwards requests byte for byte",
}
_FILTERS: Mapping[str, str] = {
    **dict.fromkeys(("limit_req", "limit_conn"), _LIMITS),
    **dict.fromkeys(("auth_basic", "auth_basic_user_file"), "list networks in `source` of a route, or in `access`"),
    "auth_request": f"the sidecar does not ask another program before it forwards a request; {_SCRIPT}",
    "satisfy": "write both of its settings as routes with `source` and `refuse`",
    "ssl_verify_client": "the sidecar does not ask for client certificates; keep this proxy in front",
    "modsecurity": "the sidecar has no firewall rules for requests; keep this proxy in front",
    "js_access": _SCRIPT,
    "valid_referers": "write it as `header` of a route",
}
"""What keeps requests away, and does so here only where something else says it."""
_HEADERS: Mapping[str, Remark] = {
    "host": Remark("superfluous", "the sidecar never changes Host"),
    "x-forwarded-for": Remark(
        "superfluous", "the sidecar sets it to the client's address; `forwarded` says whose X-Forwarded-For it trusts"
    ),
    "x-forwarded-proto": Remark("superfluous", "the sidecar sets it"),
    "x-real-ip": Remark("superfluous", "Synapse does not read it"),
    "connection": Remark("superfluous", "the sidecar handles connections and upgrades as HTTP requires"),
    "upgrade": Remark("superfluous", "the sidecar handles connections and upgrades as HTTP requires"),
    "accept-encoding": Remark(
        "lost", "the sidecar forwards Accept-Encoding, so Synapse compresses if it is configured to"
    ),
}
_DURATIONS = {
    "proxy_connect_timeout": "connect",
    "proxy_read_timeout": "answer",
    "keepalive_timeout": "idle",
    "client_header_timeout": "head",
    "client_body_timeout": "body",
    "send_timeout": "stall",
}
_NUMBERS = {"worker_connections": "connections", "keepalive": "worker_idle"}
_DECIDING = frozenset(("location", "return"))
_TABLES = frozenset(("map", "geo", "types", "split_clients"))


def nginx_foreign(directives: Sequence[Directive]) -> Foreign:
    """A configuration that was read from a file, or from several in their order."""
    site = nginx_site(directives)
    draft = Draft(trust=trusted_networks(site))
    lines = list(_lines(directives, draft))
    paths = [
        each.args[-1]
        for each in every(directives)
        if each.name == "location" and each.args and _PLAIN.fullmatch(each.args[-1])
    ]
    return Foreign(
        proxy=site, lines=lines, paths=paths, admin=admin_networks(site), own=list(own_routes(site)), draft=draft
    )


def _lines(directives: Sequence[Directive], draft: Draft) -> Iterator[FileLine]:
    seen = set()
    for each in every(directives):
        # A file that is included often is told once; entries of a table are told with it.
        if (each.place, str(each)) not in seen:
            seen.add((each.place, str(each)))
            if each.name in _TABLES:
                seen.update((entry.place, str(entry)) for entry in each.block or ())
            yield FileLine(
                each.place,
                _shown(each),
                each.name in _DECIDING,
                _remark(each, draft),
                each.args[0] if each.name == "upstream" and each.args else "",
                _matcher(each) if each.name == "location" else None,
            )


def _matcher(directive: Directive) -> Callable[[Asked], bool]:
    alone = location(Directive("server", (), directive.place, (directive,)))

    def matches(asked: Asked) -> bool:
        uri = normalized(asked.path)
        return uri is not None and find(uri, alone) is not None

    return matches


def _shown(directive: Directive) -> str:
    text = str(directive)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _remark(directive: Directive, draft: Draft) -> Remark | None:
    """What becomes of it; None for blocks, whose inside is told."""
    name, args = directive.name, directive.args
    if name in _READERS and args:
        return _READERS[name](args, draft)
    if name in _DURATIONS and args:
        return _duration(args[0], _DURATIONS[name], draft)
    if name in _NUMBERS and args and args[0].isdigit():
        key = _NUMBERS[name]
        draft.limits[key] = max(int(args[0]), int(draft.limits.get(key, 1)), 1)
        return Remark("taken", f"limits.{key}")
    if name in _SUPERFLUOUS:
        return Remark("superfluous", _SUPERFLUOUS[name])
    if name in _FILTERS and args[:1] not in (("off",), ("any",)):
        return Remark("lost", _FILTERS[name], is_filter=True)
    if name in _LOST:
        return Remark("lost", _LOST[name])
    if directive.block is not None or name in _DECIDING or name == "proxy_pass":
        return None
    return Remark("lost", "the sidecar has no such setting; docs/configuration.md lists those that it has")


def _duration(text: str, key: str, draft: Draft) -> Remark:
    match = _TIME.fullmatch(text)
    if match is None or not int(match[1]):
        return Remark("lost", f"see `timeouts.{key}`")
    draft.timeouts[key] = f"{match[1]}{match[2] or 's'}"
    return Remark("taken", f"timeouts.{key}")


def _body(args: Sequence[str], draft: Draft) -> Remark:
    match = _SIZE.fullmatch(args[0])
    if match is None or not int(match[1]):
        return Remark("lost", "the sidecar always has a limit, see `limits.request_body`")
    draft.limits["request_body"] = f"{match[1]}{match[2].upper()}"
    return Remark("taken", "limits.request_body")


def _gzip(args: Sequence[str], draft: Draft) -> Remark:
    if args[0] != "on":
        return Remark("superfluous", "the sidecar compresses nothing unless you set `compress`")
    draft.compress_answers()
    draft.compress.setdefault("types", ["text/html"])
    return Remark("taken", "compress, for all responses to clients except media, federation and logins")


def _gzip_types(args: Sequence[str], draft: Draft) -> Remark:
    if "*" in args:
        draft.compress.pop("types", None)
        return Remark("lost", "`compress.types` has no wildcard; the default types apply")
    wanted = [each for each in dict.fromkeys(("text/html", *args)) if is_compressible(each)]
    draft.compress["types"] = wanted
    return Remark("taken", "compress.types")


def _gzip_level(args: Sequence[str], draft: Draft) -> Remark:
    if args[0] not in tuple("123456789"):
        return Remark("lost", "see `compress.level`")
    draft.compress["level"] = int(args[0])
    return Remark("taken", "compress.level")


def _gzip_length(args: Sequence[str], draft: Draft) -> Remark:
    match = _SIZE.fullmatch(args[0])
    if match is None:
        return Remark("lost", "see `compress.min`")
    draft.compress["min"] = f"{match[1]}{match[2].upper()}"
    return Remark("taken", "compress.min")


def _rewrite(args: Sequence[str], _draft: Draft) -> Remark:
    if len(args) > 1 and of_replacement(args[0], args[1]) is not None:
        return Remark("taken", "strip_prefix and add_prefix of its pool, unless the pool is Synapse's")
    return Remark("lost", _LOST["rewrite"])


def _listen(args: Sequence[str], draft: Draft) -> Remark:
    host, _, port = args[0].rpartition(":")
    if "quic" in args:
        return Remark("lost", "the sidecar does not speak HTTP/3; browsers and servers fall back to TCP")
    if args[0].startswith("unix:"):
        draft.listen.append(args[0])
        return Remark("taken", "listen")
    if not port.isdigit():
        host, port = args[0], "80"
    if "ssl" in args:
        return Remark("lost", f'end TLS with `listen: "ssl:{port}:privateKey=…:certKey=…"`, or keep a proxy in front')
    interface = host.strip("[]").replace(":", r"\:")
    endpoint = f"tcp:{port}" + (f":interface={interface}" if host not in ("", "*", "0.0.0.0") else "")  # noqa: S104
    if endpoint not in draft.listen:
        draft.listen.append(endpoint)
    return Remark("taken", "listen")


def _header(args: Sequence[str], _draft: Draft) -> Remark:
    known = _HEADERS.get(args[0].lower())
    return known or Remark(
        "lost", "the sidecar changes no header except X-Forwarded-For and X-Forwarded-Proto; set it in a proxy in front"
    )


def _answers_header(args: Sequence[str], _draft: Draft) -> Remark:
    if args[0].lower().startswith("access-control-"):
        return Remark("superfluous", "Synapse and the sidecar send CORS headers themselves")
    return Remark("lost", "the sidecar adds no headers to Synapse's responses; add it in a proxy in front")


def _real_ip(args: Sequence[str], _draft: Draft) -> Remark:
    if args[0].lower() == "x-forwarded-for":
        return Remark("taken", "the sidecar reads X-Forwarded-For from the proxies in `forwarded.trust`")
    if args[0] == "proxy_protocol":
        return Remark(
            "lost",
            "put `haproxy:` before the endpoint in `listen`, and list the balancers in `forwarded.proxy_protocol`",
        )
    return Remark("lost", "the sidecar reads only X-Forwarded-For; let the proxy in front send it")


_READERS: Mapping[str, Callable[[Sequence[str], Draft], Remark]] = {
    "add_header": _answers_header,
    "client_max_body_size": _body,
    "gzip": _gzip,
    "gzip_comp_level": _gzip_level,
    "gzip_min_length": _gzip_length,
    "gzip_types": _gzip_types,
    "listen": _listen,
    "proxy_set_header": _header,
    "real_ip_header": _real_ip,
    "rewrite": _rewrite,
    "allow": lambda _args, _draft: Remark("taken", "access.admin, if it protects the admin API"),
    "deny": lambda _args, _draft: Remark("superfluous", "the sidecar denies networks that `access` does not list"),
    "server": lambda _args, _draft: Remark("taken", "workers"),
    "set_real_ip_from": lambda _args, _draft: Remark("taken", "forwarded.trust"),
}
