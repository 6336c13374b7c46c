"""Many backends at once: each has its own outcome."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cluster.actions import backends, drains, services
from cluster.audit import Actor
from cluster.ipvs.traffic.policy import Target
from cluster.models import Backend, Cluster, Director, Drain, VirtualService
from tests.panel.conftest import ANN, apply_draft, text_of


@pytest.fixture
def four(web: Cluster, service: VirtualService, director: Director) -> list[Backend]:
    """Two services with two backends each, applied."""
    other = services.add_service(web, services.ServiceFields("udp", "192.168.50.10", 53), by=ANN)
    added = [
        backends.add_backend(one, backends.BackendFields(f"192.168.50.{last}", one.port), by=ANN)
        for one in (service, other)
        for last in (11, 12)
    ]
    apply_draft(web)
    return added


def ticked(*chosen: Backend) -> list[str]:
    return [f"{one.pk}:{one.version}:{one.weight}" for one in chosen]


def contested(response: Any) -> dict[int, tuple[str, str, str, str]]:
    """What the page shows of those that somebody else was faster at: was, is, wanted, and who."""
    return {
        backend.pk: (one.opened, one.theirs, one.mine, opened.changed_by)
        for backend, opened in response.context["contested"]
        for one in opened.differences
    }


def weights() -> dict[int, int]:
    return dict(Backend.objects.values_list("pk", "weight"))


def test_a_weight_is_set_in_the_draft_of_all_but_those_that_somebody_changed(
    web: Cluster, four: list[Backend], otto: Client
) -> None:
    asked = {"do": "set-weight", "weight": "7", "backend": ticked(four[0], four[3])}
    backends.set_weight(Backend.objects.get(pk=four[3].pk), seen_version=1, weight=2, by=ANN)
    response = otto.post(reverse("cluster-bulk", args=[web.pk]), asked)
    assert "1 done, 0 refused, 1 changed by somebody else" in text_of(response)
    assert contested(response) == {four[3].pk: ("1", "2", "7", "ann")}
    assert weights() == {four[0].pk: 7, four[1].pk: 1, four[2].pk: 1, four[3].pk: 2}


def test_where_several_were_faster_one_table_shows_all_and_mine_goes_on_top_where_ticked(
    web: Cluster, four: list[Backend], otto: Client
) -> None:
    url, asked = reverse("cluster-bulk", args=[web.pk]), {"do": "set-weight", "weight": "7"}
    for one, weight in ((four[1], 2), (four[2], 3), (four[3], 4)):
        backends.set_weight(Backend.objects.get(pk=one.pk), seen_version=1, weight=weight, by=ANN)
    response = otto.post(url, asked | {"backend": ticked(*four)})
    assert sorted(contested(response)) == sorted(one.pk for one in four[1:])
    boxes = sorted(re.findall(r'name="backend" value="([^"]+)" checked', response.content.decode()))
    assert boxes == [f"{one.pk}:2:{weight}" for one, weight in zip(four[1:], (2, 3, 4), strict=True)]
    # A third is faster at one of those that are kept; what is not ticked stays as ann made it.
    backends.set_weight(Backend.objects.get(pk=four[1].pk), seen_version=2, weight=9, by=Actor("paul"))
    response = otto.post(url, asked | {"backend": boxes[:2]})
    assert contested(response) == {four[1].pk: ("2", "9", "7", "paul")}
    assert weights() == {four[0].pk: 7, four[1].pk: 9, four[2].pk: 7, four[3].pk: 4}


def test_who_is_faster_between_the_look_and_the_save_is_shown_too(
    web: Cluster, four: list[Backend], otto: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, faster = backends.set_weight, [2]

    def late(backend: Backend, **said: Any) -> None:
        if faster:
            save(Backend.objects.get(pk=backend.pk), seen_version=1, weight=faster.pop(), by=ANN)
        save(backend, **said)

    monkeypatch.setattr(backends, "set_weight", late)
    asked = {"do": "set-weight", "weight": "7", "backend": ticked(*four[:2])}
    response = otto.post(reverse("cluster-bulk", args=[web.pk]), asked)
    assert contested(response) == {four[0].pk: ("1", "2", "7", "ann")}
    assert weights() == {four[0].pk: 2, four[1].pk: 7, four[2].pk: 1, four[3].pk: 1}


def test_who_changed_something_else_is_in_nobodys_way(
    web: Cluster, four: list[Backend], otto: Client
) -> None:
    named = backends.BackendFields(four[0].address, four[0].port, name="theirs")
    backends.edit_backend(four[0], named, seen_version=1, by=ANN)
    asked = {"do": "set-weight", "weight": "7", "backend": [f"{four[0].pk}:1:1"]}
    assert "1 done, 0 refused" in text_of(otto.post(reverse("cluster-bulk", args=[web.pk]), asked))
    row = Backend.objects.get(pk=four[0].pk)
    assert (row.weight, row.name) == (7, "theirs")
    # Sent again, nothing is done twice.
    page = text_of(otto.post(reverse("cluster-bulk", args=[web.pk]), asked))
    assert "1 done, 0 refused" in page and "Weight 7 in the draft already." in page
    assert Backend.objects.get(pk=four[0].pk).version == row.version


def test_a_drain_of_many_is_one_drain_and_names_those_that_it_leaves(
    web: Cluster, four: list[Backend], otto: Client
) -> None:
    asked = {"do": "drain", "reason": "new kernel", "backend": ticked(four[0], four[2], four[3])}
    page = otto.post(reverse("cluster-bulk", args=[web.pk]), asked).content.decode()
    # Both backends of the second service together would leave nobody.
    assert "1 done, 2 refused" in page and "Drain it on its own page" in page
    assert [len(row.targets) for row in Drain.objects.all()] == [1]
    page = otto.post(reverse("cluster-bulk", args=[web.pk]), asked | {"backend": ticked(*four[::2])})
    assert "drained already" in page.content.decode() and "1 done, 1 refused" in page.content.decode()


def test_undrain_of_many_leaves_a_drain_that_has_others(
    web: Cluster, four: list[Backend], otto: Client
) -> None:
    def begin(target: Target) -> Drain:
        return drains.drain(web, [target], begins_at=None, ends_at=None, cut_at=None, reason="a test", by=ANN)

    host = begin(Target(address="192.168.50.11"))
    url = reverse("cluster-bulk", args=[web.pk])
    page = otto.post(
        url, {"do": "undrain", "reason": "done", "backend": ticked(four[0], four[1])}
    ).content.decode()
    assert "1 more backend that is not ticked" in page and "No drain has it." in page
    host.refresh_from_db()
    assert host.ended_at is None
    page = otto.post(
        url, {"do": "undrain", "reason": "done", "backend": ticked(four[0], four[2])}
    ).content.decode()
    assert "2 done, 0 refused" in page
    host.refresh_from_db()
    assert host.ended_at is not None


def test_a_window_for_many_is_planned_on_the_page_of_drains(
    web: Cluster, four: list[Backend], otto: Client
) -> None:
    asked = {"do": "plan", "backend": ticked(four[0], four[2])}
    answer = otto.post(reverse("cluster-bulk", args=[web.pk]), asked)
    assert answer.status_code == 302
    window = {"begins_at": "2040-03-01T04:00", "ends_at": "2040-03-01T05:00", "reason": "memory"}
    otto.post(answer["Location"], window)
    assert [len(row.targets) for row in Drain.objects.all()] == [2]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"do": "drain"}, "Tick at least one backend."),
        ({"do": "drain", "backend": ["x", "1", "1:1", "9" * 40 + ":1:1"]}, "Tick at least one backend."),
        ({"do": "set-weight", "backend": ["1:1:1"], "weight": "70000"}, "The weight must be between"),
        ({"do": "explode", "backend": ["1:1:1"]}, "Select a valid choice"),
    ],
)
def test_what_makes_no_sense_is_said_on_the_clusters_page(
    web: Cluster, four: list[Backend], otto: Client, said: dict[str, object], sentence: str
) -> None:
    page = otto.post(reverse("cluster-bulk", args=[web.pk]), said, follow=True).content.decode()
    assert sentence in page


def test_backends_of_other_clusters_are_not_touched(
    web: Cluster, other: Cluster, four: list[Backend], mallory: Client
) -> None:
    asked = {"do": "set-weight", "weight": "7", "backend": ticked(four[0])}
    page = mallory.post(reverse("cluster-bulk", args=[other.pk]), asked).content.decode()
    assert "0 done, 0 refused" in page
    assert Backend.objects.get(pk=four[0].pk).weight == 1


def test_what_was_ticked_and_typed_comes_back_with_what_is_wrong(
    web: Cluster, four: list[Backend], otto: Client
) -> None:
    said = {"do": "set-weight", "weight": "70000", "reason": "new kernel", "ticket": "OPS-7"}
    response = otto.post(reverse("cluster-bulk", args=[web.pk]), said | {"backend": ticked(four[2])})
    page = response.content.decode()
    assert response.status_code == 200 and page.count("The weight must be between") == 2
    assert re.findall(r'name="backend" value="(\d+):[^>]+ checked', page) == [str(four[2].pk)]
    assert '<option value="set-weight" selected' in page and 'value="70000" aria-invalid="true"' in page
    assert 'value="new kernel"' in page and 'value="OPS-7"' in page


def test_a_window_for_many_begins_with_the_reason_that_was_typed(
    web: Cluster, four: list[Backend], otto: Client
) -> None:
    said = {"do": "plan", "reason": "new <kernel>", "ticket": "OPS-7", "backend": ticked(four[0])}
    page = otto.post(reverse("cluster-bulk", args=[web.pk]), said, follow=True).content.decode()
    assert 'value="new &lt;kernel&gt;"' in page and 'value="OPS-7"' in page
