"""How far a change is with its approvals: who edited the draft, who answered, what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q, QuerySet

from cluster import desired
from cluster.models import Answer, AuditEntry, ChangeRequest, Cluster, Rollout
from cluster.permissions import may_still

# Audit entries that tell of an edit of the draft. All verbs of services and backends do, but for one.
_EDITS = Q(action__startswith="service.") | Q(action__startswith="backend.") | Q(action__startswith="draft.")
_EDITS |= Q(action="cluster.switches")
_NO_EDITS = Q(action="service.try-check")


@dataclass(frozen=True)
class Approval:
    """How a request stands. `editors` may not approve it, nor may who asked; an approval of somebody who
    edited the draft afterwards counts no more, nor does that of the `barred`, who lost the right to approve
    there. `is_void`: the draft is another one now."""

    change: ChangeRequest
    needed: int
    answers: list[Answer]
    editors: frozenset[str]
    barred: frozenset[str]
    is_void: bool

    @property
    def counted(self) -> list[Answer]:
        out = self.editors | self.barred | {self.change.author_name}
        return [one for one in self.answers if one.is_approval and one.author_name not in out]

    @property
    def missing(self) -> int:
        """How many approvals it still needs."""
        return max(0, self.needed - len(self.counted))

    @property
    def is_approved(self) -> bool:
        return self.change.status == ChangeRequest.Status.OPEN and not self.is_void and not self.missing

    @property
    def status(self) -> str:
        """The one word for lists."""
        if self.change.status != ChangeRequest.Status.OPEN:
            return self.change.status
        if self.is_void:
            return "void"
        if not self.needed:
            return "not needed"
        return "waiting for approval" if self.missing else "approved"

    def why_not(self, name: str) -> str:
        """Why the person of this name may not approve it, in a sentence; empty where they may."""
        if self.change.status != ChangeRequest.Status.OPEN:
            return f"It is {self.change.status} already."
        if self.is_void:
            return "It is void: the draft was edited after it was asked for. Ask again for the draft of now."
        if name == self.change.author_name:
            return "You asked for it. Somebody else has to approve it."
        if name in self.editors:
            return "You edited this draft. Somebody who did not has to approve it."
        if any(answer.is_approval and answer.author_name == name for answer in self.answers):
            return "You have approved it already."
        return ""


def draft_edits(cluster: Cluster) -> QuerySet[AuditEntry]:
    """The edits of the draft since what is in force was taken from it, newest first. Drains and profiles are
    none, though they make revisions as well."""
    mine = AuditEntry.objects.filter(cluster_uuid=str(cluster.uuid))
    edits = mine.filter(_EDITS | Q(action="cluster.import"), result="done").exclude(_NO_EDITS)
    return edits.filter(sequence__gt=_taken_at(cluster, mine))


def _taken_at(cluster: Cluster, mine: QuerySet[AuditEntry]) -> int:
    """The entry up to which the edits are in force: of the newest apply that did not go back, or, where that
    was planned, of the planning, because it left out what was edited until it went out. 0 is before all."""
    gone = cluster.rollouts.filter(status=Rollout.Status.WENT_BACK).values_list("job_id", flat=True)
    applies = mine.filter(action="cluster.apply", result="done")
    applied = applies.exclude(object_kind="job", object_id__in=[str(pk) for pk in gone]).first()
    planned = (applied.after or {}).get("planned") if applied else None
    if planned is not None:
        applied = mine.filter(action="apply.plan", object_kind="plannedapply", object_id=str(planned)).first()
    return applied.sequence if applied else 0


def editors(cluster: Cluster) -> frozenset[str]:
    return frozenset(draft_edits(cluster).order_by().values_list("actor", flat=True).distinct())


def approval_of(change: ChangeRequest) -> Approval:
    """Read now; within a transaction that holds the cluster's lock it stays true until the end."""
    # Its own object, because a draft that was read before stays with the cluster it was read for.
    cluster = Cluster.objects.get(pk=change.cluster_id)
    is_open = change.status == ChangeRequest.Status.OPEN
    is_void = is_open and desired.draft_print(*desired.draft_said(cluster)) != change.draft_print
    known = editors(cluster) if is_open else frozenset()
    lost = barred(change) if is_open else frozenset()
    return Approval(change, cluster.approvals, list(change.answers.all()), known, lost, is_void)


def barred(change: ChangeRequest) -> frozenset[str]:
    """Who approved the change and may approve nothing in its cluster any more."""
    given = [answer for answer in change.answers.all() if answer.is_approval]
    return frozenset(
        one.author_name for one in given if not may_still(one.author_id, "approve", change.cluster_id)
    )


def barred_words(names: Iterable[str]) -> str:
    """That the approvals of these people do not count, a sentence for each."""
    return " ".join(
        f"{name} may no longer approve here, so that approval does not count." for name in sorted(names)
    )


def open_change(cluster: Cluster) -> ChangeRequest | None:
    """The request of the cluster that waits; there is one at most."""
    return cluster.change_requests.filter(status=ChangeRequest.Status.OPEN).first()


def changes_nothing(cluster: Cluster) -> bool:
    """The draft says what the newest revision says: to apply it again needs nobody's approval."""
    newest = cluster.revisions.first()
    return newest is not None and desired.draft_said(cluster) == desired.revision_said(newest)
