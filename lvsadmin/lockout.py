"""When guessing passwords is stopped: django-axes counts, with a limit of its own for an address alone."""

from datetime import timedelta
from typing import Any

from axes.attempts import get_cool_off_threshold
from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import Sum
from django.http import HttpRequest
from django.utils import timezone

from cluster.models import AuditEntry

KNOWN_FOR = timedelta(days=30)


def _is_known_there(request: HttpRequest, credentials: dict[str, Any] | None) -> bool:
    """Whether somebody of this name has signed in from this address within KNOWN_FOR."""
    name, address = (credentials or {}).get("username"), request.axes_ip_address  # type: ignore[attr-defined]
    entries = AuditEntry.objects.filter(action="sign-in", actor=str(name or ""), address=str(address or ""))
    return entries.filter(at__gte=timezone.now() - KNOWN_FOR).exists()


class Lockout(AxesDatabaseHandler):  # type: ignore[misc]  # django-axes has no types
    """django-axes compares all that it counts with one limit. Here it counts the pair of user name and
    address, whose success also forgives its failures; this adds the address with whatever name."""

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """The failures of the pair; at least its limit once the address has had ADDRESS_FAILURE_LIMIT, but
        for whoever has signed in from there lately: a neighbour must not be able to lock them out."""
        pair = int(super().get_failures(request, credentials))
        # axes.middleware has put the address and the time there.
        recent = AccessAttempt.objects.filter(
            ip_address=request.axes_ip_address,  # type: ignore[attr-defined]
            attempt_time__gte=get_cool_off_threshold(request),
        )
        of_address = recent.aggregate(failures=Sum("failures_since_start"))["failures"] or 0
        if of_address < settings.ADDRESS_FAILURE_LIMIT or _is_known_there(request, credentials):
            return pair
        return max(pair, settings.AXES_FAILURE_LIMIT)
