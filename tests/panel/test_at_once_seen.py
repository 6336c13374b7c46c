"""Who removes, saves or adopts at the very moment in which somebody else changes it: the loser is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from cluster import desired, drifts
from cluster.actions import backends, profiles, roles, services
from cluster.actions import drifts as drift_actions
from cluster.actions.problems import Changed, Rejected
from cluster.audit import Actor
from cluster.models import (
    AuditEntry,
    Backend,
    Cluster,
    CustomRole,
    Director,
    Drift,
    Role,
    RoleBinding,
    VirtualService,
    WeightProfile,
)
from cluster.seen import mark_of
from tests.panel.at_once import MARKS, OTTO, Other
from tests.panel.at_once import an_empty_log as an_empty_log
from tests.panel.at_once import the_log_can_be_emptied as the_log_can_be_emptied
from tests.panel.conftest import ANN, TalkingDirector, apply_draft
from tests.panel.test_drifts import BACKEND, tell, wrong
from tests.panel.test_profiles import said

pytestmark = MARKS


def beaten(first: Callable[[], Any], second: Callable[[], Any]) -> Rejected:
    """What the second is told, who came while the first was at it."""
    with transaction.atomic():
        first()
        other = Other(second)
        other.until_it_waits()
    outcome = other.outcome()
    assert isinstance(outcome, Rejected), repr(outcome)
    return outcome


@pytest.mark.parametrize("what", ["backend", "service", "added to service"])
def test_nothing_is_removed_that_is_edited_at_this_moment(backend: Backend, what: str) -> None:
    service, row = VirtualService.objects.get(), Backend.objects.get()
    marks = {"backend": mark_of(row), "service": mark_of(service)}
    new = backends.BackendFields("192.168.50.13", 80)

    def edit() -> None:
        if what == "added to service":
            backends.add_backend(backend.service, new, by=ANN)
        else:
            backends.set_weight(backend, seen_version=1, weight=7, by=ANN)

    def remove() -> None:
        if what == "backend":
            backends.remove_backend(row, seen=marks["backend"], by=OTTO)
        else:
            services.remove_service(service, seen=marks["service"], by=OTTO)

    assert isinstance(beaten(edit, remove), Changed)
    assert Backend.objects.filter(pk=backend.pk).exists() and VirtualService.objects.exists()


def test_no_profile_is_removed_that_is_put_to_use_at_this_moment(web: Cluster, backend: Backend) -> None:
    row = profiles.add_profile(web, said(backend, name="night"), reason="x", by=ANN)
    late, mark = WeightProfile.objects.get(), mark_of(row)
    told = beaten(
        lambda: profiles.use_profile(row, seen=mark, reason="x", by=ANN),
        lambda: profiles.remove_profile(late, seen=mark, reason="x", by=OTTO),
    )
    assert isinstance(told, Changed) and WeightProfile.objects.get().pinned


def test_of_two_who_save_a_role_at_once_one_is_told_and_not_called_a_trespasser(db: None) -> None:
    """Also where the other one gave it what the second does not have."""
    paul = User.objects.create_user(username="paul")
    few = CustomRole.objects.create(name="few", permissions=["view", "administer", "audit", "operate"])
    RoleBinding.objects.create(user=paul, custom=few)
    RoleBinding.objects.create(user=User.objects.create_user(username="adi"), role=Role.ADMINISTRATOR)
    role = roles.add_role(name="night", description="", permissions=["operate"], by=ANN)

    def save(*permissions: str, by: Actor) -> None:
        roles.edit_role(role, description="", permissions=permissions, seen_version=1, by=by)

    told = beaten(
        lambda: save("operate", "apply", by=ANN), lambda: save("view", by=Actor("paul", user_id=paul.pk))
    )
    assert isinstance(told, Changed) and "ann has changed it" in str(told)
    assert CustomRole.objects.get(name="night").permissions == ["view", "operate", "apply"]
    assert not AuditEntry.objects.filter(result="refused").exists()


@pytest.mark.parametrize("verb", ["adopt", "revert"])
def test_nothing_is_done_about_a_drift_that_becomes_another_at_this_moment(
    web: Cluster, backend: Backend, director: Director, talker: TalkingDirector, verb: str
) -> None:
    talker.finish(apply_draft(web).runs.get())
    tell(talker, wrong())
    row = Drift.objects.get()
    seen = drifts.seen_of(row)
    draft = desired.spoken_of(web.pk, {row.label}).get(row.label)
    seen_draft = drifts.seen_draft_of(row, draft)

    def act() -> None:
        if verb == "adopt":
            drift_actions.adopt(row, seen=seen, seen_draft=seen_draft, by=OTTO)
        else:
            drift_actions.revert(row, seen=seen, reason="x", by=OTTO)

    told = beaten(lambda: tell(talker, wrong(actual=BACKEND | {"weight": 98})), act)
    assert "is not what the page showed any more: it is weight 98" in str(told)
    assert Backend.objects.get().weight == 1
