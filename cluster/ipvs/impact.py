"""What a step does to the connections that are open, from the last counters and the director's sysctls.

Measured on 6.1: a removed backend's packets vanish, or are answered with a reset where expire_nodest_conn
is 1; persistence outlives weight 0 unless expire_quiescent_template is 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.state import Backend, BackendKey, Protocol, Service, ServiceKey
from cluster.ipvs.stats import BackendCounters, Reading
from cluster.ipvs.traffic.progress import counts_inactive

EXPIRE_NODEST = "expire_nodest_conn"
EXPIRE_QUIESCENT = "expire_quiescent_template"

Open = Mapping[ServiceKey, Mapping[BackendKey, BackendCounters]]
Sysctls = Mapping[str, str]

# They send a backend that has few connections everything until it has caught up.
_COUNT_CONNECTIONS = frozenset({"lc", "wlc", "sed", "nq", "lblc", "lblcr", "twos"})
_FLOOD = "{scheduler} gives it nearly all new connections until it has its share."


_UNKNOWN = "How many connections it cuts is not known now."


def at_stake(reading: Reading, steps: Iterable[Step]) -> Open:
    """The counters of the services that the steps touch. All of a large table are not looked at for a small
    plan: they are decoded where somebody asks."""
    touched = {step.service.key for step in steps}
    return {
        service.key: {backend.key: reading.backends[service.key, backend.key] for backend in service.backends}
        for service in reading.table
        if service.key in touched
    }


def impact(step: Step, counted: Open | None, sysctls: Sysctls) -> str:
    """One or two sentences, or nothing where nobody will notice. `counted` are the newest counters, None
    where they are not known; `sysctls` the values below net.ipv4.vs, as far as they are known."""
    if counted is None:
        return _UNKNOWN if step.kind == "remove" else ""
    match step.operation:
        case Operation.REMOVE_SERVICE:
            return _of_removal(_sum(step.service.key, counted), step.service, sysctls)
        case Operation.REMOVE_BACKEND:
            return _of_removal(_at(step, counted), step.service, sysctls)
        case Operation.SET_BACKEND:
            return _of_change(step, _at(step, counted), sysctls)
        case Operation.ADD_BACKEND:
            return _of_arrival(step, counted)
        case _:
            return ""


def _of_removal(counted: BackendCounters, service: Service, sysctls: Sysctls) -> str:
    count, what = counted.active, "established connection"
    if counts_inactive(service.key):
        count += counted.inactive
        what = "flow" if service.key.protocol is Protocol.UDP else "connection"
    if not count:
        return f"No {what}s now."
    how = {
        "0": f"; clients hang until they give up ({EXPIRE_NODEST} is 0)",
        "1": f"; clients get a reset at their next packet ({EXPIRE_NODEST} is 1)",
    }
    return f"Cuts {_count(count, what)}{how.get(sysctls.get(EXPIRE_NODEST, ''), '')}."


def _of_change(step: Step, counted: BackendCounters, sysctls: Sysctls) -> str:
    before, after = step.before, step.backend
    assert isinstance(before, Backend) and after is not None
    said = []
    if before.weight and not after.weight:
        open_now = counted.active + counted.inactive
        stay = f"{_count(open_now, 'open one')} may go on" if open_now else "none is open now"
        said.append(f"New connections stop; {stay}.")
        if step.service.persistence and sysctls.get(EXPIRE_QUIESCENT) != "1":
            clients = _count(counted.persistent, "client") if counted.persistent else "clients"
            said.append(
                f"But {clients} bound by persistence may open new ones ({EXPIRE_QUIESCENT} is not 1)."
            )
    elif after.weight > before.weight and step.service.scheduler in _COUNT_CONNECTIONS:
        said.append(_FLOOD.format(scheduler=step.service.scheduler))
    if before.forwarding != after.forwarding:
        said.append("Open connections keep the old way; new ones take the new one.")
    elif before.tunnel != after.tunnel:
        # ip_vs_tunnel_xmit looks at the backend's tunnel for each packet.
        said.append("Open connections take the new tunnel at once, and hang where the backend does not.")
    return " ".join(said)


def _of_arrival(step: Step, counted: Open) -> str:
    others = any(one.active for one in counted.get(step.service.key, {}).values())
    if others and step.service.scheduler in _COUNT_CONNECTIONS and step.backend and step.backend.weight:
        return _FLOOD.format(scheduler=step.service.scheduler)
    return ""


def _at(step: Step, counted: Open) -> BackendCounters:
    assert step.backend is not None
    return counted.get(step.service.key, {}).get(step.backend.key, BackendCounters())


def _sum(key: ServiceKey, counted: Open) -> BackendCounters:
    own = counted.get(key, {}).values()
    return BackendCounters(
        active=sum(one.active for one in own),
        inactive=sum(one.inactive for one in own),
        persistent=sum(one.persistent for one in own),
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
