"""Application services: whose token is whose. Read from the registration files that homeserver.yaml names.

Tokens are secrets: no problem and no repr shows one. Knows nothing of requests.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from sidecar.document import Document, read_document
from sidecar.errors import Problem, Severity
from sidecar.synapse.files import Merged

KEY = "app_service_config_files"


def read_appservices(config: Merged, server_name: str) -> tuple[Mapping[str, str], list[Document], list[Problem]]:
    """The sender's user id for each `as_token`, the files that were read, and what is wrong with them."""
    named = config.get(KEY)
    if named is None:
        return {}, [], []
    if not isinstance(named, list) or not all(isinstance(file, str) for file in named):
        return {}, [], [config.problem((KEY,), "must be a list of files")]
    base = os.path.dirname(config.origins[KEY].file)
    files = [os.path.join(base, file) for file in named]
    problems = [
        config.warning((KEY, index), "is relative, and seen from this file; Synapse sees it from its working directory")
        for index, file in enumerate(named)
        if not os.path.isabs(file)
    ]
    senders: dict[str, str] = {}
    documents = [read_document(file, repeated=Severity.WARNING) for file in files]
    for document in documents:
        problems.extend(document.problems)
        if document.usable:
            problems.extend(_add(document, server_name, senders))
    return senders, documents, problems


def _add(document: Document, server_name: str, senders: dict[str, str]) -> list[Problem]:
    registration = document.value if isinstance(document.value, dict) else {}
    wrong = [key for key in ("as_token", "sender_localpart") if not isinstance(registration.get(key), str)]
    if wrong:
        message = "is missing or no text; Synapse refuses such a registration"
        return [document.problem((key,), message) for key in wrong]
    token = registration["as_token"]
    if token in senders:
        return [document.problem(("as_token",), "is the token of another application service too; give each its own")]
    senders[token] = f"@{registration['sender_localpart']}:{server_name}"
    return []
