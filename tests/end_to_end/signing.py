"""Signs requests as a federating server would that holds the laboratory's own key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .synapse_files import SERVER_NAME, Layout

signedjson_key = pytest.importorskip("signedjson.key", reason="matrix-synapse is not installed")
signedjson_sign = pytest.importorskip("signedjson.sign", reason="matrix-synapse is not installed")

Signer = Callable[[str, str, Any], str]
"""The value of Authorization for a request of this method, target and content."""


def signer(layout: Layout) -> Signer:
    """Synapse verifies what this signs without asking anybody, because the key is its own."""
    (key,) = signedjson_key.read_signing_keys((layout.etc / "signing.key").read_text().splitlines())

    def sign(method: str, target: str, content: Any) -> str:
        request = {"method": method, "uri": target, "origin": SERVER_NAME, "destination": SERVER_NAME}
        if content is not None:
            request["content"] = content
        signature = signedjson_sign.sign_json(request, SERVER_NAME, key)["signatures"][SERVER_NAME]
        ((key_id, value),) = signature.items()
        return f'X-Matrix origin="{SERVER_NAME}",key="{key_id}",sig="{value}",destination="{SERVER_NAME}"'

    return sign
