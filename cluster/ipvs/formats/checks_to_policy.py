"""The health checks of keepalived.conf and ldirectord.cf as policies, where one says just what the text says.

What has no equal is left out, with a note at its line. Defaults are those of keepalived 2.2.7's and
ldirectord's source.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from cluster.ipvs.formats.fidelity import HealthCheck, Level, Note, Parsed
from cluster.ipvs.formats.reading import Unreadable
from cluster.ipvs.state import BackendKey, Service, ServiceKey
from cluster.ipvs.traffic.checks import Check, CheckKind, check_problems
from cluster.ipvs.traffic.policy import OnFailure, Policy
from cluster.ipvs.traffic.rules import fit_problems, policy_problems

_REMEDY: Final = "Choose a check for it on the service's page."
_FAILURE_REMEDY: Final = "Choose what becomes of a backend that is down on the service's page."
_SCRIPT_REMEDY: Final = "Put it into the directors' script directory, then choose it on the service's page."
# Where nothing is said, keepalived takes a server out, and ldirectord is quiescent.
_ON_FAILURE: Final = {"keepalived": OnFailure.REMOVE, "ldirectord": OnFailure.WEIGHT}
# What says nothing about whether a backend is up.
_SILENT: Final = {"warmup", "log_all_failures"}
# Where nothing is said, keepalived waits a second before it tries again.
_RETRY_S: Final = {"http": 3.0, "https": 3.0, "dns": 0.0}
# Letters that mean themselves in any regular expression.
_PLAIN: Final = re.compile(r"[A-Za-z0-9 _:/,;=<>@%-]+")


def policies_of(parsed: Parsed, *, kind: str) -> tuple[dict[ServiceKey, Policy], tuple[Note, ...]]:
    """The policies that the text asks for, by service, and a note for each check and sorry server that no
    policy can say. `kind` is the text's, a name of FORMATS."""
    policies: dict[ServiceKey, Policy] = {}
    notes: dict[Note, None] = {}
    if kind not in _ON_FAILURE or not (parsed.checks or parsed.sorry):
        return {}, ()
    for service in parsed.table:
        checks = _checks_of(parsed, service, kind, notes)
        check, overrides = _shared(service, checks)
        policy = Policy(check, overrides, _on_failure(parsed, service, kind, checks, notes))
        if sorry := parsed.sorry.get(service.key):
            wanted = Policy(sorry=sorry)
            problem = next(policy_problems(wanted, service), None)
            if problem is None:
                policy = Policy(check, overrides, policy.on_failure, sorry=sorry)
            else:
                line = parsed.sorry_lines.get(service.key, 0)
                text = f"The sorry server {sorry.key} cannot be one here."
                notes[Note(line, Level.LOST, text, problem.text)] = None
        if policy != Policy():
            policies[service.key] = policy
    return policies, tuple(sorted(notes, key=lambda note: note.line))


def _checks_of(
    parsed: Parsed, service: Service, kind: str, notes: dict[Note, None]
) -> dict[BackendKey, Check]:
    found = {}
    for backend in service.backends:
        asked = parsed.checks.get((service.key, backend.key), ())
        try:
            if len(asked) > 1:
                raise Unreadable("It has several checks, and a backend has one here.", _REMEDY, Level.LOST)
            for one in asked:
                check = _check(one, kind, own_address=backend.address)
                problems = [*check_problems(check), *fit_problems(check, service, [backend])]
                if problems:
                    raise Unreadable(f"The check {one.kind} cannot be used here.", problems[0].text)
                found[backend.key] = check
        except Unreadable as why:
            notes[Note(asked[0].line, Level.LOST, why.text, why.remedy)] = None
    return found


def _on_failure(
    parsed: Parsed,
    service: Service,
    kind: str,
    checks: Mapping[BackendKey, Check],
    notes: dict[Note, None],
) -> OnFailure:
    """What the text wants of backends that fail. Where it is not the same for all that are checked, what it
    does where nothing is said."""
    key, usual = service.key, _ON_FAILURE[kind]
    said = {one.key: found for one in service.backends if (found := parsed.quiescent.get((key, one.key)))}
    unusual = {line for stays, line in said.values() if stays != (usual is OnFailure.WEIGHT)}
    if not checks:
        if any((key, backend) in parsed.checks for backend in said):
            text = "It is about backends that fail a check, and no check of them was taken."
            notes |= {Note(line, Level.LOST, text, _FAILURE_REMEDY): None for line in unusual}
        return OnFailure.WEIGHT
    wanted = {said[backend][0] if backend in said else usual is OnFailure.WEIGHT for backend in checks}
    if len(wanted) == 1:
        return OnFailure.WEIGHT if wanted.pop() else OnFailure.REMOVE
    text = "It is said of some backends of a service alone, and here a service treats all of them alike."
    notes |= {Note(line, Level.LOST, text, _FAILURE_REMEDY): None for line in unusual}
    return usual


def _shared(
    service: Service, checks: Mapping[BackendKey, Check]
) -> tuple[Check | None, dict[BackendKey, Check]]:
    """The check that most have as the service's, and those of the others. Where a backend has none, each has
    its own, because the service's would be that backend's too."""
    if not checks or len(checks) < len(service.backends):
        return None, dict(checks)
    most = Counter(checks.values()).most_common(1)[0][0]
    return most, {key: check for key, check in checks.items() if check != most}


def _check(one: HealthCheck, kind: str, *, own_address: str) -> Check:
    """Unreadable where no check of ours says the same."""
    said = {name: value for name, value in one.parameters.items() if name not in _SILENT}
    given: dict[str, Any] = {}
    if one.kind not in list(CheckKind) or one.kind == CheckKind.SCRIPT:
        remedy = _SCRIPT_REMEDY if one.kind == CheckKind.SCRIPT else _REMEDY
        raise Unreadable(f"A check of the kind {one.kind} is not taken.", remedy)
    if kind == "keepalived":
        _from_keepalived(one, said, given, own_address)
    else:
        _from_ldirectord(one, said, given)
    if said:
        raise Unreadable(f"The check {one.kind} says {min(said)}, for which there is no equal.", _REMEDY)
    return Check(
        CheckKind(one.kind),
        one.interval_s or Check().interval_s,
        one.timeout_s or Check().timeout_s,
        rise=1,
        fall=(one.retries or 0) + 1,
        **given,
    )


def _from_keepalived(one: HealthCheck, said: dict[str, str], given: dict[str, Any], own_address: str) -> None:
    """Move what has an equal from `said` to `given`."""
    _take_port("connect_port", said, given)
    pause = said.pop("delay_before_retry", "")
    given["retry_s"] = float(pause) if pause else _RETRY_S.get(one.kind, 1.0) if one.retries else 0.0
    if said.get("connect_ip") == own_address:
        del said["connect_ip"]
    for name in ("alpha", "fast_recovery", "enable_sni"):
        if said.get(name) == "no":
            del said[name]
    if one.kind in (CheckKind.HTTP, CheckKind.HTTPS):
        given["path"] = said.pop("path", "/")
        given["host"] = said.pop("virtualhost", "")
        if codes := said.pop("status_code", ""):
            given["statuses"] = ",".join(codes.replace(",", " ").split())
        if said.pop("enable_sni", "") and one.kind == CheckKind.HTTPS:
            given["server_name"] = given["host"]
    elif one.kind == CheckKind.SMTP:
        given["helo"] = said.pop("helo_name", "")
    elif one.kind == CheckKind.DNS:
        given["query"], given["record"] = said.pop("name", "."), said.pop("type", "SOA").upper()


def _take_port(name: str, said: dict[str, str], given: dict[str, Any]) -> None:
    """A name of a port stays where it is: it is not looked up."""
    if said.get(name, "0").isdecimal() and len(said.get(name, "0")) <= 5:
        given["port"] = int(said.pop(name, "0"))


def _from_ldirectord(one: HealthCheck, said: dict[str, str], given: dict[str, Any]) -> None:
    """Move what has an equal from `said` to `given`."""
    _take_port("checkport", said, given)
    if said.get("service") == one.kind:
        del said["service"]
    if one.kind in (CheckKind.HTTP, CheckKind.HTTPS):
        if "://" not in said.get("request", ""):
            given["path"] = "/" + said.pop("request", "").lstrip("/")
        given["host"] = said.pop("virtualhost", "")
        given["method"] = said.pop("httpmethod", "GET").upper()
        if _PLAIN.fullmatch(said.get("receive", "")):
            given["contains"] = said.pop("receive")
    elif one.kind == CheckKind.DNS:
        given["query"], given["answer"] = said.pop("request", ""), said.pop("receive", "")
