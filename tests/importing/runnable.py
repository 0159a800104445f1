"""A file of nginx or HAProxy as it is, but for where it listens and where its upstreams are, so that it runs in a test.

Every host of the file becomes an address of loopback of its own; the ports of upstreams stay what they are.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import define, field
from system_programs import find

from sidecar.importing.haproxy_words import Line, Section
from sidecar.importing.nginx_tree import Directive

_PLACE_OF_PORTS = 20000
_UNUSED = re.compile(
    r"user|pid|daemon|error_log|access_log|log_format|load_module|worker_.*|ssl_.*|resolver.*|http2|http3|quic.*"
    r"|pcre_jit|multi_accept|use|events|include|more_.*|proxy_ssl_.*|proxy_cache.*|keepalive_timeout|zone"
    r"|proxy_temp.*|client_body_temp.*|aio|resolve|set_real_ip_from|modsecurity.*|brotli.*|geoip.*|charset_map"
)
_TRIES = 30


@define
class Loopback:
    """Addresses of loopback for the hosts of a file. `base` is `127.101.1`."""

    base: str
    hosts: dict[str, str] = field(factory=dict)
    sockets: dict[str, int] = field(factory=dict)

    @property
    def front(self) -> str:
        """Where the proxy listens."""
        return f"{self.base}.250"

    def of(self, host: str) -> str:
        """The address for a host."""
        return self.hosts.setdefault(host, f"{self.base}.{len(self.hosts) + 1}")

    def address(self, endpoint: str) -> tuple[str, int]:
        """The address for a client endpoint string of Twisted."""
        kind, _, rest = endpoint.partition(":")
        if kind == "unix":
            return self.of("sockets"), self.sockets.setdefault(rest, 9000 + len(self.sockets))
        host, _, port = rest.rpartition(":")
        return self.of(host.replace("\\", "")), int(port)

    def port(self, port: int) -> int:
        """Where the proxy listens for a port of the file."""
        return _PLACE_OF_PORTS + port

    def text(self, text: str) -> str:
        """With the addresses in place of the hosts that are known by now, if the text is one, or a URL of one."""
        if "unix:" in text:
            path = text.partition("unix:")[2].partition(":")[0]
            host, port = self.address(f"unix:{path}")
            return text.replace(f"unix:{path}:", f"{host}:{port}").replace(f"unix:{path}", f"{host}:{port}")
        found = re.fullmatch(r"(https?://)?(\[[0-9a-f:]+\]|[\w.-]+)(:\d+|)((?:/|\$).*|)", text, re.DOTALL)
        if found is None or found[2].strip("[]") not in self.hosts:
            return text
        secure = ":443" if found[1] == "https://" and not found[3] else ""
        scheme = "http://" if found[1] else ""
        return f"{scheme}{self.hosts[found[2].strip('[]')]}{found[3] or secure}{found[4]}"


def nginx_file(directives: Sequence[Directive], loopback: Loopback, place: Path) -> Path:
    """The file in a directory. What this nginx does not know is left out, and no longer in it."""
    unknown: set[str] = set()
    path = place / "proxy.conf"
    inside = [one for each in directives for one in (each.block or () if each.name == "http" else (each,))]
    for _ in range(_TRIES):
        body = "\n".join(_rendered(_gathered(inside), loopback, place, unknown))
        temporary = "".join(f"{name}_temp_path {place}/{name};" for name in _TEMPORARY)
        path.write_text(
            f"daemon off; pid {place}/pid; error_log stderr; worker_processes 1; events {{}}\n"
            f"http {{ access_log off; server_names_hash_bucket_size 128; map_hash_bucket_size 256;"
            f" variables_hash_bucket_size 128; {temporary}\n{body}\n}}\n"
        )
        said = _said([str(find("nginx")), "-t", "-e", "stderr", "-p", str(place), "-c", str(path)])
        wrong = re.findall(
            r'unknown directive "([^"]+)"|"(\w+)" directive is not allowed|invalid .*"(\w+)" directive', said
        )
        if not wrong:
            assert "test is successful" in said, said
            return path
        unknown |= {name for found in wrong for name in found if name}
    raise AssertionError(said)


_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def _gathered(directives: Sequence[Directive]) -> list[Directive]:
    """Lone locations in a server, as the reader sees them."""
    loose = [each for each in directives if each.name in ("location", "listen", "server_name", "return", "if", "set")]
    rest = [each for each in directives if each not in loose]
    return [*rest, Directive("server", (), loose[0].place, tuple(loose))] if loose else rest


def _rendered(
    directives: Iterable[Directive], loopback: Loopback, place: Path, unknown: set[str], *, table: bool = False
) -> Iterator[str]:
    seen: set[str] = set()
    for each in directives:
        if not table and (_UNUSED.fullmatch(each.name) or each.name in unknown):
            continue
        args = (
            [loopback.text(word) for word in each.args] if each.name in ("proxy_pass", "set", "server") else each.args
        )
        if each.name == "server" and each.block is None:
            args = [word for at, word in enumerate(args) if not at or word.startswith(("weight=", "backup", "down"))]
        if each.name == "listen":
            args = _listen(each, loopback)
            if not args or args[0] in seen:
                continue
            seen.add(args[0])
            if "ssl" in args and "certificate" not in seen:
                seen.add("certificate")
                yield f"ssl_certificate {place}/proxy.pem; ssl_certificate_key {place}/proxy.pem;"
        words = " ".join([each.name if not table else _quoted(each.name), *map(_quoted, args)])
        if each.name == "if":
            words = f"if ({' '.join(_quoted(word) for word in args if word not in ('(', ')'))})"
        if each.block is None:
            yield f"{words};"
        else:
            inner = _rendered(each.block, loopback, place, unknown, table=each.name in ("map", "geo", "types"))
            if each.name == "server" and not any(one.name == "listen" for one in each.block):
                yield f"{words} {{ listen {loopback.front}:{loopback.port(80)};"
            else:
                yield f"{words} {{"
            yield from inner
            yield "}"


def _listen(each: Directive, loopback: Loopback) -> list[str]:
    if "quic" in each.args or each.args[0].startswith("unix:"):
        return []
    last = each.args[0].rpartition(":")[2]
    port = int(last) if last.isdigit() else 80
    kept = [word for word in each.args[1:] if word in ("ssl", "default_server")]
    return [f"{loopback.front}:{loopback.port(port)}", *kept]


def _quoted(word: str) -> str:
    if re.fullmatch(r"[\w./:$@*=~^-]+", word, re.ASCII):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


_NOT_RUN = ("global", "peers", "resolvers", "mailers", "program", "ring", "cache", "")
_LEFT_OUT = re.compile(
    r"log|errorfile|errorfiles|email-alert|stats|compression|filter|default-server|cookie|option|http-check|balance"
    r"|stick|stick-table|http-error|maxconn|description|monitor-uri|source|unique-id-.*|hash-type|load-server.*|tcp-check"
)


def haproxy_file(sections: Sequence[Section], loopback: Loopback, place: Path, directory: Path) -> Path:
    """The file in a directory. Lines that this HAProxy does not take are left out."""
    path = place / "proxy.cfg"
    left_out: set[int] = set()
    for _ in range(_TRIES):
        lines = ["defaults base", "  mode http", "  timeout connect 5s", "  timeout client 30s", "  timeout server 30s"]
        for section in sections:
            if section.kind not in _NOT_RUN:
                lines += _section(section, loopback, place)
        path.write_text("".join(f"{'#' if at in left_out else ''}{line}\n" for at, line in enumerate(lines, start=1)))
        said = _said([str(find("haproxy")), "-c", "-f", str(path)], directory)
        wrong = [int(number) for number in re.findall(r"\[ALERT\].*?proxy\.cfg:(\d+)\]", said)]
        if not wrong:
            assert "ALERT" not in said, said
            return path
        left_out |= set(wrong)
    raise AssertionError(said)


def _section(section: Section, loopback: Loopback, place: Path) -> Iterator[str]:
    names = {"defaults": f"defaults {section.name or 'usual'} from base"}
    origin = f" from {section.origin}" if section.origin and section.kind != "defaults" else ""
    yield names.get(section.kind, f"{section.kind} {section.name}{origin}")
    seen: set[str] = set()
    for line in section.lines:
        if line.keyword == "bind":
            for each in _binds(line, loopback, place):
                if each not in seen:
                    seen.add(each)
                    yield each
        elif line.keyword in ("server", "server-template"):
            yield from _server(line, loopback)
        elif not _LEFT_OUT.fullmatch(line.keyword):
            yield "  " + " ".join(_shell(word) for word in line.words)


def _binds(line: Line, loopback: Loopback, place: Path) -> Iterator[str]:
    for address in line.args[0].split(",") if line.args else ():
        last = address.rpartition(":")[2]
        if last.isdigit() and not address.startswith("quic"):
            tls = f" ssl crt {place}/proxy.pem" if "ssl" in line.args else ""
            yield f"  bind {loopback.front}:{loopback.port(int(last))}{tls}"


def _server(line: Line, loopback: Loopback) -> Iterator[str]:
    words = line.args[1:] if line.keyword == "server-template" else line.args
    if len(words) < 2:
        return
    host, _, port = words[1].rpartition(":")
    if words[1].startswith(("/", "unix@")):
        host, port = "", words[1].removeprefix("unix@")
    endpoint = f"tcp:{host.split('@')[-1].strip('[]')}:{port}" if host else f"unix:{port}"
    if host and not port.isdigit():
        return
    address = loopback.address(endpoint)
    backup = " backup" if "backup" in words else ""
    yield f"  server {line.args[0]} {address[0]}:{address[1]}{backup}"


def _shell(word: str) -> str:
    return word if re.fullmatch(r"[\w./:%,@=!|{}()\[\]<>*+-]+", word, re.ASCII) else shlex.quote(word)


def _said(command: Sequence[str], directory: Path | None = None) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


Mapped = Callable[[str], tuple[str, int]]
Workers = Mapping[str, object]
