"""Who comes second at a form: nothing is overwritten, nothing that was typed is lost."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import reverse

from cluster.actions import backends, clusters, policies, profiles, services
from cluster.audit import Actor
from cluster.desired import policy_value
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.policy import Hours, Policy
from cluster.models import Backend, Cluster, VirtualService, WeightProfile
from tests.panel.conftest import remove
from tests.panel.test_profiles import said

OLGA = Actor("olga")


class Page:
    """A form as a browser holds it: its fields with their values, and what is sent with a button."""

    def __init__(self, client: Client, url: str) -> None:
        self.client, self.url = client, url
        self.take(client.get(url))

    def take(self, response: Any) -> None:
        self.response = response
        self.text = response.content.decode()
        self.form = response.context["form"] if response.status_code == 200 else None
        if self.form is None:
            return
        self.fields: dict[str, list[str]] = {}
        for name in self.form.fields:
            value = self.form[name].value()
            several = value if isinstance(value, list | tuple) else [value]
            if value is not False:  # a box that is not ticked sends nothing
                self.fields[name] = [
                    "on" if one is True else "" if one is None else str(one) for one in several
                ]
        for name in ("opened", "wanted"):
            if found := re.search(rf'name="{name}" value="([^"]*)"', self.text):
                self.fields[name] = [unescape(found[1])]

    def type(self, **values: Any) -> Page:
        self.fields |= {name: [str(value)] for name, value in values.items()}
        return self

    def press(self, **button: str) -> Page:
        body = urlencode({**self.fields, **button}, doseq=True)
        self.take(self.client.post(self.url, body, content_type="application/x-www-form-urlencoded"))
        return self

    @property
    def rows(self) -> dict[str, tuple[str, str, str]]:
        found = self.response.context["opened"].differences
        return {one.name: (one.opened, one.theirs, one.mine) for one in found}


def fields_of(backend: Backend, **changes: Any) -> backends.BackendFields:
    return backends.BackendFields(**({name: getattr(backend, name) for name in backends.NAMES} | changes))


def test_the_loser_sees_all_three_and_nothing_is_saved(otto: Client, backend: Backend) -> None:
    page = Page(otto, reverse("backend-edit", args=[backend.pk])).type(weight=3, name="mine")
    backends.edit_backend(backend, fields_of(backend, weight=7, upper=50), seen_version=1, by=OLGA)
    page.press()
    assert page.rows == {"weight": ("1", "7", "3"), "name": ("", "", "mine"), "upper": ("0", "50", "0")}
    assert "olga has changed it since you opened this form" in page.text and "changed by both" in page.text
    row = Backend.objects.get()
    assert (row.weight, row.name, row.upper, row.version) == (7, "", 50, 2)


def test_what_only_they_changed_comes_along_and_what_only_i_changed_stays(
    otto: Client, backend: Backend
) -> None:
    page = Page(otto, reverse("backend-edit", args=[backend.pk])).type(name="mine")
    backends.edit_backend(backend, fields_of(backend, weight=7), seen_version=1, by=OLGA)
    assert page.press().press().response.status_code == 302
    row = Backend.objects.get()
    assert (row.weight, row.name, row.version) == (7, "mine", 3)


def test_one_click_takes_theirs_or_keeps_mine(otto: Client, backend: Backend) -> None:
    page = Page(otto, reverse("backend-edit", args=[backend.pk])).type(weight=3, name="mine")
    backends.edit_backend(backend, fields_of(backend, weight=7, name="theirs"), seen_version=1, by=OLGA)
    page.press().press(take="weight").press(take="name").press(keep="name")
    assert (page.fields["weight"], page.fields["name"]) == (["7"], ["mine"])
    assert Backend.objects.get().version == 2
    assert page.press().response.status_code == 302
    row = Backend.objects.get()
    assert (row.weight, row.name) == (7, "mine")


def row_of(client: Client, backend: Backend) -> Page:
    """The quick form of a weight, in its row of the service's page."""
    page = Page.__new__(Page)
    page.client, page.url = client, reverse("backend-set-weight", args=[backend.pk])
    text = client.get(reverse("service-detail", args=[backend.service_id])).content.decode()
    form = text.split(f'action="{page.url}"')[1].split("</form>")[0]
    found = re.findall(r'name="(version|opened|weight)"[^>]* value="([^"]*)"', form)
    page.fields = {name: [unescape(value)] for name, value in found}
    return page


def test_a_weight_that_comes_second_is_shown_beside_theirs(otto: Client, backend: Backend) -> None:
    page = row_of(otto, backend).type(weight=3)
    backends.set_weight(backend, seen_version=1, weight=7, by=OLGA)
    page.press()
    assert page.rows == {"weight": ("1", "7", "3")} and "olga has changed it" in page.text
    assert (page.fields["weight"], Backend.objects.get().weight) == (["3"], 7)
    assert page.press(take="weight").fields["weight"] == ["7"]
    assert page.press(keep="weight").press().response.status_code == 302
    row = Backend.objects.get()
    assert (row.weight, row.version, row.changed_by) == (3, 3, "otto")


def test_a_weight_is_set_where_somebody_changed_something_else_or_wants_the_same(
    otto: Client, backend: Backend
) -> None:
    page = row_of(otto, backend).type(weight=3)
    backends.edit_backend(backend, fields_of(backend, name="theirs"), seen_version=1, by=OLGA)
    assert page.press().response.status_code == 302
    row = Backend.objects.get()
    assert (row.weight, row.name) == (3, "theirs")
    page = row_of(otto, row).type(weight=5)
    backends.set_weight(row, seen_version=3, weight=5, by=OLGA)
    assert page.press().response.status_code == 302
    assert Backend.objects.get().weight == 5


def test_a_weight_that_cannot_be_is_said_at_its_field(otto: Client, backend: Backend) -> None:
    page = row_of(otto, backend).type(weight=70000).press()
    assert "The weight must be between 0 and 65535." in page.text and page.fields["weight"] == ["70000"]


def test_a_weight_of_a_backend_that_is_gone_is_not_lost(otto: Client, backend: Backend) -> None:
    page = row_of(otto, backend).type(weight=37)
    remove(backend, by=OLGA)
    answer = otto.post(page.url, page.fields)
    assert answer.status_code == 404 and "<dd>37</dd>" in answer.content.decode()


def test_what_was_typed_is_shown_where_the_object_is_gone(otto: Client, backend: Backend) -> None:
    page = Page(otto, reverse("backend-edit", args=[backend.pk])).type(weight=37, name="<real1>")
    remove(backend, by=OLGA)
    answer = otto.post(page.url, page.fields)
    text = answer.content.decode()
    assert answer.status_code == 404 and "What you typed" in text
    assert "<dd>37</dd>" in text and "&lt;real1&gt;" in text and "csrf" not in text.split('id="typed"')[1]
    assert "What you typed" not in otto.get(page.url).content.decode()


def test_a_third_who_is_faster_still_is_shown_as_well(otto: Client, backend: Backend) -> None:
    page = Page(otto, reverse("backend-edit", args=[backend.pk])).type(weight=3)
    backends.edit_backend(backend, fields_of(backend, weight=7), seen_version=1, by=OLGA)
    page.press()
    backends.set_weight(backend, seen_version=2, weight=8, by=Actor("paul"))
    page.press()
    assert page.rows == {"weight": ("1", "8", "3")} and "paul has changed it" in page.text
    assert Backend.objects.get().weight == 8


def test_a_wrong_value_beside_the_difference_loses_neither(otto: Client, backend: Backend) -> None:
    page = Page(otto, reverse("backend-edit", args=[backend.pk])).type(weight=3, port="99999")
    backends.edit_backend(backend, fields_of(backend, weight=7), seen_version=1, by=OLGA)
    page.press()
    assert "The port must be between 1 and 65535." in page.text and page.rows["weight"] == ("1", "7", "3")
    page.press()
    assert page.rows["weight"] == ("1", "7", "3") and page.fields["port"] == ["99999"]
    assert page.type(port=80).press().response.status_code == 302


def test_who_changed_something_that_this_form_does_not_show_is_in_nobodys_way(
    otto: Client, service: VirtualService, backend: Backend
) -> None:
    page = Page(otto, reverse("service-edit", args=[service.pk])).type(name="new")
    policies.set_policy(service, Policy(Check(CheckKind.TCP)), seen_version=1, is_administrator=True, by=OLGA)
    assert page.press().response.status_code == 302
    row = VirtualService.objects.get()
    assert (row.name, row.version) == ("new", 3) and policy_value(row).check is not None


def test_services_show_choices_and_options_in_words(otto: Client, service: VirtualService) -> None:
    page = Page(otto, reverse("service-edit", args=[service.pk])).type(scheduler="wrr")
    changed = services.ServiceFields("tcp", "192.168.50.10", 80, name="shop", scheduler="sh", flags=8)
    services.edit_service(service, changed, seen_version=1, by=OLGA)
    page.press()
    was, theirs, mine = page.rows["scheduler"]
    assert was.startswith("rr (") and theirs.startswith("sh (") and mine.startswith("wrr (")
    assert page.rows["flags"][1].startswith("flag-1")
    assert page.press(take="scheduler").press().response.status_code == 302
    row = VirtualService.objects.get()
    assert (row.scheduler, row.flags) == ("sh", 8)


def test_health_policies(otto: Client, service: VirtualService, backend: Backend) -> None:
    page = Page(otto, reverse("service-health", args=[service.pk])).type(ramp_s=30)
    policies.set_policy(service, Policy(ramp_s=60), seen_version=1, is_administrator=True, by=OLGA)
    page.press()
    assert page.rows["ramp_s"] == ("0", "60", "30")
    assert page.press(take="ramp_s").press().response.status_code == 302
    assert policy_value(VirtualService.objects.get()).ramp_s == 60


def test_a_backends_own_check(otto: Client, backend: Backend) -> None:
    page = Page(otto, reverse("backend-health", args=[backend.pk])).type(kind="ping")
    policies.set_override(backend, Check(CheckKind.TCP), seen_version=1, is_administrator=True, by=OLGA)
    page.press()
    was, theirs, mine = page.rows["kind"]
    assert was == "The service's" and theirs.startswith("TCP") and mine.startswith("Ping")


def test_profiles_with_more_hours_than_theirs_lose_none(otto: Client, web: Cluster, backend: Backend) -> None:
    hours = [Hours((0,), f"0{n}:00", f"0{n}:30", "UTC") for n in range(4)]
    row = profiles.add_profile(web, said(backend, 7, *hours, name="night"), reason="a test", by=OLGA)
    page = Page(otto, reverse("profile-edit", args=[row.pk])).type(**{"ends-3": "03:45"})
    late = said(backend, 7, hours[0], name="late")
    profiles.edit_profile(row, late, seen_version=1, reason="a test", by=OLGA)
    page.press()
    assert page.rows["name"] == ("night", "late", "night")
    assert page.rows["ends-3"] == ("03:30", "", "03:45")
    assert page.press(take="ends-3").fields["ends-3"] == [""]
    assert page.press(keep="ends-3").fields["ends-3"] == ["03:45"]


def test_profiles(otto: Client, web: Cluster, backend: Backend) -> None:
    row = profiles.add_profile(web, said(backend, name="night"), reason="a test", by=OLGA)
    page = Page(otto, reverse("profile-edit", args=[row.pk])).type(name="late", reason="a test")
    profiles.edit_profile(row, said(backend, 9, name="dusk", at=4), seen_version=1, reason="a test", by=OLGA)
    page.press()
    assert page.rows["name"] == ("night", "dusk", "late")
    assert page.press().response.status_code == 302
    saved = WeightProfile.objects.get()
    assert (saved.name, saved.position, saved.weights[0]["weight"]) == ("late", 4, 9)


def test_cluster_settings(ann: Client, web: Cluster) -> None:
    page = Page(ann, reverse("cluster-edit", args=[web.pk])).type(description="mine")
    clusters.edit_cluster(web, name="web", description="theirs", approvals=2, seen_version=1, by=OLGA)
    page.press()
    assert page.rows["description"] == ("", "theirs", "mine")
    assert page.rows["approvals"][1] == "Two other people"
    assert page.press().response.status_code == 302
    row = Cluster.objects.get()
    assert (row.description, row.approvals) == ("mine", 2)


@pytest.mark.parametrize(
    "opened", ["", "{", "[]", '{"version": 1}', '{"version": 1, "values": {"weight": 3}}', "[" * 90_000]
)
def test_a_page_that_carries_nonsense_overwrites_nothing(otto: Client, backend: Backend, opened: str) -> None:
    page = Page(otto, reverse("backend-edit", args=[backend.pk])).type(weight=3, opened=opened)
    backends.set_weight(backend, seen_version=1, weight=7, by=OLGA)
    assert page.press().rows["weight"][1:] == ("7", "3")
    assert Backend.objects.get().weight == 7


def test_what_the_page_carries_is_only_text(otto: Client, backend: Backend) -> None:
    nasty = '"><script>alert(1)</script>'
    page = Page(otto, reverse("backend-edit", args=[backend.pk])).type(name=nasty)
    page.type(opened=json.dumps({"version": 1, "values": {"name": [nasty]}}))
    backends.edit_backend(backend, fields_of(backend, name="theirs"), seen_version=1, by=OLGA)
    assert "<script>alert" not in page.press().text
