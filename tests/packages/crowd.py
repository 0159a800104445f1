"""Clients of a homeserver that never retry: for any Python on the machine of the homeserver, it needs nothing else.

    crowd.py PORT SOCKET SHARED_SECRET CLIENTS

Registers one user for each client at the socket of Synapse's main process, since the sidecar lets nobody register so.
Each keeps its connection and sends its next request when it has its answer. Says
`ready` on standard output; then, for each line on standard input, one line of JSON: how many requests have ended, and
what went wrong since the line before. Ends with standard input, each client after its last answer, and one more report.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import sys
import threading
from itertools import cycle
from urllib.parse import quote

PATIENCE = 120.0
PAUSE = 0.02
V3 = "/_matrix/client/v3"

lock = threading.Lock()
failures: list[str] = []
ended = 0
over = threading.Event()


def ask(
    connection: http.client.HTTPConnection, method: str, target: str, body: object = None, token: str = ""
) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection.request(method, target, None if body is None else json.dumps(body).encode(), headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


class UnixConnection(http.client.HTTPConnection):
    """To a socket with this path."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.host)


def registered(main: str, secret: str, name: str) -> str:
    connection = UnixConnection(main)
    place = "/_synapse/admin/v1/register"
    nonce = json.loads(ask(connection, "GET", place)[1])["nonce"]
    signed = hmac.new(secret.encode(), "\0".join((nonce, name, "password", "notadmin")).encode(), hashlib.sha1)
    user = {"nonce": nonce, "username": name, "password": "password", "admin": False, "mac": signed.hexdigest()}
    status, answer = ask(connection, "POST", place, user)
    assert status == 200, answer
    return str(json.loads(answer)["access_token"])


def room_of(port: int, token: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    status, answer = ask(connection, "POST", f"{V3}/createRoom", {}, token)
    assert status == 200, answer
    return str(json.loads(answer)["room_id"])


def be_a_client(port: int, name: str, token: str, room: str) -> None:
    global ended
    place = f"{V3}/rooms/{quote(room, safe='')}"
    kinds = (
        ("GET", "/_matrix/client/versions", None),
        ("GET", f"{V3}/sync?timeout=0", None),
        ("POST", f"{place}/send/m.room.message", {"msgtype": "m.text", "body": "hello"}),
        ("GET", f"{place}/messages?dir=b&limit=1", None),
        ("PUT", f"{place}/typing/{quote(f'@{name}:lab.test', safe='')}", {"typing": True, "timeout": 1000}),
    )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    for method, target, body in cycle(kinds):
        if over.is_set():
            break
        try:
            status, answer = ask(connection, method, target, body, token)
            told = "" if status == 200 else f"{method} {target}: {status} {answer[:200].decode('utf-8', 'replace')}"
        except (OSError, http.client.HTTPException) as error:
            told = f"{method} {target}: {error!r}"
            connection.close()
            over.wait(0.1)
        over.wait(PAUSE)
        with lock:
            ended += 1
            if told:
                failures.append(told)
    connection.close()


def report() -> None:
    with lock:
        print(json.dumps({"requests": ended, "failures": failures}), flush=True)
        failures.clear()


def main(port: str, main_socket: str, secret: str, clients: str) -> None:
    threads = []
    for number in range(int(clients)):
        name = f"client{number}"
        token = registered(main_socket, secret, name)
        threads.append(threading.Thread(target=be_a_client, args=(int(port), name, token, room_of(int(port), token))))
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for _ in sys.stdin:
        report()
    over.set()
    for thread in threads:
        thread.join()
    report()


if __name__ == "__main__":
    main(*sys.argv[1:])
