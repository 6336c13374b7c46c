"""Changes that somebody else has to approve: who may, what makes a request void, and what then applies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from cluster.actions import approvals, backends, changes, clusters, services
from cluster.actions.problems import Rejected
from cluster.approval import approval_of, editors
from cluster.audit import Actor
from cluster.desired import draft_print, draft_said
from cluster.models import (
    AuditEntry,
    Backend,
    ChangeRequest,
    Cluster,
    Director,
    Job,
    Revision,
    Role,
    RoleBinding,
    Rollout,
)
from tests.panel.conftest import ANN, apply_draft, approver, person, remove, text_of

OTTO, OLGA, PAUL = Actor("otto"), Actor("olga"), Actor("paul")


def print_of(cluster: Cluster) -> str:
    return draft_print(*draft_said(Cluster.objects.get(pk=cluster.pk)))


def ask(cluster: Cluster, *, by: Actor = ANN, ticket: str = "") -> ChangeRequest:
    return approvals.ask(cluster, seen=print_of(cluster), reason="peak", ticket=ticket, by=by)


@pytest.fixture
def strict(web: Cluster, backend: Backend, director: Director) -> Cluster:
    """web, where one other person has to approve; ann made its draft."""
    Cluster.objects.filter(pk=web.pk).update(approvals=1)
    web.refresh_from_db()
    return web


def test_without_an_approval_nothing_is_applied(strict: Cluster) -> None:
    with pytest.raises(Rejected, match="needs one other person to approve it. Ask for approval first"):
        apply_draft(strict)
    ask(strict)
    with pytest.raises(Rejected, match="still needs one other person"):
        apply_draft(strict)
    assert not Job.objects.exists() and not Revision.objects.exists()


def test_an_approved_change_is_applied_with_the_reason_it_was_approved_with(strict: Cluster) -> None:
    change = ask(strict, ticket="NET-7")
    approvals.approve(change, sentence="weights are right", by=approver("olga"))
    job = apply_draft(strict, reason="another reason")
    change.refresh_from_db()
    revision = Revision.objects.get()
    assert (change.status, change.revision) == ("applied", revision)
    assert (job.reason, revision.reason, revision.ticket) == ("peak", "peak", "NET-7")
    entry = AuditEntry.objects.first()
    assert entry and entry.action == "cluster.apply" and entry.reason == "peak"
    assert entry.after and (entry.after["approved_by"], entry.after["ticket"]) == (["olga"], "NET-7")


@pytest.mark.parametrize("who, says", [(ANN, "You asked for it"), (OTTO, "You edited this draft")])
def test_nobody_approves_what_they_asked_for_or_edited(strict: Cluster, who: Actor, says: str) -> None:
    backends.set_weight(Backend.objects.get(), seen_version=1, weight=7, by=OTTO)
    change = ask(strict)
    with pytest.raises(Rejected, match=says):
        approvals.approve(change, sentence="fine", by=who)
    assert approval_of(change).missing == 1


def test_who_tries_to_approve_their_own_is_written_down(strict: Cluster) -> None:
    mia = person("mia", Role.APPROVER)
    change = ask(strict, by=Actor("mia"))
    page = text_of(mia.post(reverse("change-answer", args=[change.pk]), {"sentence": "fine"}))
    assert "You asked for it" in page
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.actor, entry.result) == ("change.approve", "mia", "refused")
    assert "You asked for it" in entry.reason and entry.role == "approver"
    assert not change.answers.exists()


def test_who_removed_something_is_an_editor_too(strict: Cluster) -> None:
    apply_with(strict, approver("olga"))
    remove(Backend.objects.get(), by=OTTO)
    assert editors(strict) == {"otto"}


def test_an_edit_makes_the_request_and_its_approvals_void(strict: Cluster) -> None:
    change = ask(strict)
    approvals.approve(change, sentence="fine", by=approver("olga"))
    backends.set_weight(Backend.objects.get(), seen_version=1, weight=7, by=OTTO)
    assert approval_of(change).status == "void"
    with pytest.raises(Rejected, match="is void: the draft was edited after it"):
        apply_draft(strict)
    with pytest.raises(Rejected, match="It is void"):
        approvals.approve(change, sentence="fine", by=approver("paul"))
    newer = ask(strict)
    change.refresh_from_db()
    assert change.status == "superseded" and approval_of(newer).missing == 1


def test_an_approval_of_somebody_who_edits_afterwards_counts_no_more(strict: Cluster) -> None:
    """Also where the draft then says the same again."""
    change = ask(strict)
    approvals.approve(change, sentence="fine", by=approver("olga"))
    for version, weight in ((1, 7), (2, 1)):
        backends.set_weight(Backend.objects.get(), seen_version=version, weight=weight, by=OLGA)
    approval = approval_of(change)
    assert not approval.is_void and approval.missing == 1
    with pytest.raises(Rejected, match="still needs one other person"):
        apply_draft(strict)


def close_account(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def take_role(user: User) -> None:
    user.role_bindings.all().delete()


def move_role_elsewhere(user: User) -> None:
    user.role_bindings.update(cluster=clusters.create_cluster(name="elsewhere", description="", by=ANN))


def remove_person(user: User) -> None:
    user.delete()


@pytest.mark.parametrize("lose", [close_account, take_role, move_role_elsewhere, remove_person])
def test_an_approval_counts_only_while_its_approver_may_approve(
    strict: Cluster, ann: Client, lose: Callable[[User], None]
) -> None:
    change = ask(strict)
    approvals.approve(change, sentence="fine", by=approver("olga"))
    assert approval_of(change).is_approved
    lose(User.objects.get(username="olga"))
    assert approval_of(change).missing == 1
    sentence = "olga may no longer approve here, so that approval does not count. Change request"
    with pytest.raises(Rejected, match=f"{sentence} {change.pk} still needs one other person to approve it"):
        apply_draft(strict)
    with pytest.raises(Rejected, match="olga may no longer approve here"):
        seen, how = print_of(strict), changes.How(first="director1")
        changes.apply(strict, seen=seen, reason="x", how=how, by=ANN)
    assert not Revision.objects.exists() and not Job.objects.exists() and not Rollout.objects.exists()
    page = text_of(ann.get(reverse("change-detail", args=[change.pk])))
    assert "olga may no longer approve here, so this does not count." in page and "0 of 1" in page
    approvals.approve(change, sentence="fine", by=approver("paul"))
    assert apply_draft(strict).revision
    entry = AuditEntry.objects.filter(action="cluster.apply").first()
    assert entry and entry.after and entry.after["approved_by"] == ["paul"]
    assert "may no longer" not in text_of(ann.get(reverse("change-detail", args=[change.pk])))


def test_an_approval_by_a_group_ends_with_the_membership_and_comes_back_with_it(strict: Cluster) -> None:
    olga, night = User.objects.create_user("olga"), Group.objects.create(name="night")
    RoleBinding.objects.create(group=night, role=Role.APPROVER, cluster=strict)
    olga.groups.add(night)
    change = ask(strict)
    approvals.approve(change, sentence="fine", by=Actor("olga", user_id=olga.pk))
    assert approval_of(change).is_approved
    olga.groups.remove(night)
    assert approval_of(change).status == "waiting for approval"
    with pytest.raises(Rejected, match="olga may no longer approve here"):
        apply_draft(strict)
    olga.groups.add(night)
    assert apply_draft(strict).revision


def test_two_have_to_be_two(strict: Cluster) -> None:
    Cluster.objects.update(approvals=2)
    change = ask(strict)
    assert approvals.approve(change, sentence="fine", by=approver("olga")).missing == 1
    with pytest.raises(Rejected, match="You have approved it already"):
        approvals.approve(change, sentence="fine", by=approver("olga"))
    with pytest.raises(Rejected, match="still needs one other person"):
        apply_draft(strict)
    assert not approvals.approve(change, sentence="fine", by=approver("paul")).missing
    assert apply_draft(strict).revision


def test_a_refusal_ends_the_request_and_says_why(strict: Cluster) -> None:
    change = ask(strict)
    approvals.approve(change, sentence="fine", by=approver("olga"))
    approvals.refuse(change, sentence="wait for the release", by=OLGA)
    with pytest.raises(Rejected, match="Ask for approval first"):
        apply_draft(strict)
    with pytest.raises(Rejected, match="is refused already by olga"):
        approvals.withdraw(change, by=ANN)
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.reason) == ("change.refuse", "wait for the release")


def test_an_answer_needs_a_sentence_and_a_request_a_reason(strict: Cluster) -> None:
    with pytest.raises(Rejected, match="Say why"):
        approvals.ask(strict, seen=print_of(strict), reason=" ", ticket="", by=ANN)
    change = ask(strict)
    for answer in (approvals.approve, approvals.refuse):
        with pytest.raises(Rejected, match="Say in a sentence"):
            answer(change, sentence=" ", by=OLGA)


def test_one_request_is_open_at_a_time(strict: Cluster) -> None:
    change = ask(strict)
    with pytest.raises(Rejected, match=f"asks for just this already, in change request {change.pk}"):
        ask(strict, by=OTTO)
    approvals.withdraw(change, by=ANN)
    assert ask(strict, by=OTTO).author_name == "otto"


def test_an_old_approval_does_not_come_back_with_an_old_draft(strict: Cluster) -> None:
    """The draft was approved, another was applied without approvals, and then the old one comes back."""
    change = ask(strict)
    approvals.approve(change, sentence="fine", by=approver("olga"))
    backends.set_weight(Backend.objects.get(), seen_version=1, weight=7, by=OTTO)
    settings = {"name": "web", "description": ""}
    clusters.edit_cluster(strict, **settings, approvals=0, seen_version=1, reason="fire", by=ANN)
    apply_draft(strict)
    strict.refresh_from_db()
    clusters.edit_cluster(strict, **settings, approvals=1, seen_version=2, by=ANN)
    backends.set_weight(Backend.objects.get(), seen_version=2, weight=1, by=OTTO)
    with pytest.raises(Rejected, match="Ask for approval first"):
        apply_draft(strict)


def test_in_an_emergency_an_administrator_changes_the_policy_which_is_written_down(strict: Cluster) -> None:
    lower = partial(clusters.edit_cluster, strict, name="web", description="", approvals=0, seen_version=1)
    with pytest.raises(Rejected, match="Say why fewer people than before") as rejected:
        lower(reason=" ", by=ANN)
    assert rejected.value.problems[0].field == "reason"
    lower(reason="the site is down", by=ANN)
    entry = AuditEntry.objects.first()
    assert entry and entry.before and entry.after
    assert (entry.action, entry.before["approvals"], entry.after["approvals"]) == ("cluster.edit", 1, 0)
    assert entry.reason == "the site is down"
    assert apply_draft(strict).revision


def test_what_is_on_the_directors_already_is_applied_again_without_approval(strict: Cluster) -> None:
    apply_with(strict, approver("olga"))
    assert apply_draft(strict, reason="after drift", by=OTTO).revision == Revision.objects.get()
    with pytest.raises(Rejected, match="Nobody has to approve this"):
        ask(strict)


def test_an_apply_needs_a_reason(web: Cluster, backend: Backend, director: Director) -> None:
    with pytest.raises(Rejected, match="Say why") as rejected:
        apply_draft(web, reason="  ")
    assert rejected.value.problems[0].field == "reason" and not Revision.objects.exists()


def test_drains_and_profiles_are_no_edits(strict: Cluster) -> None:
    apply_with(strict, approver("olga"))
    changes.carry_out(strict, reason="profile", by=PAUL)
    assert editors(strict) == frozenset()
    services.add_service(strict, services.ServiceFields("tcp", "192.0.2.9", 80), by=PAUL)
    assert editors(strict) == {"paul"}


def apply_with(cluster: Cluster, approver: Actor) -> None:
    approvals.approve(ask(cluster), sentence="fine", by=approver)
    apply_draft(cluster)


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────


def test_lowering_the_approvals_without_a_reason_keeps_the_form(strict: Cluster, ann: Client) -> None:
    url = reverse("cluster-edit", args=[strict.pk])
    said = {"name": "web", "description": "typed", "approvals": "0", "version": "1"}
    page = ann.post(url, said).content.decode()
    assert "Say why fewer people than before" in page and 'value="typed"' in page
    assert ann.post(url, said | {"reason": "fire"}).status_code == 302
    assert not Cluster.objects.get().approvals


def test_the_review_asks_and_then_applies(strict: Cluster, otto: Client) -> None:
    url = reverse("cluster-review", args=[strict.pk])
    page = text_of(otto.get(url))
    assert "One other person has to approve this." in page and "Ask for approval" in page
    said = {"seen": print_of(strict), "reason": "peak", "ticket": "NET-7"}
    response = otto.post(url, said | {"ask": "1"})
    change = ChangeRequest.objects.get()
    assert response["Location"] == reverse("change-detail", args=[change.pk])
    assert "One approval is missing." in text_of(otto.get(url))
    olga = person("olga", Role.APPROVER)
    answer = reverse("change-answer", args=[change.pk])
    assert "Say in a sentence" in text_of(olga.post(answer, {}))
    assert "It can be applied now." in text_of(olga.post(answer, {"sentence": "fine"}, follow=True))
    page = text_of(otto.get(url))
    assert "Approved." in page and "Apply to 1 director" in page
    assert otto.post(url, said).status_code == 302
    assert Revision.objects.get().ticket == "NET-7"


def test_a_review_without_a_reason_keeps_what_was_typed(
    otto: Client, backend: Backend, director: Director
) -> None:
    url = reverse("cluster-review", args=[director.cluster_id])
    page = otto.post(url, {"seen": print_of(backend.service.cluster), "ticket": "NET-7"}).content.decode()
    assert "Say why, in a few words." in page and 'value="NET-7"' in page and not Job.objects.exists()


def test_the_request_says_what_it_changes_and_why_one_may_not_approve(strict: Cluster, ann: Client) -> None:
    change = ask(strict, ticket="NET-7")
    page = text_of(ann.get(reverse("change-detail", args=[change.pk])))
    assert 'New service <span class="mono">TCP 192.168.50.10:80</span>' in page
    assert "You asked for it. Somebody else has to approve it." in page
    response = ann.post(reverse("change-answer", args=[change.pk]), {"sentence": "fine"})
    assert "You asked for it." in text_of(response) and not change.answers.exists()


def test_what_was_refused_can_still_be_looked_at(strict: Cluster, ann: Client) -> None:
    apply_with(strict, approver("olga"))
    backends.set_weight(Backend.objects.get(), seen_version=1, weight=7, by=OTTO)
    change = ask(strict)
    approvals.refuse(change, sentence="wait for the release", by=OLGA)
    backends.set_weight(Backend.objects.get(), seen_version=2, weight=9, by=OTTO)
    page = text_of(ann.get(reverse("change-detail", args=[change.pk])))
    assert "weight: 1 &rarr; 7" in page and "against revision 1" in page and "wait for the release" in page


def test_a_request_whose_cluster_asks_for_nobody_any_more_is_not_called_approved(
    strict: Cluster, ann: Client
) -> None:
    change = ask(strict)
    Cluster.objects.update(approvals=0)
    assert approval_of(change).status == "not needed"
    assert "approval no longer needed" in text_of(ann.get(reverse("change-list")))


def test_the_navigation_counts_what_waits_for_oneself(strict: Cluster, ann: Client, mallory: Client) -> None:
    ask(strict)
    olga = person("olga", Role.APPROVER)
    count = '<span class="side-count">1</span>'
    assert count in olga.get("/changes/").content.decode()
    for client in (ann, mallory, person("vito", Role.VIEWER)):
        assert count not in client.get("/changes/").content.decode()
    assert "web" not in text_of(mallory.get("/changes/"))


def test_a_ticket_is_linked_where_the_cluster_says_how(strict: Cluster, ann: Client) -> None:
    url = reverse("cluster-edit", args=[strict.pk])
    said = {"name": "web", "approvals": "1", "version": "1"}
    page = text_of(ann.post(url, said | {"ticket_url": "javascript:alert({ticket})"}))
    assert "Begin with https:// and a host" in page
    ann.post(url, said | {"ticket_url": "https://tickets.example.net/browse/{ticket}"})
    change = ask(strict, ticket="NET 7/<b>")
    page = ann.get(reverse("change-detail", args=[change.pk])).content.decode()
    assert 'href="https://tickets.example.net/browse/NET%207%2F%3Cb%3E"' in page
