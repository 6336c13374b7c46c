"""A policy in words: what pages and the audit log show of it, before and after."""

from __future__ import annotations

from cluster.ipvs.state import Backend, Forwarding
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.policy import LoadRule, LoadSource, OnFailure, Policy

_FORWARDINGS = {
    Forwarding.MASQUERADE: "masquerade",
    Forwarding.DIRECT: "direct routing",
    Forwarding.TUNNEL: "tunnel",
}
_ON_FAILURE = {
    OnFailure.WEIGHT: "weight 0: no new connections, open ones go on",
    OnFailure.REMOVE: "taken out: open connections end",
}


def policy_words(policy: Policy) -> dict[str, str]:
    """Each thing that the policy says, by its name. What it leaves at the default and is off is left out;
    two policies that say something different have different words."""
    return {name: text for name, text in _rows(policy).items() if text}


def policy_changes(before: Policy, after: Policy) -> list[tuple[str, str, str]]:
    """Name, before and after of each thing that the two say differently."""
    old, new = _rows(before), _rows(after)
    pairs = [(name, old.get(name, ""), new.get(name, "")) for name in old | new]
    return [row for row in pairs if row[1] != row[2]]


def check_words(check: Check) -> str:
    """A check in one line, with all that it says beside the defaults."""
    said = [*_where(check), *_what(check)]
    said.append(f"every {check.interval_s:g} s")
    if check.retry_s:
        said.append(f"after a failure every {check.retry_s:g} s")
    said += [
        f"timeout {check.timeout_s:g} s",
        f"down after {check.fall} failure{'' if check.fall == 1 else 's'}",
        f"up after {check.rise} success{'' if check.rise == 1 else 'es'}",
    ]
    return f"{check.kind.upper()} " + ", ".join(said)


def _rows(policy: Policy) -> dict[str, str]:
    rows = {"Health check": check_words(policy.check) if policy.check else ""}
    rows |= {
        f"Check of {key}": check_words(check)
        for key, check in sorted(policy.overrides.items(), key=lambda item: item[0])
    }
    rows["A backend that is down"] = _ON_FAILURE[policy.on_failure]
    rows["Taken out at most"] = f"{policy.most_out_percent} % of the backends"
    rows["Slow start"] = f"over {policy.ramp_s} s after it came back" if policy.ramp_s else ""
    rows["Flapping"] = _flap_words(policy)
    rows["Sorry server"] = _sorry_words(policy.sorry) if policy.sorry else ""
    rows["Weights by load"] = _load_words(policy.load) if policy.load else ""
    rows["Vote"] = "down is what more than half of the directors say" if policy.asks_others else ""
    return rows


def _where(check: Check) -> list[str]:
    places = []
    if check.address:
        places.append(f"at {check.address}")
    if check.port:
        places.append(f"port {check.port}")
    if check.through_service:
        places.append("through the service's address")
    return places


def _what(check: Check) -> list[str]:
    words: list[str] = []
    match check.kind:
        case CheckKind.TLS:
            words += _tls_words(check)
        case CheckKind.HTTP:
            words += _http_words(check)
        case CheckKind.HTTPS:
            words += [*_http_words(check), *_tls_words(check)]
        case CheckKind.UDP:
            words += [f"sends “{check.payload}”"] if check.payload else ["sends an empty packet"]
            words.append(f"answer begins with “{check.expects}”" if check.expects else "no refusal")
        case CheckKind.DNS:
            words.append(f"asks for {check.query} {check.record}")
            words += [f"answer “{check.answer}”"] if check.answer else []
        case CheckKind.SMTP:
            words += [f"says EHLO {check.helo}"] if check.helo else []
        case CheckKind.SCRIPT:
            words.append(" ".join([check.script, *(f"“{word}”" for word in check.arguments)]))
    return words


def _http_words(check: Check) -> list[str]:
    words = [f"{check.method} {check.path}"]
    if check.host:
        words.append(f"host {check.host}")
    words.append(f"status {check.statuses}")
    if check.contains:
        words.append(f"body has “{check.contains}”")
    if check.pattern:
        words.append(f"body matches “{check.pattern}”")
    if check.most_bytes != Check().most_bytes:
        words.append(f"reads at most {check.most_bytes} bytes")
    return words


def _tls_words(check: Check) -> list[str]:
    words = [f"server name {check.server_name}"] if check.server_name else []
    if check.verify:
        words.append("certificate verified")
    if check.expiry_days:
        words.append(f"certificate good for {check.expiry_days} days more")
    return words


def _flap_words(policy: Policy) -> str:
    if policy.flap_changes:
        return f"held down after {policy.flap_changes} changes within {policy.flap_window_s} s"
    if policy.flap_window_s != Policy().flap_window_s:
        return f"nobody is held down; window {policy.flap_window_s} s"
    return ""


def _sorry_words(sorry: Backend) -> str:
    words = [str(sorry.key), _FORWARDINGS.get(sorry.forwarding, sorry.forwarding.word)]
    if sorry.tunnel:
        port = f" port {sorry.tunnel.port}" if sorry.tunnel.port else ""
        flags = f" checksum {sorry.tunnel.flags}" if sorry.tunnel.flags else ""
        words.append(f"{sorry.tunnel.kind.word}{port}{flags}")
    if sorry.weight != 1:
        words.append(f"weight {sorry.weight}")
    if sorry.upper or sorry.lower:
        words.append(f"thresholds {sorry.upper} and {sorry.lower}")
    return ", ".join(words)


def _load_words(load: LoadRule) -> str:
    bounds = f"{load.least_percent} to {load.most_percent} % of the weight"
    pace = f"every {load.interval_s:g} s"
    if load.source is LoadSource.AGENT:
        return f"{bounds}, as the agent at port {load.port} {load.path} says {pace}"
    extra = f" (agent {load.port} {load.path})" if (load.port, load.path) != (0, "/") else ""
    return f"{bounds}, by connections per weight {pace}{extra}"
