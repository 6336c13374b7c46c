"""The dry run of load rules, by what directors hear and count now: before one is saved and while it runs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cluster import desired
from cluster.actions import backends, policies
from cluster.ipvs.traffic.policy import LoadRule, LoadSource, Policy
from cluster.load_run import LoadRun
from cluster.models import Backend, Cluster, Director, Job, VirtualService
from cluster.policy_forms import PolicyForm
from tests.panel.conftest import ANN, FakeRedis, TalkingDirector, apply_draft

KEY = {"protocol": "tcp", "address": "192.168.50.10", "port": 80}
BY_CONNECTIONS = Policy(load=LoadRule(LoadSource.CONNECTIONS, least_percent=20))
BY_AGENT = Policy(load=LoadRule(port=9999))


@pytest.fixture
def two(web: Cluster, service: VirtualService, director: Director) -> VirtualService:
    """A service with two backends of weight 100, applied."""
    service.scheduler = "wrr"
    service.save()
    for last, name in ((11, "real1"), (12, "real2")):
        said = backends.BackendFields(f"192.168.50.{last}", 80, weight=100, name=name)
        backends.add_backend(service, said, by=ANN)
    apply_draft(web)
    return service


def show(
    talker: TalkingDirector, *active: int, loads: tuple[int, ...] = (), weights: Any = (100, 100)
) -> None:
    """A frame with that many connections on each backend, and what was observed of their loads."""
    held = [
        {"address": f"192.168.50.{last}", "port": 80, "forwarding": "masquerade", "weight": weight}
        | {"active": found}
        for last, weight, found in zip((11, 12), weights, active, strict=True)
    ]
    said = [
        {"service": KEY, "address": f"192.168.50.{last}", "port": 80, "percent": percent}
        for last, percent in zip((11, 12), loads, strict=False)
    ]
    service = KEY | {"scheduler": "wrr", "owned": True, "backends": held}
    talker.frame(services=[service], observed={"loads": said})


def save(service: VirtualService, policy: Policy) -> None:
    seen = VirtualService.objects.get(pk=service.pk).version
    policies.set_policy(service, policy, seen_version=seen, is_administrator=False, by=ANN)


def posted(client: Client, service: VirtualService, policy: Policy, **changes: Any) -> Any:
    given = PolicyForm.initial_of(policy) | {"version": service.version, "show": 1} | changes
    given = {name: value for name, value in given.items() if value is not None and value is not False}
    return client.post(reverse("service-health", args=[service.pk]), given)


def text(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", answer.content.decode()))


def weights(loads: LoadRun) -> list[list[int | None]]:
    return [[stage.weight for stage in row.stages] for row in loads.directors[0].backends]


def test_where_the_connections_lead_is_shown_before_anything_is_saved(
    two: VirtualService, talker: TalkingDirector, otto: Client
) -> None:
    show(talker, 900, 100)
    answer = posted(otto, two, BY_CONNECTIONS)
    (first, second) = weights(answer.context["loads"])
    assert first[:2] == [100, 100] and first[2] is not None and 50 <= first[2] < 70
    assert second == [100, 100, 100]
    assert "between 20 and 100 % of the weight" in text(answer)
    assert "weights move for about" in text(answer)
    assert desired.policy_value(VirtualService.objects.get(pk=two.pk)) == Policy()


def test_a_limit_that_holds_a_weight_is_named(
    two: VirtualService, talker: TalkingDirector, otto: Client
) -> None:
    show(talker, 900, 100)
    narrow = Policy(load=LoadRule(LoadSource.CONNECTIONS, least_percent=80))
    answer = posted(otto, two, narrow)
    assert weights(answer.context["loads"])[0] == [100, 100, 80] and "at the least" in text(answer)


def test_a_rule_that_runs_is_shown_with_what_it_has_come_to(
    two: VirtualService, talker: TalkingDirector, otto: Client
) -> None:
    save(two, BY_CONNECTIONS)
    show(talker, 500, 500, loads=(60, 100), weights=(60, 100))
    page = otto.get(reverse("service-health", args=[two.pk]))
    (first, _) = weights(page.context["loads"])
    assert first[:2] == [60, 60] and first[2] is not None and first[2] > 90
    assert 'id="loads"' in page.content.decode()
    link = reverse("service-health", args=[two.pk]) + "#loads"
    assert link in otto.get(reverse("service-detail", args=[two.pk])).content.decode()
    assert "38 %" in text(page)


def test_the_last_answers_of_agents_count_and_others_can_be_tried(
    two: VirtualService, talker: TalkingDirector, otto: Client
) -> None:
    show(talker, 1, 1, loads=(50,))
    answer = posted(otto, two, BY_AGENT)
    assert weights(answer.context["loads"]) == [[100, 50], [100, 100]] and "67 %" in text(answer)
    answer = posted(otto, two, BY_AGENT, load_tried="real2 25%\n192.168.50.11 drain")
    assert weights(answer.context["loads"]) == [[100, 0], [100, 25]]
    assert "its agent wants to be drained" in text(answer) and "tried" in text(answer)
    # The limits hold for a try as well.
    answer = posted(otto, two, BY_AGENT, load_tried="192.168.50.12:80 5%")
    assert weights(answer.context["loads"])[1] == [100, 10]


@pytest.mark.parametrize(
    ("tried", "sentence"),
    [
        ("real3 25%", "“real3 25%” names no backend of this service."),
        ("real2 fast", "“real2 fast” has no answer of an agent: up, drain or 75%."),
        ("real2", "“real2” names no backend of this service."),
        ("x" * 20_000, "at most 10000 characters"),
    ],
)
def test_a_try_that_cannot_be_read_is_refused_with_a_sentence(
    tried: str, sentence: str, two: VirtualService, otto: Client
) -> None:
    answer = posted(otto, two, BY_AGENT, load_tried=tried)
    assert sentence in " ".join(answer.context["form"].errors["load_tried"])
    assert tried[:20] in answer.content.decode() and "loads" not in answer.context


def test_connections_have_no_answers_to_try(two: VirtualService, otto: Client) -> None:
    answer = posted(otto, two, BY_CONNECTIONS, load_tried="real2 25%")
    assert "no agent is asked" in " ".join(answer.context["form"].errors["load_tried"])


def test_an_address_that_two_backends_share_names_neither(two: VirtualService, otto: Client) -> None:
    backends.add_backend(two, backends.BackendFields("192.168.50.12", 81, weight=1), by=ANN)
    answer = posted(otto, two, BY_AGENT, load_tried="192.168.50.12 25%")
    assert "Write its address and port" in " ".join(answer.context["form"].errors["load_tried"])
    assert "loads" in posted(otto, two, BY_AGENT, load_tried="192.168.50.12:81 25%").context


def test_what_nobody_has_said_is_said(
    two: VirtualService, talker: TalkingDirector, otto: Client, redis: FakeRedis
) -> None:
    show(talker, 1, 1)
    assert "No agent has answered" in text(posted(otto, two, BY_AGENT))
    redis.values.clear()
    answer = posted(otto, two, BY_CONNECTIONS)
    assert "director1 is not heard" in text(answer)
    assert weights(answer.context["loads"]) == [[None, 100, 100]] * 2
    redis.is_up = False
    assert "Redis does not answer" in text(posted(otto, two, BY_AGENT))
    Director.objects.update(cluster=None)
    redis.is_up = True
    assert "The cluster has no director" in text(posted(otto, two, BY_AGENT))


def test_of_very_many_backends_those_that_move_are_shown_first(
    two: VirtualService, talker: TalkingDirector, otto: Client
) -> None:
    Backend.objects.bulk_create(
        Backend(service=two, address=f"10.9.{at // 250}.{at % 250 + 1}", port=80, weight=100, changed_by="")
        for at in range(2000)
    )
    talker.frame()
    answer = posted(otto, two, BY_AGENT, load_tried="10.9.7.250:80 25%")
    run = answer.context["loads"].directors[0]
    assert run.shown[0].backend.address == "10.9.7.250" and len(run.shown) == 200
    assert "1802 more backends are not shown" in text(answer)


def test_without_a_rule_there_is_nothing_to_show(two: VirtualService, otto: Client) -> None:
    answer = posted(otto, two, Policy())
    assert "Choose whose word weights follow" in " ".join(answer.context["form"].errors["load_source"])
    assert otto.get(reverse("service-health", args=[two.pk])).context["loads"] is None
    answer = posted(otto, two, Policy(load=LoadRule(port=0)))
    assert "Give the port of the agent" in " ".join(answer.context["form"].errors["load_port"])


def test_a_drain_and_a_service_that_is_not_applied_are_counted_in(
    job: Job, backend: Backend, talker: TalkingDirector, otto: Client
) -> None:
    service = backend.service
    added = backends.add_backend(service, backends.BackendFields("192.168.50.12", 80, weight=4), by=ANN)
    service.cluster.drains.create(
        targets=[{"address": "192.168.50.11"}], begins_at=backend.changed_at, author_name="ann"
    )
    talker.frame()
    answer = posted(otto, service, BY_AGENT)
    assert weights(answer.context["loads"]) == [[None, 0], [None, 4]], added
    assert "drain" in text(answer)
