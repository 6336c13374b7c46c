"""A kernel that could not be talked to, for people: what happened, and what now."""

from __future__ import annotations

import errno as numbers

from cluster.director.kernel import (
    HalfRead,
    KernelError,
    KernelRefused,
    KernelUnavailable,
    NoAnswer,
    NotPermitted,
)
from cluster.ipvs.errors import Explanation, explain, name_of


def explained(error: KernelError, director: str) -> Explanation:
    """What it means that the kernel of `director` could not be talked to, and what to do about it."""
    match error:
        case KernelUnavailable():
            text = f"The kernel of {director} has no IPVS: the module ip_vs is not loaded."
            remedy = "Load it on the director's page, or run modprobe ip_vs there."
            return Explanation(text, remedy, name_of(numbers.ENOENT))
        case NotPermitted():
            text = f"IPVS of {director} may not be programmed by this process, which lacks CAP_NET_ADMIN."
            remedy = (
                "Start the worker by its systemd unit, which grants it, and a command as root; a rootless"
                " container cannot have it."
            )
            return Explanation(text, remedy, name_of(numbers.EPERM))
        case HalfRead():
            text = f"The table of {director} could not be read whole: {error}"
            remedy = f"Find out what else programs IPVS on {director}; then apply again."
            return Explanation(text, remedy, "half a table")
        case KernelRefused():
            return explain(error.errno, None, subject=f"the table of {director}")
        case NoAnswer():
            text = f"The kernel of {director} gave no answer in time."
            remedy = "Apply again: the director reads the kernel first and does what is left."
            return Explanation(text, remedy, "no answer")
        case _:
            text = f"{director} could not talk to its kernel. {error}"
            remedy = f"Look into the log of {director}, end what keeps too much open there, and apply again."
            return Explanation(text, remedy, "no conversation")
