"""Ask that a reviewed draft may be applied; approve, refuse, withdraw. Nothing reaches a director here."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from cluster import audit, desired
from cluster.actions.problems import Rejected, lock_cluster, require_reason
from cluster.approval import Approval, approval_of, barred, barred_words, changes_nothing, open_change
from cluster.audit import Actor
from cluster.ipvs.formats.document import to_document
from cluster.ipvs.rules import Problem, table_problems
from cluster.ipvs.state import Table
from cluster.ipvs.traffic import document as traffic_document
from cluster.ipvs.traffic.policy import Traffic
from cluster.ipvs.traffic.rules import traffic_problems
from cluster.models import Answer, ChangeRequest, Cluster, Revision


def reviewed_draft(cluster: Cluster, *, seen: str) -> tuple[Table, Traffic]:
    """The draft of a locked cluster, with the drains and profiles of now. Rejected where it is another one
    than was `seen`, and where it breaks a rule."""
    table, traffic = desired.draft_table(cluster), desired.draft_traffic(cluster)
    if desired.draft_print(table, traffic.policies, traffic.switches) != seen:
        text = "The draft has changed since you opened this review. Look at it again before you apply."
        raise Rejected(Problem("", text))
    if problems := [*table_problems(table), *traffic_problems(table, traffic)]:
        raise Rejected(*(Problem("", f"{key}: {problem.text}") for key, problem in problems))
    return table, traffic


def require_approval(cluster: Cluster) -> Approval | None:
    """The approved request for the draft of a locked cluster. None where the cluster asks for no approval, or
    the draft changes nothing. Rejected, with what is missing, where it may not be applied."""
    if not cluster.approvals or changes_nothing(cluster):
        return None
    change = open_change(cluster)
    if change is None:
        text = (
            f"A change of {cluster} needs {_people(cluster.approvals)} to approve it. Ask for approval first."
        )
        raise Rejected(Problem("", text))
    approval = approval_of(change)
    if approval.is_void:
        text = f"Change request {change.pk} is void: the draft was edited after it. Ask for approval again."
        raise Rejected(Problem("", text))
    if approval.missing:
        text = f"Change request {change.pk} still needs {_people(approval.missing)} to approve it."
        raise Rejected(Problem("", f"{barred_words(approval.barred)} {text}".strip()))
    return approval


def shortfall(cluster: Cluster, *, request: int | None, approved_by: list[str]) -> str:
    """What approvals that were given before lack now, in a sentence; empty where they are enough. Within the
    caller's transaction, with the cluster locked."""
    change = ChangeRequest.objects.filter(pk=request).first() if request else None
    lost = barred(change).intersection(approved_by) if change else frozenset()
    missing = cluster.approvals - len(set(approved_by) - lost)
    if missing <= 0:
        return ""
    text = f"It needs {_people(missing)} to approve it. Ask for that, and plan it again."
    return f"{barred_words(lost)} {text}".strip()


@transaction.atomic
def ask(cluster: Cluster, *, seen: str, reason: str, ticket: str, by: Actor) -> ChangeRequest:
    """Ask that the draft with the print `seen` may be applied; an older request that is void ends with this.
    Rejected where apply would be for the draft's sake, where nobody has to approve it, and where the same is
    asked for already."""
    cluster = lock_cluster(cluster)
    require_reason(reason)
    table, traffic = reviewed_draft(cluster, seen=seen)
    if not cluster.approvals or changes_nothing(cluster):
        raise Rejected(Problem("", "Nobody has to approve this. Apply it."))
    older = open_change(cluster)
    if older is not None and older.draft_print == seen:
        text = f"{older.author_name} asks for just this already, in change request {older.pk}."
        raise Rejected(Problem("", text))
    if older is not None:
        _close(older, ChangeRequest.Status.SUPERSEDED, by)
    newest = cluster.revisions.only("number").first()
    change = ChangeRequest.objects.create(
        cluster=cluster,
        draft_print=seen,
        table=to_document(table),
        traffic=traffic_document.to_document(Traffic(traffic.policies, switches=traffic.switches)),
        base=newest.number if newest else 0,
        author_id=by.user_id,
        author_name=by.name,
        reason=reason,
        ticket=ticket,
    )
    after = {"request": change.pk, "print": seen, "needed": cluster.approvals, "ticket": ticket}
    if older is not None:
        after["supersedes"] = older.pk
    audit.record("change.ask", change, by=by, cluster=cluster, after=after, reason=reason)
    return change


@transaction.atomic
def approve(change: ChangeRequest, *, sentence: str, by: Actor) -> Approval:
    """Say yes to the draft of the request. Rejected where it is void or over, and for whoever edited the
    draft, asked, or has answered already."""
    cluster = lock_cluster(change.cluster)
    change.refresh_from_db()
    if problem := approval_of(change).why_not(by.name):
        raise Rejected(Problem("", problem))
    _answer(change, is_approval=True, sentence=sentence, by=by)
    approval = approval_of(change)
    after = {"request": change.pk, "print": change.draft_print, "missing": approval.missing}
    audit.record("change.approve", change, by=by, cluster=cluster, after=after, reason=sentence)
    return approval


@transaction.atomic
def refuse(change: ChangeRequest, *, sentence: str, by: Actor) -> None:
    """Say no, which ends the request; the draft stays. Rejected where it is over already."""
    cluster = lock_cluster(change.cluster)
    _require_open(change)
    _answer(change, is_approval=False, sentence=sentence, by=by)
    _close(change, ChangeRequest.Status.REFUSED, by)
    after = {"request": change.pk, "print": change.draft_print}
    audit.record("change.refuse", change, by=by, cluster=cluster, after=after, reason=sentence)


@transaction.atomic
def withdraw(change: ChangeRequest, *, by: Actor) -> None:
    """End a request without an answer; the draft stays. Rejected where it is over already."""
    cluster = lock_cluster(change.cluster)
    _require_open(change)
    _close(change, ChangeRequest.Status.WITHDRAWN, by)
    audit.record("change.withdraw", change, by=by, cluster=cluster, after={"request": change.pk})


def close_applied(
    cluster: Cluster, approved: ChangeRequest | None, revision: Revision, *, by: Actor, also_others: bool
) -> None:
    """Within an apply: the approved request became this revision. Where it was the draft of now that was
    applied, any other is about a former one."""
    for change in cluster.change_requests.filter(status=ChangeRequest.Status.OPEN):
        if change == approved:
            change.revision = revision
            _close(change, ChangeRequest.Status.APPLIED, by)
        elif also_others:
            _close(change, ChangeRequest.Status.SUPERSEDED, by)


def _require_open(change: ChangeRequest) -> None:
    change.refresh_from_db()
    if change.status != ChangeRequest.Status.OPEN:
        who = f" by {change.closed_by}" if change.closed_by else ""
        raise Rejected(Problem("", f"Change request {change.pk} is {change.status} already{who}."))


def _answer(change: ChangeRequest, *, is_approval: bool, sentence: str, by: Actor) -> None:
    if not sentence.strip():
        raise Rejected(Problem("sentence", "Say in a sentence what you looked at, or what is wrong."))
    Answer.objects.create(
        change=change, author_id=by.user_id, author_name=by.name, is_approval=is_approval, sentence=sentence
    )


def _close(change: ChangeRequest, status: ChangeRequest.Status, by: Actor) -> None:
    change.status, change.closed_at, change.closed_by = status, timezone.now(), by.name
    change.save()


def _people(count: int) -> str:
    return "one other person" if count == 1 else f"{count} other people"
