"""What a kernel's errno means: what happened, to what, and what now. ip_vs_ctl.c, measured on 6.1.

The number alone does not tell: ENOENT is an unknown scheduler for a service and a missing backend for
a backend, so the operation is asked for too.
"""

from __future__ import annotations

import errno as numbers
from dataclasses import dataclass

from cluster.ipvs.plan import Operation
from cluster.ipvs.settings import SettingOperation

_OF_SERVICES = (Operation.ADD_SERVICE, Operation.SET_SERVICE)
_MISSING = "{subject} is not in the kernel any more: somebody removed it meanwhile."
_AGAIN = "Apply again; the director reads the kernel anew each time."


@dataclass(frozen=True, slots=True)
class Explanation:
    """Three parts of a message. `detail` is the errno's name, for a line in small print."""

    happened: str
    remedy: str
    detail: str


def explain(errno: int, operation: Operation | SettingOperation | None, *, subject: str) -> Explanation:
    """Say what the kernel meant by `errno`, as full sentences. `operation` is None for a read. `subject`
    names the thing, such as `backend 10.0.0.7:80 of TCP 192.0.2.1:80` or `the master sync daemon`."""
    happened, remedy = _of_operation(errno, operation) or _of_any(errno, operation)
    sentence = happened.format(subject=subject)
    return Explanation(sentence[0].upper() + sentence[1:], remedy, name_of(errno))


def name_of(errno: int) -> str:
    """`EEXIST (17)`."""
    return f"{numbers.errorcode.get(errno, 'errno')} ({errno})"


def means_table_moved(errno: int, operation: Operation) -> bool:
    """Whether the answer says that the kernel's table is not the one that was read: then reading again
    is the cure and nothing has failed."""
    if operation is Operation.ADD_SERVICE:
        return errno == numbers.EEXIST
    if operation in (Operation.SET_SERVICE, Operation.REMOVE_SERVICE):
        return errno == numbers.ESRCH
    return errno in (numbers.EEXIST, numbers.ENOENT, numbers.ESRCH)


def _of_operation(errno: int, operation: Operation | SettingOperation | None) -> tuple[str, str] | None:
    if operation is None:
        return None
    if isinstance(operation, SettingOperation):
        return _OF_SETTINGS.get((operation, errno))
    if errno == numbers.EEXIST:
        return "{subject} exists in the kernel already: somebody added it meanwhile.", _AGAIN
    if errno == numbers.ESRCH:
        if operation in _OF_SERVICES or operation is Operation.REMOVE_SERVICE:
            return _MISSING, _AGAIN
        return "{subject} has no service in the kernel any more: somebody removed the service.", _AGAIN
    if errno == numbers.ENOENT:
        return _no_entry(operation)
    if errno == numbers.EINVAL:
        return _invalid(operation)
    if errno == numbers.ERANGE:
        return (
            "The kernel refused {subject}: its weight is negative, or its lower threshold is above "
            "the upper one.",
            "Set the weight to 0 or more, and the upper threshold at least as high as the lower.",
        )
    return None


def _no_entry(operation: Operation) -> tuple[str, str]:
    if operation in _OF_SERVICES:
        return (
            "The kernel refused {subject}: it knows no such scheduler or persistence engine and could not "
            "load its module.",
            "Choose another scheduler, or load the module on the director's page.",
        )
    return _MISSING, _AGAIN


def _invalid(operation: Operation) -> tuple[str, str]:
    if operation in _OF_SERVICES:
        return (
            "The kernel refused {subject}: a setting is not valid.",
            "Check that the scheduler's name has at most 15 letters and that an IPv6 persistence prefix is "
            "1 to 128.",
        )
    return (
        "The kernel refused {subject}: its address or tunnel is not valid there.",
        "Use a unicast address that is not link-local; an address of the other family needs tunnelling "
        "and no running sync daemon; a GUE tunnel needs a port.",
    )


_OF_SETTINGS = {
    (SettingOperation.SET_TIMEOUTS, numbers.EINVAL): (
        "The kernel refused {subject}: one is negative or too long.",
        "Give whole seconds from 1 to 2147483 (24 days); 0 leaves a timeout as it is.",
    ),
    (SettingOperation.START_DAEMON, numbers.EEXIST): (
        "{subject} was not started: one of its role runs already, maybe on another interface.",
        "Stop that one first, or leave it if its interface, id and group are the wanted ones.",
    ),
    (SettingOperation.START_DAEMON, numbers.EINVAL): (
        "The kernel refused to start {subject}: its group is no multicast address, its interface's name is"
        " longer than 15 letters, or a backend has another address family than its service.",
        "Use a group such as 224.0.0.81 and an existing interface. Backends of the other family and sync"
        " daemons exclude each other: keep one of them.",
    ),
    (SettingOperation.START_DAEMON, numbers.ENODEV): (
        "The kernel refused to start {subject}: the network interface does not exist there.",
        "Name an interface that the director has.",
    ),
    (SettingOperation.START_DAEMON, numbers.ENETUNREACH): (
        "The kernel refused to start {subject}: its interface has no way to the multicast group.",
        "Set the interface up and give it an address of the group's family, or choose another interface.",
    ),
    (SettingOperation.STOP_DAEMON, numbers.ESRCH): (
        "{subject} was not stopped: it does not run.",
        "Nothing is left to do; the director's page shows what runs.",
    ),
    (SettingOperation.STOP_DAEMON, numbers.EINVAL): (
        "The kernel refused to stop {subject}: it is neither master nor backup.",
        "Say which of the two is to be stopped.",
    ),
    (SettingOperation.ZERO, numbers.ESRCH): (
        "The counters of {subject} were not set to zero: it is not in the kernel.",
        "Look at the director's table; somebody may have removed the service.",
    ),
}


def _of_any(errno: int, operation: Operation | SettingOperation | None) -> tuple[str, str]:
    what = "read" if operation is None else "change"
    known = {
        numbers.EPERM: (
            f"The kernel did not let the worker {what} {{subject}}: the process lacks CAP_NET_ADMIN.",
            "Start the worker by its systemd unit, which grants it; a rootless container cannot have it.",
        ),
        numbers.ENOENT: (
            "The kernel has no IPVS, so {subject} could not be reached: the module ip_vs is not loaded.",
            "Load it on the director's page, or run modprobe ip_vs there.",
        ),
        numbers.ESRCH: (_MISSING, _AGAIN),
        numbers.EEXIST: ("{subject} exists in the kernel already.", _AGAIN),
        numbers.ENOPROTOOPT: (
            "The kernel's IPVS is being unloaded or absent, so {subject} could not be handled.",
            "Load the module ip_vs on the director's page and apply again.",
        ),
        numbers.EAFNOSUPPORT: (
            "The kernel refused {subject}: it does not do IPVS for this address family.",
            "Enable IPv6 on the director, or use IPv4.",
        ),
        numbers.ENODEV: (
            "The kernel refused {subject}: the network interface does not exist there.",
            "Name an interface that the director has.",
        ),
        numbers.EOPNOTSUPP: (
            f"The kernel does not know this way to {what} {{subject}}.",
            "Update the director's kernel, or leave out the setting that needs a newer one.",
        ),
        numbers.EBUSY: (f"The kernel was busy and did not {what} {{subject}}.", _AGAIN),
        numbers.ENOMEM: (
            "The kernel had no memory left for {subject}.",
            "Free memory on the director and apply again.",
        ),
    }
    unknown = (
        f"The kernel refused to {what} {{subject}}, for a reason that is not known here.",
        "Look into the director's kernel log (dmesg) around this time.",
    )
    return known.get(errno, unknown)
