"""Whatever reaches the directors without the draft is done for a reason, and may name a ticket."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from cluster.actions import backends, bulk, changes, drains, profiles
from cluster.actions import drifts as drift_actions
from cluster.actions.problems import Rejected
from cluster.desired import draft_print, draft_said
from cluster.drifts import seen_of
from cluster.ipvs.traffic.policy import Target
from cluster.models import (
    AuditEntry,
    Backend,
    Cluster,
    Director,
    Drain,
    Drift,
    Job,
    Revision,
    Rollout,
    WeightProfile,
)
from cluster.seen import mark_of
from tests.panel.conftest import ANN, TalkingDirector, apply_draft
from tests.panel.test_bulk import ticked
from tests.panel.test_drift_editors import applied as applied
from tests.panel.test_drifts import tell, wrong
from tests.panel.test_profiles import fields, said, typed

WHY = {"reason": "memory is replaced", "ticket": "OPS-7"}
Act = Callable[..., Any]


@pytest.fixture
def drain(applied: Cluster) -> Drain:
    return drains.drain(applied, [Target(address="192.168.50.11")], **NOW, reason="x", by=ANN)


@pytest.fixture
def profile(applied: Cluster, backend: Backend) -> WeightProfile:
    return profiles.add_profile(applied, said(backend), reason="x", by=ANN)


@pytest.fixture
def pinned(profile: WeightProfile) -> WeightProfile:
    profiles.use_profile(profile, seen=mark_of(profile), reason="x", by=ANN)
    profile.refresh_from_db()
    return profile


@pytest.fixture
def drift(applied: Cluster, talker: TalkingDirector) -> Drift:
    tell(talker, wrong())
    return Drift.objects.get()


NOW: dict[str, Any] = {"begins_at": None, "ends_at": None, "cut_at": None, "may_refuse_clients": True}
ACTS: dict[str, Callable[[pytest.FixtureRequest], Act]] = {
    "drain.begin": lambda get: _of(get, "applied", drains.drain, [Target(address="192.168.50.11")], **NOW),
    "drain.end": lambda get: _of(get, "drain", drains.undrain),
    "drain.cut": lambda get: _of(get, "drain", drains.cut_now),
    "drain.change": lambda get: _of(
        get, "drain", drains.change_end, ends_at=_later(), cut_at=None, seen_version=1
    ),
    "profile.add": lambda get: _of(get, "applied", profiles.add_profile, _said(get)),
    "profile.edit": lambda get: _of(get, "profile", profiles.edit_profile, _said(get, 9), seen_version=1),
    "profile.remove": lambda get: _of(get, "profile", profiles.remove_profile, seen=_mark(get)),
    "profile.use": lambda get: _of(get, "profile", profiles.use_profile, seen=_mark(get)),
    "profile.stop": lambda get: _of(get, "pinned", profiles.stop_profile, seen=_mark(get, "pinned")),
    "drift.revert": lambda get: _of(get, "drift", drift_actions.revert, seen=_seen(get)),
    "cluster.enforce": lambda get: _of(get, "applied", drift_actions.set_enforcing, enforce=True),
}


def _of(get: pytest.FixtureRequest, fixture: str, act: Act, *more: Any, **words: Any) -> Act:
    row = get.getfixturevalue(fixture)
    return lambda **why: act(row, *more, **words, **why, by=ANN)


def _said(get: pytest.FixtureRequest, weight: int = 7) -> profiles.ProfileFields:
    return said(get.getfixturevalue("backend"), weight)


def _mark(get: pytest.FixtureRequest, name: str = "profile") -> str:
    return mark_of(get.getfixturevalue(name))


def _seen(get: pytest.FixtureRequest) -> str:
    return seen_of(get.getfixturevalue("drift"))


def _later() -> Any:
    return timezone.now() + timedelta(hours=1)


@pytest.mark.parametrize("action", ACTS)
@pytest.mark.parametrize("reason", ["", "  \t"])
def test_without_a_reason_nothing_is_done(action: str, reason: str, request: pytest.FixtureRequest) -> None:
    act = ACTS[action](request)
    before = (AuditEntry.objects.count(), Job.objects.count(), Revision.objects.count())
    with pytest.raises(Rejected, match="Say why"):
        act(reason=reason)
    assert before == (AuditEntry.objects.count(), Job.objects.count(), Revision.objects.count())


@pytest.mark.parametrize("action", ACTS)
def test_reason_and_ticket_are_in_the_log_and_in_the_revision(
    action: str, request: pytest.FixtureRequest
) -> None:
    act = ACTS[action](request)
    revisions = Revision.objects.count()
    act(**WHY)
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.reason) == (action, WHY["reason"])
    assert entry.after and entry.after["ticket"] == WHY["ticket"]
    job = Job.objects.get(pk=entry.after["job"]) if "job" in entry.after else None
    if Revision.objects.count() > revisions:
        newest = Revision.objects.first()
        assert newest and newest.reason.endswith(WHY["reason"]) and newest.ticket == WHY["ticket"]
    else:
        assert action in ("drift.revert", "cluster.enforce"), "all others make a revision"
    assert job is None or WHY["reason"] in job.reason


FORMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "drain-new": ("applied", "?address=192.168.50.11", {"may_refuse_clients": "on"}),
    "drain-undrain": ("drain", "", {}),
    "drain-cut": ("drain", "", {}),
    "drain-edit": ("drain", "", {"cut_after_min": "77", "version": "1"}),
    "profile-new": ("applied", "", {"name": "sale"}),
    "profile-edit": ("profile", "", {"name": "sale", "position": "3", "version": "1"}),
    "profile-remove": ("profile", "", {}),
    "profile-use": ("profile", "", {}),
    "profile-stop": ("pinned", "", {}),
    "drift-revert": ("drift", "", {}),
    "cluster-enforce": ("applied", "", {"enforce": "1"}),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_page_asks_for_the_reason_and_loses_nothing(
    name: str, request: pytest.FixtureRequest, ann: Client
) -> None:
    fixture, query, form = FORMS[name]
    row = request.getfixturevalue(fixture)
    if name == "profile-new":
        form = typed(request.getfixturevalue("backend"))
        del form["reason"]
    url = reverse(name, args=[row.pk]) + query
    opened = ann.get(url)
    page = opened.content.decode()
    if name == "drift-revert":
        form = {"seen": opened.context["part"].seen}
    if name in ("profile-remove", "profile-use", "profile-stop"):
        form = {"seen": opened.context["again"].mark}
    if name == "profile-edit":
        form = fields(opened) | form | {"opened": opened.context["opened"].opened}
        del form["reason"]
    assert 'name="reason"' in page and 'name="ticket"' in page
    written = AuditEntry.objects.count()
    refused = ann.post(url, form | {"reason": " ", "ticket": "OPS-8"})
    page = refused.content.decode()
    assert refused.status_code == 200 and "Say why, in a few words" in page and 'value="OPS-8"' in page
    assert all(f'value="{escape(value)}"' in page for value in form.values() if value not in ("on", 0))
    assert AuditEntry.objects.count() == written
    assert ann.post(url, form | WHY).status_code == 302
    entry = AuditEntry.objects.first()
    assert entry and entry.reason == WHY["reason"] and (entry.after or {})["ticket"] == "OPS-7"


@pytest.mark.parametrize("act", [bulk.drain, bulk.undrain])
@pytest.mark.parametrize("reason", ["", "  \t"])
def test_many_at_once_are_not_touched_without_a_reason(
    act: Act, reason: str, applied: Cluster, drain: Drain, backend: Backend
) -> None:
    before = AuditEntry.objects.count()
    with pytest.raises(Rejected, match="Say why"):
        act(applied, [backend], reason=reason, by=ANN)
    assert AuditEntry.objects.count() == before


def test_directors_join_and_leave_for_a_reason(
    web: Cluster, backend: Backend, talker: TalkingDirector, ann: Client
) -> None:
    row = Director.objects.get(name="director1")
    url = reverse("director-enrol", args=[row.pk])
    form = {"cluster": web.pk, "fingerprint": row.fingerprint}
    assert "Say why, in a few words" in ann.post(url, form).content.decode()
    assert ann.post(url, form | WHY).status_code == 302
    _is_told("director.enrol")
    apply_draft(web)
    url = reverse("director-release", args=[row.pk])
    refused = ann.post(url, {"confirm": "director1", "reason": " "})
    assert "Say why, in a few words" in refused.content.decode()
    row.refresh_from_db()
    assert row.cluster == web
    assert ann.post(url, {"confirm": "director1"} | WHY).status_code == 302
    _is_told("director.release")


def test_going_back_from_a_revision_has_a_reason(
    applied: Cluster, backend: Backend, talker: TalkingDirector, ann: Client
) -> None:
    backends.set_weight(backend, seen_version=1, weight=7, by=ANN)
    fresh = Cluster.objects.get(pk=applied.pk)
    seen = draft_print(*draft_said(fresh))
    changes.apply(fresh, seen=seen, reason="more", by=ANN, how=changes.How(confirm_min=5))
    url = reverse("rollout-go-back", args=[Rollout.objects.get().pk])
    assert 'name="reason"' in ann.get(url).content.decode()
    assert "Say why, in a few words" in ann.post(url, {"reason": ""}).content.decode()
    assert Rollout.objects.get().status == Rollout.Status.OPEN
    ann.post(url, WHY)
    assert Rollout.objects.get().status == Rollout.Status.WENT_BACK
    newest = Revision.objects.first()
    assert newest and newest.ticket == "OPS-7" and WHY["reason"] in newest.reason
    entry = AuditEntry.objects.get(action="rollout.go-back")
    assert (
        entry.reason == f"ann chose to go back: {WHY['reason']}" and (entry.after or {})["ticket"] == "OPS-7"
    )


def _is_told(action: str) -> None:
    entry = AuditEntry.objects.get(action=action)
    assert entry.reason == WHY["reason"] and (entry.after or {})["ticket"] == WHY["ticket"]


@pytest.mark.parametrize("do", ["drain", "undrain"])
def test_many_at_once_are_asked_for_a_reason_too(
    do: str, applied: Cluster, drain: Drain, backend: Backend, ann: Client
) -> None:
    url = reverse("cluster-bulk", args=[applied.pk])
    boxes = ticked(backend)
    page = ann.post(url, {"do": do, "backend": boxes, "reason": ""})
    assert page.status_code == 200 and "Say why, in a few words" in page.content.decode()
    assert page.context["ticked"] == boxes and f'name="do" value="{do}"' in page.content.decode()
    drain.refresh_from_db()
    assert drain.ended_at is None
    ann.post(url, {"do": do, "backend": boxes} | WHY)
    if do == "undrain":
        drain.refresh_from_db()
        assert drain.ended_at is not None
        entry = AuditEntry.objects.first()
        assert entry and entry.reason == WHY["reason"] and (entry.after or {})["ticket"] == "OPS-7"


def test_a_weight_for_many_in_the_draft_needs_none(applied: Cluster, backend: Backend, ann: Client) -> None:
    asked = {"do": "set-weight", "weight": "5", "backend": ticked(backend)}
    assert "1 done" in ann.post(reverse("cluster-bulk", args=[applied.pk]), asked).content.decode()


def test_a_drain_shows_its_reason_and_its_ticket(applied: Cluster, ann: Client) -> None:
    Cluster.objects.filter(pk=applied.pk).update(ticket_url="https://tickets.example.net/{ticket}")
    row = drains.drain(applied, [Target(address="192.168.50.11")], **NOW, **WHY, by=ANN)
    page = ann.get(reverse("drain-detail", args=[row.pk])).content.decode()
    assert WHY["reason"] in page and 'href="https://tickets.example.net/OPS-7"' in page
