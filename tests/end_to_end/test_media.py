"""Media: what goes up comes down, byte for byte."""

from __future__ import annotations

import io
import random

from .clients import got, in_event_loop, nio, people
from .laboratory import Gateway

SIZE = 5 * 1024 * 1024


@in_event_loop
async def test_five_mebibytes_go_up_and_come_down_unchanged(gateway: Gateway) -> None:
    """A 5 MiB file that one user uploads is what another one downloads, byte for byte."""
    content = random.Random(42).randbytes(SIZE)
    async with people(gateway, "alice", "bob") as (alice, bob):
        response, _ = await alice.upload(io.BytesIO(content), "application/octet-stream", "noise.bin", filesize=SIZE)
        uploaded = got(nio.UploadResponse, response).content_uri
        file = got(nio.MemoryDownloadResponse, await bob.download(uploaded))
        assert file.body == content
        assert file.filename == "noise.bin"
        config = await bob.succeed("GET", "/_matrix/client/v1/media/config")
        assert config == {"m.upload.size": 20 * 1024 * 1024}
