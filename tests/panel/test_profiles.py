"""Weight profiles: what an operator sees, and what reaches the directors."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cluster.actions import backends, profiles
from cluster.actions.problems import Rejected
from cluster.desired import backend_value, profile_value, service_value
from cluster.ipvs.traffic.document import from_document, profile_to_document
from cluster.ipvs.traffic.policy import Hours, Profile
from cluster.models import AuditEntry, Backend, Cluster, Job, Revision, WeightProfile
from cluster.profile_forms import hours_words, weight_name
from tests.panel.conftest import ANN, FakeRedis, apply_draft

DAILY = Hours((0, 1, 2, 3, 4), "08:00", "18:00", "Europe/Berlin")


def said(
    backend: Backend, weight: int = 7, *hours: Hours, name: str = "sale", at: int = 0
) -> profiles.ProfileFields:
    place = service_value(backend.service).key, backend_value(backend).key
    document = profile_to_document(Profile(0, name, {place: weight}, hours))
    return profiles.ProfileFields(name, document["weights"], document.get("hours", []), at)


def typed(backend: Backend, **changes: Any) -> dict[str, Any]:
    place = service_value(backend.service).key, backend_value(backend).key
    return {"name": "sale", "position": 0, weight_name(place): 7} | changes


def test_a_new_profile_goes_to_the_directors_and_leaves_the_draft(
    web: Cluster, job: Job, backend: Backend
) -> None:
    backends.set_weight(backend, seen_version=1, weight=99, by=ANN)
    profile = profiles.add_profile(web, said(backend, 7, DAILY), by=ANN)
    newest = Revision.objects.first()
    assert newest is not None and newest.number == 2
    assert newest.table == job.revision.table  # type: ignore[union-attr]
    assert from_document(newest.traffic).profiles == (profile_value(profile),)
    entry = AuditEntry.objects.first()
    assert entry and entry.action == "profile.add" and entry.after
    assert entry.after["job"] == Job.objects.latest("pk").pk


def test_one_click_uses_a_profile_instead_of_another_and_stops_it(
    web: Cluster, job: Job, backend: Backend, otto: Client
) -> None:
    night, sale = (profiles.add_profile(web, said(backend, name=name), by=ANN) for name in ("night", "sale"))
    profiles.use_profile(night, by=ANN)
    otto.post(reverse("profile-use", args=[sale.pk]))
    assert list(web.profiles.filter(pinned=True)) == [sale]
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.actor, entry.before) == (
        "profile.use",
        "otto",
        {"pinned": ["night"]},
    )
    page = otto.get(reverse("profile-list", args=[web.pk])).content.decode()
    assert "sale holds now" in page and "Stop using" in page
    otto.post(reverse("profile-stop", args=[sale.pk]))
    assert not web.profiles.filter(pinned=True).exists()
    newest = Revision.objects.first()
    assert newest and not any(one.pinned for one in from_document(newest.traffic).profiles)


def test_two_edits_of_the_same_version_do_not_overwrite_each_other(web: Cluster, backend: Backend) -> None:
    profile = profiles.add_profile(web, said(backend), by=ANN)
    profiles.edit_profile(profile, said(backend, 8), seen_version=1, by=ANN)
    with pytest.raises(Rejected, match="ann has changed it"):
        profiles.edit_profile(profile, said(backend, 9), seen_version=1, by=ANN)
    profile.refresh_from_db()
    assert profile.weights[0]["weight"] == 8


def test_hours_that_meet_need_numbers_that_say_who_wins(web: Cluster, backend: Backend) -> None:
    profiles.add_profile(web, said(backend, 7, DAILY, name="day"), by=ANN)
    with pytest.raises(Rejected, match="meet those of day"):
        profiles.add_profile(web, said(backend, 7, DAILY), by=ANN)
    profiles.add_profile(web, said(backend, 7, DAILY, at=1), by=ANN)


def test_what_is_no_profile_is_refused(web: Cluster, backend: Backend) -> None:
    profiles.add_profile(web, said(backend), by=ANN)
    with pytest.raises(Rejected, match="already"):
        profiles.add_profile(web, said(backend), by=ANN)
    elsewhere = said(backend, name="x")
    elsewhere.weights[0]["address"] = "192.168.50.99"
    with pytest.raises(Rejected, match="has no backend"):
        profiles.add_profile(web, elsewhere, by=ANN)
    assert WeightProfile.objects.count() == 1


def test_the_form_saves_weights_and_hours(web: Cluster, job: Job, backend: Backend, otto: Client) -> None:
    hours = {"days-0": [5, 6], "begins-0": "22:00", "ends-0": "06:00", "zone-0": "Europe/Berlin"}
    otto.post(reverse("profile-new", args=[web.pk]), typed(backend, **hours))
    profile = web.profiles.get()
    value = profile_value(profile)
    assert list(value.weights.values()) == [7]
    assert value.hours == (Hours((5, 6), "22:00", "06:00", "Europe/Berlin"),)
    page = otto.get(reverse("profile-edit", args=[profile.pk])).content.decode()
    assert 'value="22:00"' in page and 'value="7"' in page
    otto.post(reverse("profile-edit", args=[profile.pk]), typed(backend, version=1, name="late"))
    assert profile_value(web.profiles.get()) == Profile(profile.pk, "late", value.weights)


def test_wrong_hours_get_a_sentence_at_the_field_and_stay(
    web: Cluster, job: Job, backend: Backend, otto: Client
) -> None:
    wrong = {"days-0": [0], "begins-0": "8", "ends-0": "18:00", "zone-0": "Mars/Olympus"}
    page = otto.post(reverse("profile-new", args=[web.pk]), typed(backend, **wrong)).content.decode()
    assert "Write the time as 08:00" in page and "is no time zone" in page
    assert 'value="Mars/Olympus"' in page and not web.profiles.exists()


def test_all_weights_are_filled_in_as_a_percentage(
    web: Cluster, backend: Backend, otto: Client, redis: FakeRedis
) -> None:
    backends.set_weight(backend, seen_version=1, weight=80, by=ANN)
    page = otto.post(reverse("profile-new", args=[web.pk]), {"fill": 1, "percent": 50}).content.decode()
    assert 'value="40"' in page and not web.profiles.exists()


def test_the_dry_run_shows_weights_shares_and_connections_and_saves_nothing(
    web: Cluster, director: Any, backend: Backend, otto: Client
) -> None:
    backends.add_backend(backend.service, backends.BackendFields("192.168.50.12", 80, weight=3), by=ANN)
    backend.service.scheduler = "wrr"
    backend.service.save()
    apply_draft(web)
    page = otto.post(reverse("profile-new", args=[web.pk]), typed(backend, show=1)).content.decode()
    assert "25 %" in page and "70 %" in page and not web.profiles.exists()
    profile = profiles.add_profile(web, said(backend), by=ANN)
    page = otto.get(reverse("profile-detail", args=[profile.pk])).content.decode()
    assert "25 %" in page and "70 %" in page and "Use now" in page


def test_a_removed_profile_is_taken_from_the_directors(
    web: Cluster, job: Job, backend: Backend, otto: Client
) -> None:
    profile = profiles.add_profile(web, said(backend), by=ANN)
    otto.post(reverse("profile-remove", args=[profile.pk]))
    newest = Revision.objects.first()
    assert newest and from_document(newest.traffic).profiles == () and not web.profiles.exists()


def test_nothing_there_says_what_a_profile_is(web: Cluster, otto: Client, vera: Client) -> None:
    url = reverse("profile-list", args=[web.pk])
    assert "Add a profile" in otto.get(url).content.decode()
    assert "An operator can add one" in vera.get(url).content.decode()


def test_hours_in_words() -> None:
    assert hours_words(DAILY) == "Mon-Fri 08:00 to 18:00 Europe/Berlin"
    assert hours_words(Hours(tuple(range(7)), "00:00", "00:00")) == "Every day all day UTC"
    assert hours_words(Hours((0, 2), "22:00", "06:00")) == "Mon, Wed 22:00 to 06:00 UTC"
