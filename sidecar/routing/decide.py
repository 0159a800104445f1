"""The decision: which workers one request goes to, in which order, or why it is refused.

`decide` is a pure function of the request and the plan, and is asked for every request: the common path is a walk over
the segments, one key and one look-up. It decodes copies only, and knows nothing of connections or load.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from zlib import crc32

from attrs import evolve

from sidecar.routing.access import REPLICATION, TOO_DEEP, closed_resource
from sidecar.routing.decision import Decision
from sidecar.routing.keys import OPAQUE, Fields, Key
from sidecar.routing.plan import Plan, Step
from sidecar.routing.rules import Rule, RuleIndex, earlier, host_of
from sidecar.synapse.identifiers import query_value


def decide(method: bytes, target: bytes, fields: Fields, peer: str, plan: Plan, scheme: str = "http") -> Decision:
    """Where a request goes.

    `method` and `target` are the octets of the request-line, `peer` is the client's address in text (empty where it
    has none), `scheme` what the client used. Never raises, whatever the octets.
    """
    path, _, query = target.partition(b"?")
    segments = path.split(b"/", plan.splits)
    node = plan.start
    for segment in segments:
        node = node.get(segment) or node.other
    methods = node.payload
    step = methods.steps.get(method) or methods.unmatched
    if step.guarded:
        if path[:1] != b"/":
            return _other_form(method, target, fields, peer, plan, scheme)
        refusal = closed(path, peer, step, plan)
        if refusal is not None:
            return allowed(refusal) if is_preflight(method, fields) else refusal
    if methods.rules is not None or plan.pathless is not None:
        rule = matching_rule(methods.rules, plan.pathless, method, query, fields, peer, scheme)
        if rule is not None:
            asking = is_preflight(method, fields) and method not in rule.methods
            if rule.route.pool is None:
                decision = authored(rule, target, host_of(fields), step)
                return allowed(decision) if asking else decision
            step = routed(plan, rule, step)
            if asking and not step.members:
                return allowed(step.decision("none", None, (), ()))
    if step.initial is not None and is_initial(query, step.position):
        step = step.initial
    key = None if step.key_of is None else step.key_of(segments, query, fields, peer)
    decided = None if key is None else step.decided.get(key)
    return decided or _settled(step, key, target, peer, plan)


def decider(plan: Plan) -> Callable[[bytes, bytes, Fields, str, str], Decision]:
    """`decide` by this plan, as it is asked for every request: method, target, fields, peer, scheme."""
    return lambda method, target, fields, peer, scheme: decide(method, target, fields, peer, plan, scheme)


def _settled(step: Step, key: Key | None, target: bytes, peer: str, plan: Plan) -> Decision:
    """The decision for a key that is not remembered, or for no key."""
    if key is None:
        keyless = step.keyless
        return keyless[0] if len(keyless) == 1 else keyless[_start_of(target, peer) % len(keyless)]
    return _remember(step, plan, key)


def _remember(step: Step, plan: Plan, key: Key) -> Decision:
    decision = step.settle(key)
    if key[0] == OPAQUE:
        decision = evolve(decision, of_user=partial(_of_user, step, plan))
    plan.memory.keep(step, key, decision)
    return decision


def _of_user(step: Step, plan: Plan, user: str) -> Decision:
    key = ("user", user)
    return step.decided.get(key) or _remember(step, plan, key)


def _start_of(target: bytes, peer: str) -> int:
    """Where requests without a key begin when all candidates are equally busy: spread, and the same everywhere."""
    return crc32(target, crc32(peer.encode("utf-8", "surrogatepass")))


def is_initial(query: bytes, position: bytes) -> bool:
    """Whether a sync has no position to go on from (`since` or `pos`), or asks for everything again."""
    marker = position + b"="
    # `find` and not `in`, which costs three times as much for octets.
    if query.startswith(marker) or query.find(b"&" + marker) >= 0:
        return query.find(b"full_state") >= 0 and query_value(query, b"full_state") == b"true"
    if not query:
        return True
    return query_value(query, position) is None or query_value(query, b"full_state") == b"true"


def is_long_poll(method: bytes, query: bytes) -> bool:
    """Whether a request wants to be answered only when there is something to tell: it says how long it waits."""
    if method not in (b"GET", b"POST") or query.find(b"timeout") < 0:
        return False
    return (query_value(query, b"timeout") or b"").strip(b"0") != b""


def matching_rule(
    listed: RuleIndex | None,
    pathless: RuleIndex | None,
    method: bytes,
    query: bytes,
    fields: Fields,
    peer: str,
    scheme: str,
) -> Rule | None:
    """The operator's rule that takes the request; None where the first that holds leaves it to the table."""
    rule = first_rule(listed, pathless, method, query, fields, peer, scheme)
    return None if rule is None or rule.route.table else rule


def first_rule(
    listed: RuleIndex | None,
    pathless: RuleIndex | None,
    method: bytes,
    query: bytes,
    fields: Fields,
    peer: str,
    scheme: str,
) -> Rule | None:
    """The first of the operator's rules that holds, of those for the path and those for any."""
    found = None if listed is None else listed.first(method, query, fields, peer, scheme)
    return found if pathless is None else earlier(found, pathless.first(method, query, fields, peer, scheme))


def routed(plan: Plan, rule: Rule, step: Step) -> Step:
    """The step of a request that `rule` sends to a pool; `step` is what the table says of it."""
    # Rules of one pool share a step: hosts times endpoints could be many. The path matters only where no row has one.
    route = rule.route
    place = (route.pool, None if step.row is not None else route.path, route.compress, id(step))
    known = plan.routed.get(place)
    if known is None:
        known = plan.routed[place] = plan.route(rule, step)
    return known


def authored(rule: Rule, target: bytes, host: bytes, step: Step) -> Decision:
    """The decision of a rule that answers by itself."""
    route = rule.route
    reason = f"routes[{rule.number}] of the configuration answers it"
    if route.respond is not None:
        respond = route.respond
        return Decision(
            action="respond",
            endpoint=step.endpoint,
            pool="",
            status=respond.status,
            headers=tuple(respond.headers.items()),
            body=respond.body.encode(),
            reason=reason,
        )
    if route.redirect is not None:
        if not host and "{host}" in route.redirect.to:
            nowhere = "the request has no Host header, which the redirect needs"
            return Decision(action="refuse", endpoint=step.endpoint, pool="", status=400, reason=nowhere)
        # In this order: a target can hold `{host}`, a host no brace.
        location = route.redirect.to.replace("{host}", host.decode("latin-1"))
        location = location.replace("{target}", target.decode("latin-1"))
        return Decision(
            action="redirect",
            endpoint=step.endpoint,
            pool="",
            status=route.redirect.status,
            headers=(("Location", location),),
            reason=reason,
        )
    return Decision(action="refuse", endpoint=step.endpoint, pool="", status=route.refuse, reason=reason)


def is_preflight(method: bytes, fields: Fields) -> bool:
    """Whether a browser asks what a page may send to another origin (Fetch, "CORS-preflight request")."""
    return method == b"OPTIONS" and fields.get(b"access-control-request-method") is not None


def allowed(decision: Decision) -> Decision:
    """The answer to the preflight of a request that is not forwarded: yes, so that the page can read the real answer.

    The operator's own CORS headers count here too.
    """
    return Decision(
        action="respond",
        endpoint=decision.endpoint,
        pool="",
        status=204,
        headers=tuple(each for each in decision.headers if each[0].lower().startswith("access-control-")),
        reason=f"a preflight is allowed, so that the page can read the answer: {decision.reason}",
    )


def closed(path: bytes, peer: str, step: Step, plan: Plan) -> Decision | None:
    """The refusal of a path that leads to what is not for this peer; None where the way is free."""
    resource = closed_resource(path, known=step.row is not None, most=plan.access.most)
    if resource is None or plan.access.admits(resource, peer):
        return None
    if resource == TOO_DEEP:
        deep = "the path has more segments than limits.path_segments, and names _synapse"
        return Decision(action="refuse", endpoint=step.endpoint, pool="", status=400, reason=deep)
    if resource == REPLICATION:
        reason = "/_synapse/replication is between Synapse's own processes and is never forwarded"
    else:
        reason = f"/_synapse/{resource} is closed; access.{resource} names the networks that may reach it"
    return Decision(action="refuse", endpoint=step.endpoint, pool="", status=403, reason=reason)


def _other_form(method: bytes, target: bytes, fields: Fields, peer: str, plan: Plan, scheme: str) -> Decision:
    """Absolute-form is decided by its path, the asterisk goes anywhere; nothing else is a request-target of ours."""
    if target == b"*" and method == b"OPTIONS":
        return _settled(plan.anything, None, target, peer, plan)
    origin = origin_form(target)
    if origin is None:
        reason = "the request-target is neither a path nor an http URL"
        return Decision(action="refuse", endpoint=plan.unknown.endpoint, pool="", status=400, reason=reason)
    return decide(method, origin, fields, peer, plan, scheme)


def origin_form(target: bytes) -> bytes | None:
    """The origin-form in an http URL, cut out and not rewritten; a missing path becomes `/`. None for anything else."""
    scheme, _, rest = target.partition(b"://")
    if scheme.lower() not in (b"http", b"https") or not rest:
        return None
    before_query = rest.partition(b"?")[0]
    slash = before_query.find(b"/")
    return rest[slash:] if slash >= 0 else b"/" + rest[len(before_query) :]
