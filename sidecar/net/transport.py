"""What we know of Twisted's transports beyond their interfaces; every use of it is in this module.

A plain `write` waits for the next turn of the reactor. Sending at once when nothing waits to be sent saves a poll
for each message, which is a quarter of what a proxied request costs. `tests/net/test_transport_contract.py` holds
these functions against real sockets.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.tcp import Connection

Send = Callable[[bytes], bool]


def sender(transport: Any) -> Send:
    """A function that sends octets on `transport`, at once where it can.

    It returns False only if the connection is broken and not one octet was taken; reading goes on all the same,
    because an answer may be waiting there.
    """
    if not isinstance(transport, Connection) or transport.TLS:

        def write(octets: bytes) -> bool:
            transport.write(octets)
            return True

        return write

    send = transport.socket.send
    connection: Any = transport

    def send_now(octets: bytes) -> bool:
        if connection.dataBuffer or connection._tempDataBuffer or connection.disconnecting:
            connection.write(octets)
            return True
        try:
            sent = send(octets)
        except BlockingIOError:
            connection.write(octets)
            return True
        except OSError:
            return False
        if sent != len(octets):
            connection.write(octets[sent:])
        return True

    return send_now


def pending(transport: Any) -> bool:
    """Octets wait in `transport` for the kernel to take them."""
    return bool(transport.dataBuffer or transport._tempDataBuffer)


def abandon_writes(transport: Any) -> None:
    """Forget what waits to be sent, and keep reading.

    Without it, the failure of a write that nobody needs any more tears down a connection from which an answer can
    still be read.
    """
    transport.dataBuffer = b""
    transport.offset = 0
    transport._tempDataBuffer = []
    transport._tempDataLen = 0
    transport.stopWriting()


def readable(transport: Any) -> bool:
    """Something can be read from an idle connection, be it the end of file: it must not be used any more."""
    try:
        transport.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except (OSError, AttributeError):
        return True
    return True
