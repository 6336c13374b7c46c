"""Drift that is another one by the time that somebody decides about it, and a draft that somebody edited."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from cluster import drifts
from cluster.actions import backends, services
from cluster.actions import drifts as actions
from cluster.actions.problems import Rejected
from cluster.audit import Actor
from cluster.models import AuditEntry, Backend, Cluster, Drift, Job, VirtualService
from tests.panel.conftest import ANN, TalkingDirector, apply_draft, remove, text_of
from tests.panel.test_drifts import BACKEND, NAME, adopt, of_service, shown, tell, wrong

OLGA = Actor("olga")
WHY = {"reason": "not ours"}


@pytest.fixture
def applied(web: Cluster, backend: Backend, director: object, talker: TalkingDirector) -> Cluster:
    run = apply_draft(web).runs.get()
    talker.finish(run)
    return web


@pytest.fixture
def drift(applied: Cluster, talker: TalkingDirector) -> Drift:
    tell(talker, wrong())
    return Drift.objects.get()


def hidden(page: str, url: str) -> dict[str, str]:
    """What the form to this address carries."""
    form = page.split(f'action="{url}"')[1].split("</form>")[0]
    return dict(re.findall(r'name="(seen|seen_draft)" value="([^"]*)"', form))


def test_adopting_a_drift_that_is_another_one_now_writes_nothing(
    drift: Drift, otto: Client, talker: TalkingDirector
) -> None:
    url, page = reverse("drift-adopt", args=[drift.pk]), reverse("drift-list", args=[drift.cluster_id])
    carried = hidden(otto.get(page).content.decode(), url)
    tell(talker, wrong(actual=BACKEND | {"weight": 50}))
    text = text_of(otto.post(url, carried, follow=True))
    assert "is not what the page showed any more: it is weight 50, masquerade" in text
    assert Backend.objects.get().weight == 1
    carried = hidden(otto.get(page).content.decode(), url)
    assert "Review and apply it." in text_of(otto.post(url, carried, follow=True))
    assert Backend.objects.get().weight == 50


def test_adopting_over_what_somebody_edited_in_the_draft_writes_nothing(drift: Drift, otto: Client) -> None:
    url, page = reverse("drift-adopt", args=[drift.pk]), reverse("drift-list", args=[drift.cluster_id])
    carried = hidden(otto.get(page).content.decode(), url)
    backends.set_weight(Backend.objects.get(), seen_version=1, weight=7, by=OLGA)
    text = text_of(otto.post(url, carried, follow=True))
    assert f"olga has edited {NAME} in the draft since you opened the page." in text
    assert Backend.objects.get().weight == 7
    # The page says now what the draft says, so that who adopts has seen it.
    assert "draft: weight 7, masquerade, by olga" in text
    otto.post(url, hidden(otto.get(page).content.decode(), url))
    assert Backend.objects.get().weight == 99


def test_adopting_what_somebody_took_out_of_the_draft_brings_nothing_back_unseen(drift: Drift) -> None:
    carried = shown(drift)
    remove(Backend.objects.get(), by=OLGA)
    with pytest.raises(Rejected, match=f"Somebody has edited {NAME} in the draft"):
        actions.adopt(drift, **carried, by=ANN)
    assert not Backend.objects.exists()
    adopt(drift)
    assert Backend.objects.get().weight == 99


def test_adopting_a_services_scheduler_minds_its_own_row_alone(
    applied: Cluster, service: VirtualService, talker: TalkingDirector
) -> None:
    tell(talker, of_service())
    row = Drift.objects.get()
    carried = shown(row)
    backends.set_weight(Backend.objects.get(), seen_version=1, weight=7, by=OLGA)
    fields = services.ServiceFields("tcp", "192.168.50.10", 80, name="theirs")
    services.edit_service(service, fields, seen_version=1, by=OLGA)
    with pytest.raises(Rejected, match="olga has edited"):
        actions.adopt(row, **carried, by=ANN)
    carried = shown(row)
    backends.set_weight(Backend.objects.get(), seen_version=2, weight=8, by=OLGA)
    actions.adopt(row, **carried, by=ANN)
    saved = VirtualService.objects.get()
    assert (saved.scheduler, saved.name) == ("wlc", "theirs")


def test_adopting_that_a_service_is_gone_minds_its_backends_too(
    applied: Cluster, service: VirtualService, talker: TalkingDirector
) -> None:
    tell(talker, of_service(actual=None))
    row = Drift.objects.get()
    carried = shown(row)
    backends.add_backend(service, backends.BackendFields("192.168.50.12", 80), by=OLGA)
    with pytest.raises(Rejected, match="in the draft since you opened the page"):
        actions.adopt(row, **carried, by=ANN)
    assert Backend.objects.count() == 2


def test_reverting_a_drift_that_is_another_one_now_sends_nothing_and_asks_again(
    drift: Drift, otto: Client, talker: TalkingDirector
) -> None:
    url = reverse("drift-revert", args=[drift.pk])
    seen = otto.get(url).context["part"].seen
    tell(talker, wrong(actual=BACKEND | {"weight": 50}))
    response = otto.post(url, WHY | {"seen": seen})
    assert "it is weight 50, masquerade, and should be weight 1, masquerade" in text_of(response)
    assert 'value="not ours"' in text_of(response) and not Job.objects.filter(kind="repair").exists()
    assert otto.post(url, WHY | {"seen": response.context["part"].seen}).status_code == 302
    assert Job.objects.filter(kind="repair").count() == 1


@pytest.mark.parametrize("seen", ["", "x", "0" * 64])
def test_a_page_that_carries_nonsense_decides_nothing(drift: Drift, otto: Client, seen: str) -> None:
    before = AuditEntry.objects.count()
    for name in ("drift-adopt", "drift-revert"):
        said = {"seen": seen, "seen_draft": seen} | WHY
        assert "any more" in text_of(otto.post(reverse(name, args=[drift.pk]), said, follow=True))
    said = shown(drift) | {"seen_draft": seen}
    assert "in the draft since" in text_of(
        otto.post(reverse("drift-adopt", args=[drift.pk]), said, follow=True)
    )
    assert AuditEntry.objects.count() == before and Backend.objects.get().weight == 1


def test_what_the_page_shows_of_drift_costs_no_query_a_row(
    applied: Cluster, talker: TalkingDirector, django_assert_max_num_queries: object
) -> None:
    many = [
        wrong() | {"backend": {"address": f"192.168.60.{last}", "port": 80}, "wanted": None}
        for last in range(1, 60)
    ]
    tell(talker, *many)
    with django_assert_max_num_queries(8):  # type: ignore[operator]
        assert len(drifts.shown(Cluster.objects.get(pk=applied.pk))) == 59
