"""Prefixes and compression of a foreign file: the real program and the sidecar do the same with them."""

from __future__ import annotations

import gzip
import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from processes import PATIENCE, PlainWorker, Running, await_listener, heads_on
from runners import runner
from system_programs import find

from sidecar.cli import main

BODY = b'{"path": "' + b"x" * 3000 + b'"}'
NGINX = """
daemon off; error_log stderr; pid nginx.pid; events {}
http {
    access_log off; client_body_temp_path b; proxy_temp_path p;
    fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    gzip on; gzip_proxied any; gzip_http_version 1.1;
    gzip_min_length 500; gzip_comp_level 2; gzip_types application/json;
    server {
        listen 127.0.0.1:@PORT@;
        location /livekit/jwt/ { proxy_pass http://127.0.0.1:@JWT@/; }
        location ^~ /livekit/sfu/ { proxy_pass http://127.0.0.1:@SFU@/rtc/; }
        location /bots { rewrite ^/bots/(.*)$ /$1 break; proxy_pass http://127.0.0.1:@BOT@; }
        location / { proxy_pass http://127.0.0.1:@MAIN@; }
    }
}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    compression algo gzip
    compression type application/json
frontend f
    bind 127.0.0.1:@PORT@
    use_backend livekit_jwt if { path_beg /livekit/jwt/ }
    use_backend livekit_sfu if { path_beg /livekit/sfu/ }
    use_backend moderation_bot if { path_beg /bots/ }
    default_backend main
backend livekit_jwt
    http-request replace-path ^/livekit/jwt/(.*) /\\1
    server jwt 127.0.0.1:@JWT@
backend livekit_sfu
    http-request replace-path ^/livekit/sfu(/.*) /rtc\\1
    server sfu 127.0.0.1:@SFU@
backend moderation_bot
    http-request set-path %[path,regsub(^/bots/,/)]
    server bot 127.0.0.1:@BOT@
backend main
    server main 127.0.0.1:@MAIN@
"""
TARGETS = {
    "/livekit/jwt/sfu/get?a=1": ("JWT", "/sfu/get?a=1"),
    "/livekit/sfu/validate": ("SFU", "/rtc/validate"),
    "/bots/api/1/report": ("BOT", "/api/1/report"),
    "/_matrix/client/versions": ("MAIN", "/_matrix/client/versions"),
}


class _Echo(PlainWorker):
    """Answers with JSON, and keeps what was asked."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        super().__init__(self.listener, self._converse)

    def _converse(self, connection: socket.socket) -> None:
        for head in heads_on(connection):
            target = head.split(b" ", 2)[1].decode()
            if target != "/health":
                self.targets.append(target)
            lines = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
            connection.sendall(lines + BODY)


@contextmanager
def _both(kind: str, place: Path) -> Iterator[tuple[dict[str, tuple[str, int]], dict[str, _Echo]]]:
    """The real program and the sidecar with what was imported, before the same services."""
    with ExitStack() as stack:
        echoes = {name: _Echo() for name in ("JWT", "SFU", "BOT", "MAIN")}
        for echo in echoes.values():
            stack.callback(echo.close)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        text = {"nginx": NGINX, "haproxy": HAPROXY}[kind].replace("@PORT@", str(port))
        for name, echo in echoes.items():
            text = text.replace(f"@{name}@", str(echo.listener.getsockname()[1]))
        file = place / f"proxy.{'conf' if kind == 'nginx' else 'cfg'}"
        file.write_text(text)
        arguments = ["-p", str(place), "-c", str(file)] if kind == "nginx" else ["-db", "-f", str(file)]
        proxy = stack.enter_context(Running(arguments, place, prefix=[str(find(kind))]))
        await_listener(port, proxy)
        made = runner().invoke(main, ["import", kind, str(file), "--all", "--synapse", "1.163"])
        assert made.exit_code == 0, made.output
        settings = yaml.safe_load(made.stdout) | {
            "listen": "tcp:0:interface=127.0.0.1",
            "synapse": {"version": "1.163"},
        }
        (place / "sidecar.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        sidecar = stack.enter_context(Running(["--config", "sidecar.yaml"], place))
        yield {kind: ("127.0.0.1", port), "sidecar": sidecar.address()}, echoes


def _asked(address: tuple[str, int], target: str) -> tuple[str, bytes]:
    """The coding of the answer, and its content."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    try:
        connection.request("GET", target, headers={"Accept-Encoding": "gzip", "Host": "matrix.example.org"})
        answer = connection.getresponse()
        return answer.headers.get("Content-Encoding", ""), answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.needs(kind)) for kind in ("nginx", "haproxy")])
def test_services_get_the_same_paths_and_clients_the_same_coding(kind: str, tmp_path: Path) -> None:
    """Whichever of the two is asked."""
    with _both(kind, tmp_path) as (fronts, echoes):
        for target, (name, inside) in TARGETS.items():
            for front, address in fronts.items():
                coding, content = _asked(address, target)
                assert coding == "gzip", (front, target)
                assert gzip.decompress(content) == BODY
                assert echoes[name].targets.pop() == inside, (front, target)
        assert not any(echo.targets for echo in echoes.values())
