"""Who removes what somebody else has just changed: nothing goes unseen, and the page says who did what."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cluster import access
from cluster.actions import backends, policies, profiles, services
from cluster.actions.problems import Changed
from cluster.audit import Actor
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.policy import Policy
from cluster.models import Backend, Cluster, VirtualService, WeightProfile
from cluster.seen import mark_of
from tests.panel.conftest import ANN, remove, text_of
from tests.panel.test_profiles import said

OLGA = Actor("olga")
WHY = {"reason": "not needed any more"}


class Asking:
    """The page that asks before it removes, as a browser holds it."""

    def __init__(self, client: Client, name: str, row: Any, **typed: str) -> None:
        self.client, self.url, self.typed = client, reverse(name, args=[row.pk]), typed
        self.take(client.get(self.url))

    def take(self, response: Any) -> None:
        self.status, self.text = response.status_code, text_of(response)
        if found := re.search(r'name="seen" value="([^"]*)"', self.text):
            self.seen = unescape(found[1])

    def press(self) -> Asking:
        self.take(self.client.post(self.url, self.typed | {"seen": self.seen}))
        return self


@pytest.fixture
def profile(web: Cluster, backend: Backend) -> WeightProfile:
    return profiles.add_profile(web, said(backend, name="night"), reason="a test", by=ANN)


def edit_the_service(service: VirtualService) -> None:
    fields = services.ServiceFields("tcp", "192.168.50.10", 80, name="shop", scheduler="wlc")
    services.edit_service(service, fields, seen_version=1, by=OLGA)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("the service", ["service.edit", "scheduler", "wlc"]),
        ("its policy", ["service.set-policy"]),
        ("a backend's weight", ["backend.set-weight", "192.168.50.11:80 of TCP 192.168.50.10:80", "<ins>7"]),
        ("a new backend", ["backend.add", "192.168.50.12:80 of TCP 192.168.50.10:80"]),
        ("a backend less", ["backend.remove", "192.168.50.11:80 of TCP 192.168.50.10:80"]),
    ],
)
def test_a_service_that_somebody_changed_stays_and_the_page_says_who_and_what(
    otto: Client, service: VirtualService, backend: Backend, what: str, words: list[str]
) -> None:
    page = Asking(otto, "service-remove", service, confirm="192.168.50.10:80")
    change = {
        "the service": lambda: edit_the_service(service),
        "its policy": lambda: policies.set_policy(
            service, Policy(Check(CheckKind.TCP)), seen_version=1, is_administrator=True, by=OLGA
        ),
        "a backend's weight": lambda: backends.set_weight(backend, seen_version=1, weight=7, by=OLGA),
        "a new backend": lambda: backends.add_backend(
            service, backends.BackendFields("192.168.50.12", 80), by=OLGA
        ),
        "a backend less": lambda: remove(backend, by=OLGA),
    }
    change[what]()
    page.press()
    assert VirtualService.objects.exists() and page.status == 200
    assert "olga has changed it since you opened this page" in page.text and "Nothing was done" in page.text
    assert all(one in page.text for one in words), page.text
    # Asked again, of what there is now.
    assert page.press().status == 302
    assert not VirtualService.objects.exists()


def test_who_types_the_wrong_name_still_learns_of_the_change(otto: Client, service: VirtualService) -> None:
    page = Asking(otto, "service-remove", service, confirm="wrong")
    edit_the_service(service)
    page.press()
    assert "Nothing was done" in page.text and "olga has changed it" in page.text


def test_a_backend_that_somebody_changed_stays(otto: Client, backend: Backend) -> None:
    page = Asking(otto, "backend-remove", backend)
    backends.set_weight(backend, seen_version=1, weight=7, by=OLGA)
    page.press()
    assert Backend.objects.exists() and "olga has changed it since you opened this page" in page.text
    assert "backend.set-weight" in page.text and "<ins>7</ins>" in page.text
    assert page.press().status == 302 and not Backend.objects.exists()


def test_another_backend_is_in_nobodys_way(otto: Client, service: VirtualService, backend: Backend) -> None:
    page = Asking(otto, "backend-remove", backend)
    backends.add_backend(service, backends.BackendFields("192.168.50.12", 80), by=OLGA)
    assert page.press().status == 302 and not Backend.objects.filter(pk=backend.pk).exists()


def test_a_profile_that_somebody_changed_stays(
    otto: Client, web: Cluster, backend: Backend, profile: WeightProfile
) -> None:
    page = Asking(otto, "profile-remove", profile, **WHY)
    profiles.edit_profile(
        profile, said(backend, 9, name="night", at=4), seen_version=1, reason="a test", by=OLGA
    )
    page.press()
    assert WeightProfile.objects.exists() and "olga has changed it since you opened this page" in page.text
    assert "profile.edit" in page.text and 'value="not needed any more"' in page.text
    assert page.press().status == 302 and not WeightProfile.objects.exists()


def test_a_profile_that_somebody_uses_since_stays_too(
    otto: Client, web: Cluster, backend: Backend, profile: WeightProfile
) -> None:
    other = profiles.add_profile(web, said(backend, name="sale"), reason="a test", by=ANN)
    page = Asking(otto, "profile-remove", profile, **WHY)
    profiles.use_profile(profile, seen=mark_of(profile), reason="peak", by=OLGA)
    assert "profile.use" in page.press().text and WeightProfile.objects.filter(name="night").exists()
    profiles.use_profile(other, seen=mark_of(other), reason="peak", by=Actor("paul"))
    assert "paul has changed it" in page.press().text and WeightProfile.objects.filter(name="night").exists()


@pytest.mark.parametrize("seen", ["", "x", "7", ".", "9" * 40 + "."])
def test_a_page_that_carries_nonsense_removes_nothing(
    otto: Client, service: VirtualService, backend: Backend, profile: WeightProfile, seen: str
) -> None:
    for name, row in (("service-remove", service), ("backend-remove", backend), ("profile-remove", profile)):
        page = Asking(otto, name, row, confirm="192.168.50.10:80", **WHY)
        page.seen = seen
        assert page.press().status == 200 and type(row)._default_manager.filter(pk=row.pk).exists()


def test_who_is_faster_between_the_look_and_the_removal_is_shown_too(
    otto: Client, service: VirtualService, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Asking(otto, "service-remove", service, confirm="192.168.50.10:80")
    found, faster = access.get_service, [7]

    def late(*args: Any, **kwargs: Any) -> VirtualService:
        row = found(*args, **kwargs)
        monkeypatch.setattr(services, "remove_service", lambda *said, **more: beaten(*said, **more))
        return row

    remove_service = services.remove_service

    def beaten(*args: Any, **kwargs: Any) -> None:
        if faster:
            backends.set_weight(
                Backend.objects.get(pk=backend.pk), seen_version=1, weight=faster.pop(), by=OLGA
            )
        remove_service(*args, **kwargs)

    monkeypatch.setattr(access, "get_service", late)
    page.press()
    assert "olga has changed it" in page.text and VirtualService.objects.exists()


def test_the_actions_refuse_by_themselves(service: VirtualService, backend: Backend) -> None:
    seen, seen_service = mark_of(backend), mark_of(service)
    backends.set_weight(backend, seen_version=1, weight=7, by=OLGA)
    with pytest.raises(Changed, match="Nothing was done"):
        backends.remove_backend(backend, seen=seen, by=ANN)
    with pytest.raises(Changed, match="Nothing was done"):
        services.remove_service(service, seen=seen_service, by=ANN)
    assert Backend.objects.exists()
