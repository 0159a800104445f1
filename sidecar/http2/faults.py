"""Why a connection or a stream ends early: the codes of RFC 9113 7, and what a client has done wrong."""

from __future__ import annotations

from enum import IntEnum


class ErrorCode(IntEnum):
    """The codes of RFC 9113 7 that are sent here."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    FRAME_SIZE_ERROR = 0x6
    CANCEL = 0x8
    ENHANCE_YOUR_CALM = 0xB


class ConversationError(Exception):
    """The client broke a rule of the connection, or a limit: nothing more of it is interpreted."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
