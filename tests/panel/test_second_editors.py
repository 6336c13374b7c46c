"""Two people at a drain's end, a role of one's own making, what applies begin with: as at any form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cluster.actions import clusters, drains, roles
from cluster.actions.clusters import Conditions
from cluster.actions.problems import Changed
from cluster.audit import Actor
from cluster.ipvs.traffic.policy import Target
from cluster.models import Backend, Cluster, CustomRole, Director, Drain
from tests.panel.conftest import ANN, apply_draft
from tests.panel.test_three_way import Page

OLGA = Actor("olga")
WHY = {"reason": "a test"}
LATER, LATEST = datetime(2040, 3, 1, 4, 0, tzinfo=UTC), datetime(2040, 3, 1, 6, 0, tzinfo=UTC)


@pytest.fixture
def drain(web: Cluster, backend: Backend, director: Director) -> Drain:
    """Of the only backend, with an end and a deadline."""
    apply_draft(web)
    return drains.drain(
        web,
        [Target(address=backend.address)],
        begins_at=None,
        ends_at=LATER,
        cut_at=timezone.now() + timedelta(minutes=30),
        reason="new kernel",
        by=ANN,
        may_refuse_clients=True,
    )


@pytest.fixture
def night(db: None) -> CustomRole:
    return roles.add_role(name="night", description="after ten", permissions=["operate"], by=ANN)


def test_who_moves_a_drains_end_second_sees_all_three_and_moves_nothing(otto: Client, drain: Drain) -> None:
    page = Page(otto, reverse("drain-edit", args=[drain.pk])).type(ends_at="2040-03-01T05:00", **WHY)
    drains.change_end(drain, ends_at=LATEST, cut_at=None, seen_version=1, reason="longer", by=OLGA)
    page.press()
    assert "olga has changed it since you opened this form" in page.text
    assert page.rows == {
        "ends_at": ("2040-03-01T04:00", "2040-03-01T06:00", "2040-03-01T05:00"),
        "cut_after_min": ("30", "", "30"),
    }
    row = Drain.objects.get()
    assert (row.ends_at, row.cut_at, row.version, row.changed_by) == (LATEST, None, 2, "olga")
    assert page.fields["reason"] == ["a test"], "what was typed is not lost"
    assert page.press(take="ends_at").press().response.status_code == 302
    row = Drain.objects.get()
    assert (row.ends_at, row.cut_at, row.version, row.changed_by) == (LATEST, None, 3, "otto")


def test_an_end_form_that_nobody_disturbs_saves_at_once(otto: Client, drain: Drain) -> None:
    page = Page(otto, reverse("drain-edit", args=[drain.pk])).type(ends_at="2040-03-01T05:00", **WHY)
    assert page.press().response.status_code == 302


def test_who_undrains_or_cuts_leaves_no_older_form_that_fits(otto: Client, drain: Drain) -> None:
    page = Page(otto, reverse("drain-edit", args=[drain.pk])).type(ends_at="2040-03-01T05:00", **WHY)
    drains.cut_now(drain, reason="now", by=OLGA)
    page.press().press()
    assert "was cut already" in page.text
    drains.undrain(drain, reason="done", by=OLGA)
    assert "was ended by olga already" in page.press().press().text
    row = Drain.objects.get()
    assert (row.ends_at, row.version, row.changed_by) == (LATER, 3, "olga")


def test_the_action_moves_no_end_that_somebody_moved(drain: Drain) -> None:
    drains.change_end(drain, ends_at=LATEST, cut_at=None, seen_version=1, reason="longer", by=OLGA)
    with pytest.raises(Changed, match="olga has changed it"):
        drains.change_end(drain, ends_at=None, cut_at=None, seen_version=1, reason="mine", by=ANN)
    assert Drain.objects.get().ends_at == LATEST


def test_who_edits_a_role_second_sees_all_three_and_moves_nobodys_rights(
    ann: Client, night: CustomRole
) -> None:
    page = Page(ann, reverse("role-edit", args=[night.pk])).type(description="mine")
    page.fields["permissions"] = ["view", "apply"]
    page.press()
    assert "Gained: apply. Lost: operate." in page.text
    page.fields["seen"] = ["1 view apply"]
    roles.edit_role(night, description="theirs", permissions=["edit"], seen_version=1, by=OLGA)
    page.press()
    assert "olga has changed it since you opened this form" in page.text
    assert page.rows["description"] == ("after ten", "theirs", "mine")
    was, theirs, mine = page.rows["permissions"]
    assert "operate: " in was and "edit: " in theirs and "apply: " in mine
    row = CustomRole.objects.get()
    assert (row.description, row.permissions, row.version) == ("theirs", ["view", "edit"], 2)
    # What the change does to the role as it is now was not looked at yet.
    page.press()
    assert "Gained: apply. Lost: edit." in page.text and CustomRole.objects.get().version == 2
    page.fields["seen"] = ["2 view apply"]
    assert page.press().response.status_code == 302
    row = CustomRole.objects.get()
    assert (row.description, row.permissions, row.changed_by) == ("mine", ["view", "apply"], "ann")


def test_the_action_changes_no_role_that_somebody_changed(night: CustomRole) -> None:
    roles.edit_role(night, description="theirs", permissions=["edit"], seen_version=1, by=OLGA)
    with pytest.raises(Changed, match="olga has changed it"):
        roles.edit_role(night, description="mine", permissions=["apply"], seen_version=1, by=ANN)
    assert CustomRole.objects.get().permissions == ["view", "edit"]


def test_who_says_second_what_applies_begin_with_sees_all_three(ann: Client, web: Cluster) -> None:
    page = Page(ann, reverse("change-settings", args=[web.pk])).type(confirm_min=5)
    clusters.set_conditions(web, Conditions(9, 20, None), seen_version=1, by=OLGA)
    page.press()
    assert "olga has changed it since you opened this form" in page.text
    assert page.rows == {"confirm_min": ("", "9", "5"), "backends_percent": ("", "20", "")}
    row = Cluster.objects.get()
    assert (row.confirm_min, row.backends_percent, row.version) == (9, 20, 2)
    assert page.press().response.status_code == 302
    row = Cluster.objects.get()
    assert (row.confirm_min, row.backends_percent, row.version, row.changed_by) == (5, 20, 3, "ann")


def test_who_changed_other_settings_of_the_cluster_is_in_nobodys_way(ann: Client, web: Cluster) -> None:
    page = Page(ann, reverse("change-settings", args=[web.pk])).type(confirm_min=5)
    clusters.edit_cluster(web, name="web", description="theirs", seen_version=1, by=OLGA)
    assert page.press().response.status_code == 302
    row = Cluster.objects.get()
    assert (row.confirm_min, row.description, row.version) == (5, "theirs", 3)


def test_the_action_says_nothing_over_what_somebody_said(web: Cluster) -> None:
    clusters.set_conditions(web, Conditions(9, 20, None), seen_version=1, by=OLGA)
    with pytest.raises(Changed, match="olga has changed it"):
        clusters.set_conditions(web, Conditions(5, None, None), seen_version=1, by=ANN)
    assert Cluster.objects.get().confirm_min == 9
