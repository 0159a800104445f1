"""What Prometheus asks of the operator's listener: the sidecar's metrics, and where Synapse's own are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import parse_qs

from attrs import define, field

from sidecar.admin.operator_answer import OperatorAnswer, only
from sidecar.metrics.exposition import CONTENT_TYPE, Exposition
from sidecar.metrics.status import View
from sidecar.metrics.targets import is_host, targets
from sidecar.synapse.topology import Topology


@define(eq=False)
class Measures:
    """Answers below `/metrics`."""

    look: Callable[[], View]
    topology: Callable[[], Topology]
    _exposition: Exposition = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._exposition = Exposition(self.look)

    def answer(self, method: str, parts: Sequence[str], query: str) -> OperatorAnswer | None:
        """None: this is no path of ours. `parts` as in `Inquiry`."""
        if parts == ("metrics",):
            return only("GET", method, lambda: OperatorAnswer(200, self._exposition.text(), kind=CONTENT_TYPE))
        if parts == ("metrics", "targets"):
            return only("GET", method, lambda: self._targets(query))
        return None

    def _targets(self, query: str) -> OperatorAnswer:
        host = parse_qs(query).get("host", [None])[-1]
        if host is not None and not is_host(host):
            error = "`host` must be a host name or an address without a port, an IPv6 one in brackets."
            return OperatorAnswer(400, {"error": error})
        return OperatorAnswer(200, list(targets(self.topology(), host)))
