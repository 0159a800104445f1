"""Signs requests as a federating server would that holds a laboratory's own key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .synapse_files import SERVER_NAME, Layout

signedjson_key = pytest.importorskip("signedjson.key", reason="matrix-synapse is not installed")
signedjson_sign = pytest.importorskip("signedjson.sign", reason="matrix-synapse is not installed")

Signer = Callable[[str, str, Any], str]
"""The value of Authorization for a request of this method, target and content."""


def signer(layout: Layout, origin: str = SERVER_NAME, destination: str = SERVER_NAME) -> Signer:
    """With the key of the laboratory that is `origin`.

    A request to itself Synapse verifies without asking anybody, because the key is its own.
    """
    (key,) = signedjson_key.read_signing_keys((layout.etc / "signing.key").read_text().splitlines())

    def sign(method: str, target: str, content: Any) -> str:
        request = {"method": method, "uri": target, "origin": origin, "destination": destination}
        if content is not None:
            request["content"] = content
        signature = signedjson_sign.sign_json(request, origin, key)["signatures"][origin]
        ((key_id, value),) = signature.items()
        return f'X-Matrix origin="{origin}",key="{key_id}",sig="{value}",destination="{destination}"'

    return sign
