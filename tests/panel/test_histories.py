"""An object's whole history: what was done to it by itself, with its service, and with the whole draft."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from cluster.actions import (
    backends,
    changes,
    clusters,
    directors,
    drafts,
    drifts,
    imports,
    policies,
    services,
)
from cluster.actions.problems import Changed
from cluster.audit import Actor, chain
from cluster.draft import draft_changes
from cluster.drifts import seen_of
from cluster.ipvs.state import Backend as BackendValue
from cluster.ipvs.state import Protocol, Service, ServiceKey, Table
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.policy import Policy
from cluster.models import AuditEntry, Backend, Cluster, Director, Drift, Job, Revision, Run, VirtualService
from tests.panel.conftest import ANN, TalkingDirector, apply_draft, remove
from tests.panel.test_approvals import print_of
from tests.panel.test_drifts import BACKEND, PLACE, adopt, of_service, tell, wrong

OLGA = Actor("olga", request_id="request-2", role="operator")
SHOP = "TCP 192.168.50.10:80"
ONE, TWO = (f"192.168.50.{number}:80 of {SHOP}" for number in (11, 12))
KEY = ServiceKey(Protocol.TCP, "192.168.50.10", 80)
OTHER = Service(ServiceKey(Protocol.UDP, "192.0.2.9", 53), backends=(BackendValue("192.0.2.10", 53),))


def fresh(cluster: Cluster) -> Cluster:
    return Cluster.objects.get(pk=cluster.pk)


def history(row: VirtualService | Backend) -> list[AuditEntry]:
    kind = "service" if isinstance(row, VirtualService) else "backend"
    return list(AuditEntry.objects.filter(object_kind=kind, object_id=str(row.pk)).order_by("sequence"))


def actions(row: VirtualService | Backend) -> list[str]:
    return [entry.action for entry in history(row)]


def take(cluster: Cluster, *found: Service, replace: bool = False) -> None:
    seen = print_of(cluster)
    imports.import_table(cluster, Table(found), replace=replace, seen=seen, source="a file", by=OLGA)


def roll_back(cluster: Cluster, number: int) -> None:
    revision = Revision.objects.get(cluster=cluster, number=number)
    drafts.roll_back(fresh(cluster), revision, seen=print_of(cluster), by=OLGA)


def discard(cluster: Cluster, item: str) -> None:
    drafts.discard(fresh(cluster), item=item, seen=print_of(cluster), by=OLGA)


@pytest.fixture
def applied(web: Cluster, backend: Backend, job: Job) -> Cluster:
    """Revision 1 is the service shop with one backend, which has a name."""
    Backend.objects.update(name="real1")
    return web


def test_an_import_is_in_the_history_of_each_object(applied: Cluster, backend: Backend) -> None:
    service = backend.service
    changed = Service(
        KEY, "wrr", backends=(BackendValue("192.168.50.11", 80, weight=4), BackendValue("192.168.50.12", 80))
    )
    take(applied, changed, OTHER)
    (entry,) = history(service)[1:]
    assert (entry.action, entry.target, entry.actor, entry.role) == (
        "cluster.import",
        SHOP,
        "olga",
        "operator",
    )
    assert entry.before == {"what": "service", "scheduler": "rr"}
    assert entry.after == {"what": "service", "scheduler": "wrr"}
    (entry,) = history(backend)[1:]
    assert (entry.target, entry.before and entry.before["weight"]) == (ONE, "1")
    assert entry.after == {"what": "backend", "weight": "4"}
    (entry,) = history(Backend.objects.get(address="192.168.50.12"))
    assert (entry.target, entry.before, entry.reason) == (TWO, None, "")
    (entry,) = history(Backend.objects.get(address="192.0.2.10"))
    assert (entry.target, entry.reason) == ("192.0.2.10:53 of UDP 192.0.2.9:53", "with its service")
    whole = AuditEntry.objects.first()
    assert whole and (whole.target, whole.object_kind) == ("a file", "cluster")
    assert AuditEntry.objects.filter(request_id="request-2").count() == 6
    assert chain.verify() is None


def test_what_an_import_removes_has_its_name_in_the_log(applied: Cluster, backend: Backend) -> None:
    service = backend.service
    take(applied, OTHER, replace=True)
    entry = history(service)[-1]
    assert (entry.action, entry.after) == ("cluster.import", None)
    assert entry.before == {"what": "service", "scheduler": "rr", "name": "shop", "version": 1}
    entry = history(backend)[-1]
    assert (entry.after, entry.reason) == (None, "with its service")
    said = {"settings": "masquerade weight 1", "name": "real1", "version": 1}
    assert entry.before == {"what": "backend"} | said


def test_roll_back_and_discard_all_are_in_the_history_of_each_object(
    applied: Cluster, backend: Backend
) -> None:
    backends.set_weight(backend, seen_version=1, weight=7, by=ANN)
    drafts.discard_all(fresh(applied), seen=print_of(applied), by=OLGA)
    backends.set_weight(backend, seen_version=3, weight=8, by=ANN)
    apply_draft(applied)
    roll_back(applied, 1)
    assert actions(backend)[1:] == [
        "backend.set-weight",
        "draft.discard-all",
        "backend.set-weight",
        "draft.roll-back",
    ]
    assert [entry.action for entry in AuditEntry.objects.filter(object_kind="cluster", actor="olga")] == [
        "draft.roll-back",
        "draft.discard-all",
    ]


def test_policies_and_checks_that_go_back_are_in_the_histories(applied: Cluster, backend: Backend) -> None:
    service = VirtualService.objects.get()
    policies.set_policy(service, Policy(ramp_s=9), seen_version=1, is_administrator=True, by=ANN)
    policies.set_override(backend, Check(CheckKind.PING), seen_version=1, is_administrator=True, by=ANN)
    roll_back(applied, 1)
    entry = history(service)[-1]
    assert (entry.action, entry.target, entry.after and entry.after["what"]) == (
        "draft.roll-back",
        SHOP,
        "policy",
    )
    assert entry.before and entry.before["Slow start"] == "over 9 s after it came back"
    entry = history(backend)[-1]
    assert (entry.target, entry.after) == (ONE, {"what": "check", "check": "the service's"})


def test_a_backend_says_that_it_went_and_came_with_its_service(applied: Cluster, backend: Backend) -> None:
    remove(VirtualService.objects.get(), by=ANN)
    entry = history(backend)[-1]
    assert (entry.action, entry.target, entry.reason) == ("backend.remove", ONE, "with its service")
    assert entry.before and entry.before["name"] == "real1"
    discard(applied, f"service {SHOP}")
    entry = history(Backend.objects.get())[-1]
    assert (entry.action, entry.reason) == ("draft.discard", "with its service")


def test_a_draft_that_goes_back_whole_tells_who_by_each_object(applied: Cluster, backend: Backend) -> None:
    backends.set_weight(backend, seen_version=1, weight=7, by=ANN)
    clusters.set_switches(fresh(applied), {"conntrack": "1"}, seen_version=1, by=ANN)
    changes.apply(fresh(applied), seen=print_of(applied), reason="x", by=ANN)
    policies.set_policy(
        VirtualService.objects.get(), Policy(ramp_s=9), seen_version=1, is_administrator=True, by=ANN
    )
    roll_back(applied, 1)
    told = {
        change.difference.id: [(edit.actor, edit.action) for edit in change.edits]
        for change in draft_changes(fresh(applied))
    }
    rolled = ("olga", "draft.roll-back")
    assert told == {f"backend {ONE}": [rolled], "switches all directors": [rolled]}


def test_a_service_that_goes_does_not_name_each_of_its_backends(applied: Cluster, backend: Backend) -> None:
    backends.add_backend(VirtualService.objects.get(), backends.BackendFields("192.168.50.12", 80), by=ANN)
    apply_draft(applied)
    take(applied, OTHER, replace=True)
    changes_now = draft_changes(fresh(applied))
    told = {one.difference.id: [edit.target for edit in one.edits] for one in changes_now}
    assert told == {f"service {SHOP}": [SHOP], "service UDP 192.0.2.9:53": ["UDP 192.0.2.9:53"]}


def test_what_comes_back_is_the_same_whatever_brings_it_back(applied: Cluster, backend: Backend) -> None:
    shop = Service(KEY, "rr", backends=(BackendValue("192.168.50.11", 80),))
    ids = (backend.service_id, backend.pk)

    def is_back() -> bool:
        row = Backend.objects.select_related("service").get(address="192.168.50.11")
        return (row.service_id, row.pk, row.service.name, row.name) == (*ids, "shop", "real1")

    remove(VirtualService.objects.get(), by=ANN)
    discard(applied, f"service {SHOP}")
    assert is_back()
    remove(Backend.objects.get(), by=ANN)
    drafts.discard_all(fresh(applied), seen=print_of(applied), by=OLGA)
    assert is_back()
    take(applied, OTHER, replace=True)
    roll_back(applied, 1)
    assert is_back()
    remove(VirtualService.objects.get(pk=ids[0]), by=ANN)
    take(applied, shop)
    assert is_back()
    remove(Backend.objects.get(), by=ANN)
    apply_draft(applied)
    roll_back(applied, 1)
    assert is_back(), "also what was removed before the last apply"
    assert actions(Backend.objects.get())[1:] == [
        *("backend.remove", "draft.discard", "backend.remove", "draft.discard-all", "cluster.import"),
        *("draft.roll-back", "backend.remove", "cluster.import", "backend.remove", "draft.roll-back"),
    ]


def test_a_form_from_before_a_removal_does_not_fit_what_came_back(applied: Cluster, backend: Backend) -> None:
    seen = backend.version
    remove(backend, by=ANN)
    discard(applied, f"backend {ONE}")
    with pytest.raises(Changed, match="olga has changed it since you opened this form"):
        backends.set_weight(Backend.objects.get(), seen_version=seen, weight=7, by=ANN)


def test_what_has_no_id_to_come_back_to_gets_a_new_one(
    applied: Cluster, backend: Backend, other: Cluster
) -> None:
    service = backend.service
    remove(service, by=ANN)
    taken = VirtualService.objects.create(pk=service.pk, cluster=other, address="192.0.2.1", port=80)
    discard(applied, f"service {SHOP}")
    row = VirtualService.objects.get(cluster=applied)
    assert row.pk != taken.pk and row.name == "shop" and row.backends.get().pk == backend.pk


def test_a_log_of_another_cluster_gives_no_id(applied: Cluster, backend: Backend, other: Cluster) -> None:
    remove(VirtualService.objects.get(), by=ANN)
    take(other, Service(KEY, "rr", backends=(BackendValue("192.168.50.11", 80),)))
    row = VirtualService.objects.get()
    assert (row.name, row.pk == backend.service_id) == ("", False)


def test_who_had_two_addresses_comes_back_once(applied: Cluster, backend: Backend) -> None:
    remove(backend, by=ANN)
    discard(applied, f"backend {ONE}")
    row = Backend.objects.get()
    said = backends.BackendFields("192.168.50.12", 80)
    backends.edit_backend(row, said, seen_version=row.version, by=ANN)
    remove(row, by=ANN)
    both = (BackendValue("192.168.50.11", 80), BackendValue("192.168.50.12", 80))
    take(applied, Service(KEY, "rr", backends=both))
    assert Backend.objects.get(address="192.168.50.12").pk == backend.pk
    assert Backend.objects.count() == 2


def test_the_database_gives_no_id_a_second_time(applied: Cluster, backend: Backend) -> None:
    """What lets a row come back under its id; on PostgreSQL an identity, on SQLite AUTOINCREMENT."""
    newest = backends.add_backend(backend.service, backends.BackendFields("192.168.50.12", 80), by=ANN)
    remove(newest, by=ANN)
    after = backends.add_backend(backend.service, backends.BackendFields("192.168.50.13", 80), by=ANN)
    assert after.pk > newest.pk
    Backend.objects.create(pk=newest.pk, service=backend.service, address="192.168.50.12", port=80)
    last = backends.add_backend(backend.service, backends.BackendFields("192.168.50.14", 80), by=ANN)
    assert last.pk > after.pk


def test_nothing_is_looked_up_where_nothing_comes_back(applied: Cluster, backend: Backend) -> None:
    backends.set_weight(backend, seen_version=1, weight=7, by=ANN)
    seen = print_of(applied)
    with CaptureQueriesContext(connection) as caught:
        drafts.discard_all(fresh(applied), seen=seen, by=OLGA)
    assert not [one for one in caught.captured_queries if '"after" IS NULL' in one["sql"]]


def test_a_cluster_that_is_removed_leaves_its_last_table_in_the_log(
    applied: Cluster, backend: Backend, director: Director
) -> None:
    backends.set_weight(backend, seen_version=1, weight=7, by=ANN)
    directors.release_director(director, by=ANN)
    clusters.remove_cluster(applied, by=ANN)
    entry = AuditEntry.objects.first()
    assert entry and entry.before and (entry.action, entry.before["name"]) == ("cluster.remove", "web")
    assert entry.before["revision"] == 1
    assert entry.before["table"] == [
        "-A -t 192.168.50.10:80 -s rr",
        "-a -t 192.168.50.10:80 -r 192.168.50.11:80 -m -w 1",
    ]
    assert actions(backend)[-1] == actions(backend.service)[-1] == "cluster.remove"


def test_what_drifted_is_in_the_history_of_its_row(
    applied: Cluster, backend: Backend, talker: TalkingDirector
) -> None:
    tell(talker, wrong(), of_service())
    tell(talker, of_service(), healed=[wrong()])
    assert actions(backend)[1:] == ["drift.found", "drift.healed", "drift.gone"]
    assert history(backend)[-1].target == f"{ONE} on director1"
    drift = Drift.objects.get(gone_at=None)
    drifts.revert(drift, seen=seen_of(drift), reason="a test", by=ANN)
    adopt(drift)
    assert actions(backend.service)[1:] == ["drift.found", "drift.revert", "service.edit", "drift.adopt"]
    assert AuditEntry.objects.filter(target=str(drift)).count() == 3


def test_an_adopted_removal_ends_the_history_and_a_stranger_has_none(
    applied: Cluster, backend: Backend, talker: TalkingDirector
) -> None:
    tell(talker, wrong(actual=None), strange(0))
    adopt(Drift.objects.get(label=ONE))
    assert actions(backend)[1:] == ["drift.found", "backend.remove", "drift.adopt"]
    stranger = AuditEntry.objects.get(target__startswith="192.168.50.100:80")
    assert (stranger.action, stranger.object_kind) == ("drift.found", "")


def test_however_much_drifts_the_rows_are_asked_for_once(
    applied: Cluster, talker: TalkingDirector, backend: Backend
) -> None:
    asked = []
    for count in (1, 40):
        with CaptureQueriesContext(connection) as caught:
            tell(talker, *(strange(number) for number in range(count)))
        rows = [one["sql"] for one in caught.captured_queries if 'FROM "cluster_backend"' in one["sql"]]
        asked.append((len(rows), sum("cluster_audithead" in one["sql"] for one in caught.captured_queries)))
    assert asked == [(1, 2)] * 2


def strange(number: int) -> dict[str, Any]:
    """A backend that the draft does not have."""
    address = {"address": f"192.168.50.{100 + number}"}
    return wrong(wanted=None, actual=BACKEND | address) | {
        "service": PLACE["service"],
        "backend": address | {"port": 80},
    }


def test_a_services_whole_history_is_found_by_one_search(
    applied: Cluster, backend: Backend, talker: TalkingDirector, ann: Client
) -> None:
    """Through removal and return, in order, and each backend's likewise."""
    talker.finish(Run.objects.get(job__revision__number=1))
    service = backend.service
    said = services.ServiceFields("tcp", "192.168.50.10", 80, scheduler="wrr", name="shop")
    services.edit_service(service, said, seen_version=1, by=ANN)
    apply_draft(applied)
    take(applied, OTHER, replace=True)
    roll_back(applied, 2)
    assert service.pk == VirtualService.objects.get().pk
    tell(talker, of_service())
    remove(VirtualService.objects.get(), by=ANN)
    expected = [
        *("service.add", "service.edit", "cluster.import", "draft.roll-back"),
        *("drift.found", "service.remove"),
    ]
    page = ann.get(reverse("audit-list"), {"q": f"object:service/{service.pk}"})
    assert [entry["action"] for entry in page.context["entries"]] == expected[::-1]
    assert actions(backend) == ["backend.add", "cluster.import", "draft.roll-back", "backend.remove"]
    assert chain.verify() is None
