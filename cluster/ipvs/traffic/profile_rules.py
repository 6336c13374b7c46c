"""What makes a weight profile unusable. What is found here keeps it from being saved."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cluster.ipvs.rules import LARGEST_WEIGHT, Problem
from cluster.ipvs.traffic.effective import within
from cluster.ipvs.traffic.policy import Hours, Place, Profile

LONGEST_NAME: Final = 64
MOST_HOURS: Final = 20

_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def profile_problems(profile: Profile, known: Collection[Place]) -> Iterator[Problem]:
    """Problems of one profile by itself; `known` are the backends that it may name."""
    name = profile.name
    if not name or len(name) > LONGEST_NAME or name != name.strip() or not name.isprintable():
        text = f"Give a name of at most {LONGEST_NAME} characters that can be read, such as business hours."
        yield Problem("name", text)
    if not profile.weights:
        text = "Give at least one backend a weight; a profile that says nothing changes nothing."
        yield Problem("weights", text)
    for (service, backend), weight in profile.weights.items():
        if (service, backend) not in known:
            text = f"{service} has no backend {backend}, neither on the directors nor in the draft."
            yield Problem("weights", f"{text} Leave its weight empty.")
        elif not 0 <= weight <= LARGEST_WEIGHT:
            text = f"The weight of {backend} in {service} must be between 0 and {LARGEST_WEIGHT}."
            yield Problem("weights", text)
    if len(profile.hours) > MOST_HOURS:
        yield Problem("hours", f"A profile has at most {MOST_HOURS} hours. Make a second profile.")
    for hours in profile.hours:
        yield from hours_problems(hours)


def hours_problems(hours: Hours) -> Iterator[Problem]:
    """What is wrong with one row of hours."""
    if not hours.days or not all(0 <= day <= 6 for day in hours.days):
        yield Problem("days", "Choose at least one day.")
    for field, clock in (("begins", hours.begins), ("ends", hours.ends)):
        if not _CLOCK.fullmatch(clock):
            yield Problem(field, "Write the time as 08:00, between 00:00 and 23:59.")
    if not is_zone(hours.zone):
        shown = hours.zone if len(hours.zone) <= 64 else hours.zone[:60] + "…"
        text = f"“{shown}” is no time zone that this machine knows. Write it like Europe/Berlin or UTC."
        yield Problem("zone", text)


def is_zone(name: str) -> bool:
    """Whether a zone has this name; paths and files that are no zones have none."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return bool(name)


def overlapping(one: Profile, other: Profile, *, now: float) -> bool:
    """Whether there is a moment within a year in which both are in their hours. All hours are sound."""
    return _begins_within(one, other, now) or _begins_within(other, one, now)


def _begins_within(one: Profile, other: Profile, now: float) -> bool:
    """Two times overlap exactly where one of them begins in the other."""
    return any(
        any(within(hours, moment) for hours in other.hours)
        for mine in one.hours
        for moment in _beginnings(mine, now)
    )


def _beginnings(hours: Hours, now: float) -> Iterator[float]:
    """When the hours begin, for a year: zones differ by another hour in summer than in winter."""
    hour, minute = map(int, hours.begins.split(":"))
    if hours.begins == hours.ends:
        hour = minute = 0
    first = datetime.fromtimestamp(now, ZoneInfo(hours.zone))
    first = first.replace(hour=hour, minute=minute, second=0, microsecond=0)
    for number in range(366):
        day = first + timedelta(days=number)
        # A time that the clock jumps over in spring is not within the hours that begin then.
        if day.weekday() in hours.days and within(hours, day.timestamp()):
            yield day.timestamp()
