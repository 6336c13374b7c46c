"""What a page showed of a thing that it asks to remove, or to take over, and what became of that since."""

from __future__ import annotations

import hashlib

from django.db.models import Q

from cluster.ipvs.formats.document import canonical_json
from cluster.models import AuditEntry, AuditHead, Backend, VirtualService, WeightProfile

Row = VirtualService | Backend | WeightProfile
# Of more edits than this the page says who made the newest ones.
MOST_SINCE = 50
MOST_WALKED = 20_000


def mark_of(row: Row | None) -> str:
    """What the page of a row carries: how far the audit log was, and the print of what it shows; None for a
    row that is not there."""
    head = AuditHead.objects.values_list("sequence", flat=True).get(pk=1)
    return f"{head}.{print_of(row)}"


def print_of(row: Row | None, *, with_backends: bool = True) -> str:
    """Differs whenever somebody has saved the row. A service's covers its backends, which are removed with
    it, and a profile's whether it is in use by hand."""
    said: list[object] = [row.pk, row.version] if row is not None else []
    if isinstance(row, VirtualService) and with_backends:
        said += sorted((one.pk, one.version) for one in row.backends.all())
    elif isinstance(row, WeightProfile):
        said.append(row.pinned)
    return hashlib.sha256(canonical_json(said)).hexdigest()


def is_as_seen(row: Row | None, mark: str) -> bool:
    """Whether the row is what the page with this mark showed. A page without one showed nothing."""
    return mark.partition(".")[2] == print_of(row)


def since(row: Row, mark: str) -> list[AuditEntry]:
    """What was done to the row after the page with this mark was made, newest first; to a service's backends
    too."""
    sequence = mark.partition(".")[0]
    if not sequence.isdecimal() or len(sequence) > 17:
        return []
    cluster = row.service.cluster if isinstance(row, Backend) else row.cluster
    kind = {VirtualService: "service", Backend: "backend", WeightProfile: "profile"}[type(row)]
    about = Q(object_kind=kind, object_id=str(row.pk))
    if isinstance(row, VirtualService):
        about |= Q(object_kind="backend", target__endswith=f" of {row}")
    elif isinstance(row, WeightProfile):
        # Who uses another one by hand ends the use of this.
        about |= Q(action="profile.use")
    newest = AuditHead.objects.values_list("sequence", flat=True).get(pk=1)
    # A page that was open for longer says who made the newest.
    begin = max(int(sequence), newest - MOST_WALKED)
    later = AuditEntry.objects.filter(cluster_uuid=str(cluster.uuid), sequence__gt=begin, result="done")
    return list(later.filter(about)[:MOST_SINCE])
