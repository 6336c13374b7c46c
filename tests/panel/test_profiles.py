"""Weight profiles: what an operator sees, and what reaches the directors."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cluster import profile_forms
from cluster.actions import backends, profiles
from cluster.actions.problems import Changed, Rejected
from cluster.desired import backend_value, profile_value, service_value
from cluster.ipvs.traffic.document import from_document, profile_to_document
from cluster.ipvs.traffic.policy import Hours, Profile
from cluster.models import AuditEntry, Backend, Cluster, Job, Revision, VirtualService, WeightProfile
from cluster.profile_forms import hours_words, weight_name
from cluster.seen import mark_of
from tests.panel.conftest import ANN, FakeRedis, apply_draft

DAILY = Hours((0, 1, 2, 3, 4), "08:00", "18:00", "Europe/Berlin")


def said(
    backend: Backend, weight: int = 7, *hours: Hours, name: str = "sale", at: int = 0
) -> profiles.ProfileFields:
    place = service_value(backend.service).key, backend_value(backend).key
    document = profile_to_document(Profile(0, name, {place: weight}, hours))
    return profiles.ProfileFields(name, document["weights"], document.get("hours", []), at)


WHY = {"reason": "a test"}


def text(page: Any) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", "", page.content.decode()))


def typed(backend: Backend, **changes: Any) -> dict[str, Any]:
    place = service_value(backend.service).key, backend_value(backend).key
    return {"name": "sale", "position": 0, weight_name(place): 7} | WHY | changes


def test_a_new_profile_goes_to_the_directors_and_leaves_the_draft(
    web: Cluster, job: Job, backend: Backend
) -> None:
    backends.set_weight(backend, seen_version=1, weight=99, by=ANN)
    profile = profiles.add_profile(web, said(backend, 7, DAILY), reason="a test", by=ANN)
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
    night, sale = (
        profiles.add_profile(web, said(backend, name=name), reason="a test", by=ANN)
        for name in ("night", "sale")
    )
    profiles.use_profile(night, seen=mark_of(night), **WHY, by=ANN)
    otto.post(reverse("profile-use", args=[sale.pk]), WHY | {"seen": mark_of(sale)})
    assert list(web.profiles.filter(pinned=True)) == [sale]
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.actor, entry.before) == (
        "profile.use",
        "otto",
        {"pinned": ["night"]},
    )
    page = otto.get(reverse("profile-list", args=[web.pk])).content.decode()
    assert "sale holds now" in page and "Stop using" in page
    sale.refresh_from_db()
    otto.post(reverse("profile-stop", args=[sale.pk]), WHY | {"seen": mark_of(sale)})
    assert not web.profiles.filter(pinned=True).exists()
    newest = Revision.objects.first()
    assert newest and not any(one.pinned for one in from_document(newest.traffic).profiles)


def test_what_is_in_use_is_not_used_again_and_what_is_not_is_not_stopped(
    web: Cluster, job: Job, backend: Backend
) -> None:
    """A form that is sent twice does nothing twice, and the log says nothing that was not so."""
    night, sale = (
        profiles.add_profile(web, said(backend, name=name), **WHY, by=ANN) for name in ("night", "sale")
    )
    with pytest.raises(Rejected, match="is not in use by hand"):
        profiles.stop_profile(night, seen=mark_of(night), **WHY, by=ANN)
    profiles.use_profile(night, seen=mark_of(night), **WHY, by=ANN)
    with pytest.raises(Changed):
        profiles.use_profile(night, seen=mark_of(night), **WHY, by=ANN)
    night.refresh_from_db()
    with pytest.raises(Rejected, match="is in use by hand already"):
        profiles.use_profile(night, seen=mark_of(night), **WHY, by=ANN)
    profiles.use_profile(sale, seen=mark_of(sale), **WHY, by=ANN)
    with pytest.raises(Changed):
        profiles.stop_profile(night, seen=mark_of(night), **WHY, by=ANN)
    assert [entry.action for entry in AuditEntry.objects.all()[:2]] == ["profile.use", "profile.use"]


def test_weights_that_somebody_changed_since_are_not_used(
    web: Cluster, job: Job, backend: Backend, otto: Client
) -> None:
    """What the page showed would change is what is pinned, or it is shown again."""
    night = profiles.add_profile(web, said(backend, 7, name="night"), **WHY, by=ANN)
    url, seen = reverse("profile-use", args=[night.pk]), mark_of(night)
    profiles.edit_profile(night, said(backend, 0, name="night"), seen_version=1, **WHY, by=ANN)
    page = otto.post(url, WHY | {"seen": seen}).content.decode()
    assert "ann has changed it since you opened this page" in page and "Nothing was done" in page
    assert not web.profiles.filter(pinned=True).exists()


def test_two_edits_of_the_same_version_do_not_overwrite_each_other(web: Cluster, backend: Backend) -> None:
    profile = profiles.add_profile(web, said(backend), reason="a test", by=ANN)
    profiles.edit_profile(profile, said(backend, 8), seen_version=1, reason="a test", by=ANN)
    with pytest.raises(Rejected, match="ann has changed it"):
        profiles.edit_profile(profile, said(backend, 9), seen_version=1, reason="a test", by=ANN)
    profile.refresh_from_db()
    assert profile.weights[0]["weight"] == 8


def test_hours_that_meet_need_numbers_that_say_who_wins(web: Cluster, backend: Backend) -> None:
    profiles.add_profile(web, said(backend, 7, DAILY, name="day"), reason="a test", by=ANN)
    with pytest.raises(Rejected, match="meet those of day"):
        profiles.add_profile(web, said(backend, 7, DAILY), reason="a test", by=ANN)
    profiles.add_profile(web, said(backend, 7, DAILY, at=1), reason="a test", by=ANN)


def test_what_is_no_profile_is_refused(web: Cluster, backend: Backend) -> None:
    profiles.add_profile(web, said(backend), reason="a test", by=ANN)
    with pytest.raises(Rejected, match="already"):
        profiles.add_profile(web, said(backend), reason="a test", by=ANN)
    elsewhere = said(backend, name="x")
    elsewhere.weights[0]["address"] = "192.168.50.99"
    with pytest.raises(Rejected, match="has no backend"):
        profiles.add_profile(web, elsewhere, reason="a test", by=ANN)
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
    page = otto.post(reverse("profile-new", args=[web.pk]), {"fill": 1, "set_to": "50 %"}).content.decode()
    assert 'value="40"' in page and "is required" not in page and not web.profiles.exists()
    page = otto.post(reverse("profile-new", args=[web.pk]), {"fill": 1, "set_to": "7"}).content.decode()
    assert 'value="7"' in page


def fields(page: Any) -> dict[str, Any]:
    """What a browser would post of the form as it is shown."""
    form = page.context["form"]
    shown = {name: form[name].value() for name in form.fields}
    sent = {name: value for name, value in shown.items() if value is not False and value not in (None, "")}
    return WHY | sent


@pytest.fixture
def many(web: Cluster, service: VirtualService) -> list[Backend]:
    """5,000 backends with the weight 10, in two services."""
    other = VirtualService.objects.create(cluster=web, protocol="tcp", address="192.168.50.20", port=80)
    return Backend.objects.bulk_create(
        Backend(
            service=one,
            address=f"10.{50 + which}.{at // 250}.{at % 250 + 1}",
            port=80,
            weight=10,
            changed_by="",
        )
        for which, one in enumerate((service, other))
        for at in range(2500)
    )


def test_a_profile_of_five_thousand_backends_is_made_edited_and_used(
    web: Cluster, many: list[Backend], otto: Client
) -> None:
    url = reverse("profile-new", args=[web.pk])
    page = otto.get(url)
    assert len(page.context["form"].fields) < 300 and "5000 of 5000 backends are found" in text(page)
    page = otto.post(url, fields(page) | {"find": "192.168.50.10:80", "set_to": "50%", "fill": 1})
    assert "2500 of 5000 backends are found, and the first 200 are shown" in text(page)
    page = otto.post(url, fields(page) | {"find": "10.51.9.250", "set_to": "70", "fill": 1})
    (name,) = page.context["form"].shown
    saved = otto.post(url, fields(page) | {"name": "sale", name: "71"})
    assert saved.status_code == 302
    profile = web.profiles.get()
    found = sorted(profile_value(profile).weights.values())
    assert found == [5] * 2500 + [71]
    # An edit shows those that the profile is about, and takes one of them out.
    url = reverse("profile-edit", args=[profile.pk])
    page = otto.get(url)
    assert "2501 of 5000 backends are found" in text(page)
    page = otto.post(url, fields(page) | {"find": "10.51.", "find-now": 1})
    assert page.context["form"].shown == [name]
    otto.post(url, fields(page) | {name: ""})
    assert set(profile_value(web.profiles.get()).weights.values()) == {5}
    assert "saved and on its way" in text(otto.get(reverse("profile-list", args=[web.pk])))


def test_the_dry_run_of_very_many_shows_those_that_change_first(
    web: Cluster, many: list[Backend], director: Any, otto: Client
) -> None:
    apply_draft(web)
    page = otto.post(reverse("profile-new", args=[web.pk]), typed(many[2400], show=1))
    (run,) = page.context["runs"]
    assert (run.shown[0].then, len(run.shown)) == (7, 200) and "2300 more are not shown" in text(page)


def test_setting_nothing_gives_the_found_ones_the_weights_of_the_table_again(
    web: Cluster, many: list[Backend], otto: Client
) -> None:
    url = reverse("profile-new", args=[web.pk])
    page = otto.post(url, fields(otto.get(url)) | {"set_to": "0", "fill": 1})
    page = otto.post(url, fields(page) | {"find": "192.168.50.20", "set_to": "", "fill": 1, "name": "low"})
    otto.post(url, fields(page) | {"find": "", "name": "low"})
    weights = profile_value(web.profiles.get()).weights
    assert {str(service) for service, _ in weights} == {"TCP 192.168.50.10:80"} and len(weights) == 2500


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"set_to": "1001%"}, "percent of at most 1000%"),
        ({"set_to": "x"}, "Write a weight of at most 65535"),
        ({"find": "x" * 101}, "at most 100 characters"),
        ({"kept": "ab=70000"}, "were damaged on the way"),
        ({"kept": "x" * 400_001}, "were damaged on the way"),
    ],
)
def test_what_cannot_be_found_or_set_gets_a_sentence(
    typed: dict[str, Any], sentence: str, web: Cluster, backend: Backend, otto: Client
) -> None:
    page = otto.post(reverse("profile-new", args=[web.pk]), {"fill": 1, "name": "sale"} | typed)
    assert page.status_code == 200 and sentence in text(page)
    assert 'value="sale"' in page.content.decode()


def test_more_weights_than_a_profile_can_have_are_refused(
    web: Cluster, many: list[Backend], otto: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile_forms, "MOST_WEIGHTS", 2600)
    url = reverse("profile-new", args=[web.pk])
    page = otto.post(url, fields(otto.get(url)) | {"set_to": "7", "fill": 1, "name": "sale"})
    assert "for 2600 backends at most, and this would be 5000." in text(page)
    page = otto.post(url, fields(page) | {"find": "192.168.50.10", "fill": 1})
    assert len(page.context["form"].found) == 2500 and 'value="7"' in page.content.decode()


def test_nothing_found_says_so_and_loses_nothing(web: Cluster, backend: Backend, otto: Client) -> None:
    url = reverse("profile-new", args=[web.pk])
    page = otto.post(url, typed(backend) | {"find": "nowhere", "find-now": 1})
    assert "No backend is found." in text(page)
    otto.post(url, fields(page))
    assert list(profile_value(web.profiles.get()).weights.values()) == [7]


def test_the_dry_run_shows_weights_shares_and_connections_and_saves_nothing(
    web: Cluster, director: Any, backend: Backend, otto: Client
) -> None:
    backends.add_backend(backend.service, backends.BackendFields("192.168.50.12", 80, weight=3), by=ANN)
    backend.service.scheduler = "wrr"
    backend.service.save()
    apply_draft(web)
    page = otto.post(reverse("profile-new", args=[web.pk]), typed(backend, show=1)).content.decode()
    assert "25 %" in page and "70 %" in page and not web.profiles.exists()
    profile = profiles.add_profile(web, said(backend), reason="a test", by=ANN)
    page = otto.get(reverse("profile-detail", args=[profile.pk])).content.decode()
    assert "25 %" in page and "70 %" in page and "Use now" in page


def test_a_removed_profile_is_taken_from_the_directors(
    web: Cluster, job: Job, backend: Backend, otto: Client
) -> None:
    profile = profiles.add_profile(web, said(backend), reason="a test", by=ANN)
    otto.post(reverse("profile-remove", args=[profile.pk]), WHY | {"seen": mark_of(profile)})
    newest = Revision.objects.first()
    assert newest and from_document(newest.traffic).profiles == () and not web.profiles.exists()


def test_nothing_there_says_what_a_profile_is(web: Cluster, otto: Client, vera: Client) -> None:
    url = reverse("profile-list", args=[web.pk])
    assert "Add a profile" in otto.get(url).content.decode()
    assert "This needs the permission “operate” in web" in vera.get(url).content.decode()


def test_hours_in_words() -> None:
    assert hours_words(DAILY) == "Mon-Fri 08:00 to 18:00 Europe/Berlin"
    assert hours_words(Hours(tuple(range(7)), "00:00", "00:00")) == "Every day all day UTC"
    assert hours_words(Hours((0, 2), "22:00", "06:00")) == "Mon, Wed 22:00 to 06:00 UTC"
