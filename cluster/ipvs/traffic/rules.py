"""What makes a policy unusable for its service, and what it says that is rarely meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from cluster.ipvs.rules import Problem, Severity, backend_problems
from cluster.ipvs.state import Backend, Service, ServiceKey, Table
from cluster.ipvs.traffic.checks import Check, CheckKind, check_problems
from cluster.ipvs.traffic.paths import can_be_checked_through
from cluster.ipvs.traffic.policy import LoadRule, LoadSource, Policy, Traffic

LONGEST_RAMP_S: Final = 3600
MOST_FLAP_CHANGES: Final = 100
SHORTEST_FLAP_WINDOW_S: Final = 10
LONGEST_FLAP_WINDOW_S: Final = 24 * 3600
LARGEST_PERCENT: Final = 1000

# These ask the host, not a port of it.
_WITHOUT_PORT: Final = (CheckKind.PING, CheckKind.SCRIPT)


def traffic_problems(table: Table, traffic: Traffic) -> list[tuple[ServiceKey, Problem]]:
    """All that stands against applying these policies to this table."""
    return [
        (service.key, problem)
        for service in table
        if (policy := traffic.policies.get(service.key))
        for problem in policy_problems(policy, service)
    ]


def traffic_warnings(table: Table, traffic: Traffic) -> list[tuple[ServiceKey, Problem]]:
    """All of the policies that somebody should look at before they are applied."""
    return [
        (service.key, problem)
        for service in table
        if (policy := traffic.policies.get(service.key))
        for problem in policy_warnings(policy, service)
    ]


def policy_problems(policy: Policy, service: Service) -> Iterator[Problem]:
    """What makes this policy unusable for this service with its backends. A field of the check has the
    check's name, of the sorry server `sorry_` before it, of the load rule `load_`."""
    if policy.check is not None:
        watched = [one for one in service.backends if one.key not in policy.overrides]
        yield from check_problems(policy.check)
        yield from fit_problems(policy.check, service, watched)
    for backend in service.backends:
        if (own := policy.overrides.get(backend.key)) is not None:
            for problem in (*check_problems(own), *fit_problems(own, service, [backend])):
                yield Problem("", f"The check of {backend.key}: {problem.text}")
    yield from _number_problems(policy)
    if policy.sorry is not None:
        yield from _sorry_problems(policy.sorry, service)
    if policy.load is not None:
        yield from _load_problems(policy.load)


def fit_problems(check: Check, service: Service, backends: Iterable[Backend]) -> Iterator[Problem]:
    """What makes a check, which is fine by itself, unusable for these backends of the service."""
    backends = list(backends)
    portless = [str(one.key) for one in backends if one.port == 0]
    if check.through_service:
        yield from _path_problems(check, service, backends)
    elif check.port or check.kind in _WITHOUT_PORT:
        return
    elif portless or (not backends and service.key.port == 0):
        whose = f"the backend {portless[0]}" if portless else "this service"
        yield Problem("port", f"Say which port to check: {whose} has none of its own.")


def policy_warnings(policy: Policy, service: Service) -> Iterator[Problem]:
    """What a policy says that is rarely meant."""
    if policy.check is not None:
        yield from check_warnings(policy.check)
    for key, check in sorted(policy.overrides.items(), key=lambda item: item[0]):
        for problem in check_warnings(check):
            yield _warning("", f"The check of {key}: {problem.text}")
    if policy.sorry is not None and policy.check is None and not policy.overrides:
        yield _warning(
            "sorry_address",
            "Without a check no backend is ever down, so the sorry server serves only while all are drained"
            " or have weight 0. Add a check.",
        )
    if policy.check is not None and len(service.backends) * policy.most_out_percent < 100:
        yield _warning(
            "most_out_percent",
            f"{policy.most_out_percent} % of {len(service.backends)} backends is less than one, so none is"
            " taken out when it is down. Raise the share.",
        )


def check_warnings(check: Check) -> Iterator[Problem]:
    """What a check says that is rarely meant."""
    if check.timeout_s >= check.interval_s:
        yield _warning(
            "timeout_s",
            f"The timeout of {check.timeout_s:g} s is not below the interval of {check.interval_s:g} s, so a"
            " backend that hangs is checked less often. Shorten the timeout.",
        )
    if check.fall == 1:
        text = "One failure takes a backend out, be it a hiccup of the network. Let it fail 2 or 3 times."
        yield _warning("fall", text)


def _path_problems(check: Check, service: Service, backends: list[Backend]) -> Iterator[Problem]:
    if service.key.mark:
        text = "A service of a firewall mark has no address of its own to check through. Turn this off."
        yield Problem("through_service", text)
    elif service.key.port == 0 and not check.port and check.kind not in _WITHOUT_PORT:
        yield Problem("port", "Say which port to check: this service has none of its own.")
    others = [str(one.key) for one in backends if not can_be_checked_through(service, one)]
    if others and not service.key.mark:
        yield Problem(
            "through_service",
            f"Only backends with direct routing or a tunnel hold the service's address; {others[0]} does"
            " not. Turn this off, or give that backend a check of its own.",
        )


def _number_problems(policy: Policy) -> Iterator[Problem]:
    if not 1 <= policy.most_out_percent <= 100:
        yield Problem("most_out_percent", "The share is 1 to 100 percent.")
    if not 0 <= policy.ramp_s <= LONGEST_RAMP_S:
        yield Problem("ramp_s", f"The slow start lasts 0 to {LONGEST_RAMP_S} s; 0 is none.")
    if policy.flap_changes != 0 and not 2 <= policy.flap_changes <= MOST_FLAP_CHANGES:
        text = f"The changes are 2 to {MOST_FLAP_CHANGES}, or 0 to hold nobody down."
        yield Problem("flap_changes", text)
    if not SHORTEST_FLAP_WINDOW_S <= policy.flap_window_s <= LONGEST_FLAP_WINDOW_S:
        text = f"The window is {SHORTEST_FLAP_WINDOW_S} to {LONGEST_FLAP_WINDOW_S} s."
        yield Problem("flap_window_s", text)


def _sorry_problems(sorry: Backend, service: Service) -> Iterator[Problem]:
    for problem in backend_problems(service, sorry):
        yield Problem(f"sorry_{problem.field}", problem.text, problem.code)
    if sorry.key in {backend.key for backend in service.backends}:
        text = f"{sorry.key} is a backend of this service already. Give a server that is none."
        yield Problem("sorry_address", text)
    if sorry.weight == 0:
        yield Problem("sorry_weight", "With weight 0 the sorry server would serve nobody. Use 1 or more.")


def _load_problems(load: LoadRule) -> Iterator[Problem]:
    if load.source is LoadSource.AGENT:
        if not 1 <= load.port <= 65535:
            yield Problem("load_port", "Give the port of the agent on each backend, 1 to 65535.")
        if not load.path.startswith("/") or any(letter <= " " or letter > "~" for letter in load.path):
            text = "The path begins with / and has neither spaces nor letters beyond ASCII."
            yield Problem("load_path", text)
    if not 0.5 <= load.interval_s <= 3600:
        yield Problem("load_interval_s", "The interval is 0.5 to 3600 s.")
    if not 1 <= load.least_percent <= load.most_percent:
        text = "The least is 1 percent or more, and not above the most."
        yield Problem("load_least_percent", text)
    if not 1 <= load.most_percent <= LARGEST_PERCENT:
        yield Problem("load_most_percent", f"The most is 1 to {LARGEST_PERCENT} percent.")


def _warning(field: str, text: str) -> Problem:
    return Problem(field, text, severity=Severity.WARNING)
