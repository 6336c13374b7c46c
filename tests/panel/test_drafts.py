"""The draft beside the newest revision: who changed what; one object, all of it, or an old revision back."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from cluster import desired
from cluster.actions import approvals, backends, clusters, drafts, imports, policies, services
from cluster.actions.problems import Rejected
from cluster.approval import approval_of, changes_nothing
from cluster.audit import Actor
from cluster.draft import draft_changes
from cluster.ipvs.state import Protocol, Service, ServiceKey, Table
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.policy import Policy
from cluster.models import AuditEntry, Backend, Cluster, Job, Revision, VirtualService
from tests.panel.conftest import ANN, apply_draft, remove, text_of
from tests.panel.test_approvals import print_of

OTTO, OLGA = Actor("otto"), Actor("olga")
SHOP = "TCP 192.168.50.10:80"
ONE = f"192.168.50.11:80 of {SHOP}"


def fresh(cluster: Cluster) -> Cluster:
    return Cluster.objects.get(pk=cluster.pk)


def discard(cluster: Cluster, item: str, by: Actor = OLGA) -> None:
    drafts.discard(cluster, item=item, seen=print_of(cluster), by=by)


def ids(cluster: Cluster) -> list[str]:
    return [change.difference.id for change in draft_changes(fresh(cluster))]


@pytest.fixture
def applied(web: Cluster, backend: Backend, job: Job) -> Cluster:
    """Revision 1 is the service shop with one backend."""
    return web


def test_each_object_says_who_changed_it_since_the_last_apply(applied: Cluster, backend: Backend) -> None:
    backends.set_weight(backend, seen_version=1, weight=7, by=OTTO)
    backends.set_weight(backend, seen_version=2, weight=8, by=OLGA)
    services.add_service(applied, services.ServiceFields("udp", "192.0.2.9", 53), by=OTTO)
    policies.set_policy(
        VirtualService.objects.get(protocol="tcp"),
        Policy(Check(CheckKind.TCP)),
        seen_version=1,
        is_administrator=True,
        by=ANN,
    )
    told = {
        change.difference.id: [edit.actor for edit in change.edits]
        for change in draft_changes(fresh(applied))
    }
    assert told == {
        f"backend {ONE}": ["olga", "otto"],
        f"policy {SHOP}": ["ann"],
        "service UDP 192.0.2.9:53": ["otto"],
    }
    apply_draft(applied)
    assert draft_changes(fresh(applied)) == []


def test_a_removed_service_comes_back_whole_and_with_its_names(applied: Cluster, backend: Backend) -> None:
    named = backends.BackendFields("192.168.50.11", 80, name="real1")
    backends.edit_backend(backend, named, seen_version=1, by=ANN)
    service = VirtualService.objects.get()
    policies.set_policy(service, Policy(ramp_s=9), seen_version=1, is_administrator=True, by=ANN)
    policies.set_override(
        Backend.objects.get(), Check(CheckKind.PING), seen_version=2, is_administrator=True, by=ANN
    )
    apply_draft(applied)
    remove(VirtualService.objects.get(), by=OTTO)
    assert ids(applied) == [f"service {SHOP}", f"policy {SHOP}"]
    discard(applied, f"service {SHOP}")
    assert changes_nothing(fresh(applied)) and ids(applied) == []
    row = VirtualService.objects.get()
    assert (row.name, row.backends.get().name) == ("shop", "real1")
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.target, entry.actor) == ("draft.discard", SHOP, "olga")


def test_one_object_goes_back_and_the_others_stay(applied: Cluster, backend: Backend) -> None:
    second = services.add_service(applied, services.ServiceFields("udp", "192.0.2.9", 53), by=OTTO)
    backends.set_weight(backend, seen_version=1, weight=7, by=OTTO)
    discard(applied, f"backend {ONE}")
    row = Backend.objects.get()
    assert (row.weight, row.pk, row.version, row.changed_by) == (1, backend.pk, 3, "olga")
    assert ids(applied) == ["service UDP 192.0.2.9:53"]
    discard(applied, "service UDP 192.0.2.9:53")
    assert not VirtualService.objects.filter(pk=second.pk).exists() and ids(applied) == []
    entry = AuditEntry.objects.filter(action="draft.discard").last()
    assert entry and entry.before and entry.after
    assert (entry.before["weight"], entry.after["weight"]) == ("7", "1")


def test_a_policy_goes_back_without_the_table(applied: Cluster, backend: Backend) -> None:
    policies.set_policy(
        VirtualService.objects.get(), Policy(ramp_s=9), seen_version=1, is_administrator=True, by=ANN
    )
    backends.set_weight(backend, seen_version=1, weight=7, by=OTTO)
    discard(applied, f"policy {SHOP}")
    entry = AuditEntry.objects.first()
    assert entry and (entry.object_kind, entry.object_id) == ("service", str(backend.service_id))
    assert ids(applied) == [f"backend {ONE}"]
    assert desired.policy_value(VirtualService.objects.get()) == Policy()


def test_what_cannot_go_back_alone_says_what_has_to_go_first(applied: Cluster, backend: Backend) -> None:
    policies.set_override(backend, Check(CheckKind.PING), seen_version=1, is_administrator=True, by=ANN)
    apply_draft(applied)
    remove(Backend.objects.get(), by=OTTO)
    before = AuditEntry.objects.count()
    with pytest.raises(Rejected, match="Take back the backends of this service first"):
        discard(applied, f"policy {SHOP}")
    assert AuditEntry.objects.count() == before
    discard(applied, f"backend {ONE}")
    discard(applied, f"policy {SHOP}")
    assert changes_nothing(fresh(applied))


def test_nothing_is_discarded_that_was_not_looked_at(applied: Cluster, backend: Backend) -> None:
    backends.set_weight(backend, seen_version=1, weight=7, by=OTTO)
    seen = print_of(applied)
    backends.set_weight(backend, seen_version=2, weight=8, by=ANN)
    for act in (
        lambda: drafts.discard(applied, item=f"backend {ONE}", seen=seen, by=OLGA),
        lambda: drafts.discard_all(applied, seen=seen, by=OLGA),
        lambda: drafts.roll_back(applied, Revision.objects.get(), seen=seen, by=OLGA),
    ):
        with pytest.raises(Rejected, match="The draft has changed since you opened this page"):
            act()
    with pytest.raises(Rejected, match="does not differ there any more"):
        discard(applied, "backend nowhere")
    assert Backend.objects.get().weight == 8


def test_all_of_it_goes_back(applied: Cluster, backend: Backend) -> None:
    services.add_service(applied, services.ServiceFields("udp", "192.0.2.9", 53), by=OTTO)
    backends.set_weight(backend, seen_version=1, weight=7, by=OTTO)
    drafts.discard_all(applied, seen=print_of(applied), by=OLGA)
    assert changes_nothing(fresh(applied))
    entry = AuditEntry.objects.first()
    assert entry and entry.before and entry.action == "draft.discard-all"
    assert "-A -u 192.0.2.9:53 -s rr" in entry.before["table"]


def test_a_draft_that_was_never_applied_goes_back_to_nothing(web: Cluster, backend: Backend) -> None:
    drafts.discard_all(web, seen=print_of(web), by=OLGA)
    assert not VirtualService.objects.exists()


def test_an_imported_object_says_that_it_was_imported(applied: Cluster) -> None:
    found = Table((Service(ServiceKey(Protocol.TCP, "192.0.2.9", 80)),))
    imports.import_table(applied, found, replace=False, seen=print_of(applied), source="a file", by=OTTO)
    (change,) = draft_changes(fresh(applied))
    assert [(edit.actor, edit.action) for edit in change.edits] == [("otto", "cluster.import")]


def test_who_discards_is_an_editor_and_a_request_is_void(applied: Cluster, backend: Backend) -> None:
    Cluster.objects.update(approvals=1)
    backends.set_weight(backend, seen_version=1, weight=7, by=OTTO)
    services.add_service(applied, services.ServiceFields("udp", "192.0.2.9", 53), by=OTTO)
    change = approvals.ask(fresh(applied), seen=print_of(applied), reason="x", ticket="", by=OTTO)
    discard(applied, f"backend {ONE}", by=OLGA)
    approval = approval_of(change)
    assert approval.is_void and approval.editors == {"otto", "olga"}


def test_back_to_an_old_revision_is_a_new_one_with_its_policies(applied: Cluster, backend: Backend) -> None:
    policies.set_policy(
        VirtualService.objects.get(), Policy(ramp_s=9), seen_version=1, is_administrator=True, by=ANN
    )
    backends.set_weight(backend, seen_version=1, weight=7, by=ANN)
    second = apply_draft(applied).revision
    drafts.roll_back(applied, Revision.objects.get(number=1), seen=print_of(applied), by=OLGA)
    third = apply_draft(applied, reason="roll back").revision
    first = Revision.objects.get(number=1)
    assert third and second and third.number == 3
    assert (third.table, third.traffic) == (first.table, first.traffic) != (second.table, second.traffic)
    drafts.roll_back(applied, second, seen=print_of(applied), by=OLGA)
    assert desired.policy_value(VirtualService.objects.get()) == Policy(ramp_s=9)
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.target) == ("draft.roll-back", "web revision 2")


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_lists_and_discards_one(applied: Cluster, backend: Backend, otto: Client) -> None:
    url = reverse("cluster-draft", args=[applied.pk])
    assert "Nothing differs" in text_of(otto.get(url))
    backends.set_weight(backend, seen_version=1, weight=7, by=OLGA)
    response = otto.get(url)
    page = text_of(response)
    assert "weight: 1 &rarr; 7" in page and ">olga</a>" in page
    said = {"seen": response.context["seen"], "item": f"backend {ONE}"}
    page = text_of(otto.post(reverse("draft-discard", args=[applied.pk]), said, follow=True))
    assert f"Taken back: backend {ONE}." in page and "Nothing differs" in page


def test_all_is_discarded_with_the_name_typed(applied: Cluster, backend: Backend, otto: Client) -> None:
    backends.set_weight(backend, seen_version=1, weight=7, by=OLGA)
    url = reverse("draft-discard", args=[applied.pk])
    said = {"seen": print_of(applied), "all": "1"}
    assert "Type web exactly" in text_of(otto.post(url, said | {"confirm": "wep"}))
    assert Backend.objects.get().weight == 7
    otto.post(url, said | {"confirm": "web"})
    assert Backend.objects.get().weight == 1


def test_who_only_looks_sees_why_nothing_can_be_discarded(
    applied: Cluster, backend: Backend, vera: Client
) -> None:
    backends.set_weight(backend, seen_version=1, weight=7, by=OLGA)
    page = vera.get(reverse("cluster-draft", args=[applied.pk])).content.decode()
    assert "This needs the permission “edit” in web" in page and "Discard all" not in page


def test_switches_are_a_part_of_the_draft_that_goes_back_alone(applied: Cluster, otto: Client) -> None:
    clusters.set_switches(applied, {"conntrack": "1"}, seen_version=1, by=OLGA)
    page = text_of(otto.get(reverse("cluster-draft", args=[applied.pk])))
    assert "Changed kernel switches of" in page and "conntrack" in page and ">olga</a>" in page
    said = {"seen": print_of(applied), "item": "switches all directors"}
    otto.post(reverse("draft-discard", args=[applied.pk]), said)
    assert Cluster.objects.get(pk=applied.pk).switches == {}
