"""The review says what Apply would do: on which kernel, in words and commands, and what it would cut."""

from __future__ import annotations

from django.test import Client
from django.urls import reverse

from cluster.models import Backend, Director, Job, Run
from tests.panel.conftest import ANN, FakeRedis, TalkingDirector, remove, text_of


def test_the_review_says_the_plan_in_words_and_as_commands(
    otto: Client, backend: Backend, director: Director
) -> None:
    page = text_of(otto.get(reverse("cluster-review", args=[backend.service.cluster_id])))
    assert "Add service TCP 192.168.50.10:80, scheduler rr." in page
    assert "ipvsadm -A -t 192.168.50.10:80 -s rr" in page
    assert "ipvsadm -a -t 192.168.50.10:80 -r 192.168.50.11:80 -m -w 1" in page


def test_a_review_that_knows_only_the_last_report_says_so(
    otto: Client, run: Run, talker: TalkingDirector, redis: FakeRedis
) -> None:
    talker.finish(run)
    talker.frame()
    url = reverse("cluster-review", args=[run.job.cluster_id])
    assert "from its last report" not in text_of(otto.get(url))
    redis.is_up = False
    assert "The steps below are from its last report" in text_of(otto.get(url))


def test_the_review_tells_what_a_removal_cuts(
    otto: Client, run: Run, backend: Backend, talker: TalkingDirector
) -> None:
    talker.finish(run)
    part = {"address": "192.168.50.11", "port": 80, "forwarding": "masquerade", "weight": 1, "active": 412}
    key = {"protocol": "tcp", "address": "192.168.50.10", "port": 80, "scheduler": "rr", "owned": True}
    talker.frame(services=[key | {"backends": [part]}])
    remove(backend, by=ANN)
    page = text_of(otto.get(reverse("cluster-review", args=[run.job.cluster_id])))
    assert "Cuts 412 established connections." in page


def test_the_review_names_services_that_somebody_else_put_there(
    otto: Client, backend: Backend, director: Director, talker: TalkingDirector
) -> None:
    key = {"protocol": "tcp", "address": "192.168.50.10", "port": 80, "scheduler": "lc", "owned": False}
    talker.frame(services=[key | {"backends": []}])
    page = text_of(otto.get(reverse("cluster-review", args=[director.cluster_id])))
    assert "was not put there by the panel" in page


def test_the_review_plans_on_what_the_kernel_holds_now(
    otto: Client, director: Director, backend: Backend, talker: TalkingDirector
) -> None:
    """A director that joins with services of an earlier life: the removal must not come as a surprise."""
    old = {"protocol": "tcp", "address": "192.168.50.66", "port": 80, "scheduler": "rr", "backends": []}
    talker.frame(services=[old | {"owned": True}])
    page = text_of(otto.get(reverse("cluster-review", args=[director.cluster_id])))
    assert "Remove service TCP 192.168.50.66:80" in page


def test_a_virtual_address_that_no_director_has_is_named(
    otto: Client, director: Director, backend: Backend, talker: TalkingDirector
) -> None:
    talker.hello(addresses=["192.168.50.2"])
    url = reverse("cluster-review", args=[director.cluster_id])
    assert "is on no interface of any director" in text_of(otto.get(url))
    talker.hello(addresses=["192.168.50.2", "192.168.50.10"])
    assert "is on no interface of any director" not in text_of(otto.get(url))


def test_the_review_shows_drift(otto: Client, run: Run, talker: TalkingDirector) -> None:
    talker.finish(run)
    talker.frame(fingerprint="something else", wanted="what was applied")
    page = text_of(otto.get(reverse("cluster-review", args=[run.job.cluster_id])))
    assert "was changed from outside" in page


def test_applying_a_stale_review_is_refused_in_words(
    otto: Client, backend: Backend, director: Director
) -> None:
    response = otto.post(
        reverse("cluster-review", args=[director.cluster_id]), {"seen": "0" * 64, "reason": "x"}
    )
    assert "has changed since you opened this review" in text_of(response) and not Job.objects.exists()
