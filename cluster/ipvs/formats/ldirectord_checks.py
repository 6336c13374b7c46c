"""The health checks of ldirectord.cf. Defaults are those of ldirectord's source."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.ipvs.formats.fidelity import HealthCheck, Level
from cluster.ipvs.formats.reading import Unreadable, number, shown
from cluster.ipvs.state import Protocol, ServiceKey

DEFAULT_INTERVAL_S = 10.0
DEFAULT_TIMEOUT_S = 5.0
DEFAULT_NEGOTIATE_TIMEOUT_S = 30.0

_NUMBERS = {"checktimeout", "negotiatetimeout", "checkinterval", "checkcount", "failurecount"}
_IN_QUOTES = {"request", "receive", "login", "database"}
_SECRETS = {"passwd", "secret"}
OF_CHECKS = {
    *_NUMBERS,
    *_IN_QUOTES,
    *_SECRETS,
    *("checktype", "service", "checkcommand", "checkport", "httpmethod", "virtualhost", "fork"),
}
_TYPES = {"connect", "negotiate", "ping", "off", "on", "external", "external-perl"}
_SERVICES = {
    **{"ftp": 21, "smtp": 25, "dns": 53, "http": 80, "pop": 110, "nntp": 119, "imap": 143, "ldap": 389},
    **{"https": 443, "submission": 587, "ldaps": 636, "imaps": 993, "pops": 995, "oracle": 1521},
    **{"radius": 1812, "http_proxy": 3128, "mysql": 3306, "pgsql": 5432, "sip": 5060},
}
_SERVICE_AT = {port: name for name, port in _SERVICES.items()}


def take_check_setting(settings: dict[str, str], name: str, value: str, *, is_global: bool = False) -> None:
    """Remember a directive about checks; Unreadable where ldirectord would stop at it."""
    if is_global and name not in {*_NUMBERS, "fork"}:
        raise Unreadable(f"{name} belongs to one virtual.", "Put it, indented, under its virtual.")
    if name in _SECRETS:
        text = f"{name} is a secret and was not taken."
        raise Unreadable(text, "Give it where the check is set up again.", Level.LOST)
    if name in _NUMBERS:
        number(value, name, least=1)
    elif name in _IN_QUOTES:
        if len(value) < 3 or value[0] != '"' or value[-1] != '"':
            raise Unreadable(f"{name} is {shown(value)}.", "Put its value in double quotes.")
        value = value[1:-1]
    elif name == "checkport":
        number(value, "The port", least=1, most=65535)
    elif name == "checktype" and value not in _TYPES and not value.isdecimal():
        raise Unreadable(f"checktype is {shown(value)}.", f"Write {', '.join(sorted(_TYPES))} or a number.")
    elif name == "service" and value not in {*_SERVICES, "none", "simpletcp"}:
        raise Unreadable(f"ldirectord knows no service {shown(value)}.", "Correct it, or write none.")
    elif name == "fork" and value not in ("yes", "no"):
        raise Unreadable(f"fork is {shown(value)}.", "Write yes or no.")
    settings[name] = value.strip('"') if name in ("virtualhost", "checkcommand") else value


def checks_of(
    key: ServiceKey,
    everywhere: Mapping[str, str],
    own: Mapping[str, str],
    request: str | None,
    receive: str | None,
    line: int,
) -> tuple[HealthCheck, ...]:
    """How a real server of this service is checked. `request` and `receive` are those of its own line."""
    kind = own.get("checktype", "negotiate")
    if kind == "on":
        return ()
    if kind in ("external", "external-perl"):
        command = own.get("checkcommand", "/bin/true")
        return (_check("script", {"checkcommand": command, "checktype": kind}, everywhere, own, line),)
    at_port = {"checkport": own["checkport"]} if "checkport" in own else {}
    connect = "ping" if kind == "ping" or key.protocol is Protocol.UDP else "tcp"
    if kind in ("ping", "connect"):
        return (_check(connect, at_port, everywhere, own, line),)
    negotiate = _negotiate(key, everywhere, own, request, receive, line)
    if kind.isdecimal():
        return (_check(connect, at_port, everywhere, own, line), *negotiate)
    return negotiate


def _negotiate(
    key: ServiceKey,
    everywhere: Mapping[str, str],
    own: Mapping[str, str],
    request: str | None,
    receive: str | None,
    line: int,
) -> tuple[HealthCheck, ...]:
    is_marked = key.protocol is Protocol.FIREWALL_MARK
    service = own.get("service") or ("none" if is_marked else _SERVICE_AT.get(key.port, "none"))
    if service == "none":
        return ()
    names = ("checkport", "httpmethod", "virtualhost", "login", "database", "request", "receive")
    parameters = {name: own[name] for name in names if name in own}
    if own.get("checktype", "").isdecimal():
        parameters["checktype"] = own["checktype"]
    if request is not None and receive is not None:
        parameters |= {"request": request, "receive": receive}
    kind = {"http_proxy": "http", "submission": "smtp", "simpletcp": "tcp"}.get(service, service)
    return (_check(kind, {"service": service} | parameters, everywhere, own, line, is_negotiate=True),)


def _check(
    kind: str,
    parameters: dict[str, str],
    everywhere: Mapping[str, str],
    own: Mapping[str, str],
    line: int,
    *,
    is_negotiate: bool = False,
) -> HealthCheck:
    # Without fork there is one loop over all services, at the pace that is set for all of them.
    paced = own if everywhere.get("fork") == "yes" and "checkinterval" in own else everywhere
    # Each of the two stands in for the other: first within the service, then for all.
    order = ("negotiatetimeout", "checktimeout") if is_negotiate else ("checktimeout", "negotiatetimeout")
    given = [where[name] for where in (own, everywhere) for name in order if name in where]
    default = DEFAULT_NEGOTIATE_TIMEOUT_S if is_negotiate else DEFAULT_TIMEOUT_S
    failures = own.get("failurecount") or everywhere.get("failurecount") or "1"
    if kind == "ping" and (count := own.get("checkcount") or everywhere.get("checkcount")):
        parameters = parameters | {"checkcount": count}
    return HealthCheck(
        kind,
        parameters,
        float(paced.get("checkinterval", DEFAULT_INTERVAL_S)),
        float(given[0]) if given else default,
        int(failures) - 1,
        line,
    )
