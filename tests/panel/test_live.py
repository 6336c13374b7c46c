"""Who is there is judged without the director's clock, and dead numbers are in no sum."""

from __future__ import annotations

import json
import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cluster import jobs, live, reports
from cluster.actions.directors import enrol_director
from cluster.director import watch
from cluster.ipvs.formats.document import fingerprint
from cluster.ipvs.traffic.paths import FIRST_MARK
from cluster.models import Backend, Cluster, Director, Run
from cluster.overview import cluster_state, director_states
from cluster.review import reported_table
from cluster.wire.messages import Event
from tests.panel.conftest import ANN, FakeRedis, TalkingDirector, text_of

WEB: dict[str, Any] = {
    "protocol": "tcp",
    "address": "192.168.50.10",
    "port": 80,
    "scheduler": "rr",
    "owned": True,
    "backends": [],
}
KEY = "live:director1"


def _one(director: Director) -> live.DirectorLive:
    return live.read([Director.objects.get(pk=director.pk)]).directors[0]


def _presence(director: Director) -> str:
    return director_states([Director.objects.get(pk=director.pk)])[0].presence


@pytest.fixture
def second(web: Cluster, director: Director, redis: FakeRedis) -> TalkingDirector:
    """director2, in the same cluster."""
    talker = TalkingDirector("director2", redis)
    talker.hello()
    row = Director.objects.get(name="director2")
    enrol_director(row, web, seen_fingerprint=row.fingerprint, by=ANN)
    return talker


def test_panel_and_director_agree_how_long_a_frame_lives() -> None:
    assert live.PERIOD_S == watch.PERIOD_S


@pytest.mark.parametrize("clock_off_s", [-3600.0, -30.0, 30.0, 3600.0])
def test_a_wrong_clock_makes_no_healthy_director_look_away(
    ann: Client, director: Director, talker: TalkingDirector, clock_off_s: float
) -> None:
    talker.frame(clock_off_s=clock_off_s)
    assert _presence(director) == "online"
    at = ann.get(reverse("live", args=[director.cluster_id])).context["live_at"]
    assert abs(at - time.time()) < 5, "the page counts the age from here"
    jobs.sweep()
    seen_at = Director.objects.get().seen_at
    assert seen_at is not None and abs(seen_at.timestamp() - time.time()) < 5
    payload = {"public_key": talker.key.public}
    reports.take(talker.signed(Event.HELLO, at=time.time() + clock_off_s, payload=payload))
    assert "Its clock is wrong." in ann.get(reverse("director-detail", args=[director.pk])).content.decode()


def test_a_director_that_stopped_is_away_after_three_periods(
    director: Director, talker: TalkingDirector
) -> None:
    talker.frame(age_s=5.9)
    assert _presence(director) == "online"
    talker.frame(age_s=6.1)
    assert _presence(director) == "away"
    assert _one(director).frame is not None, "its last numbers stay, with their age"


def test_an_old_frame_that_is_put_there_again_is_no_sign_of_life(
    director: Director, talker: TalkingDirector, redis: FakeRedis
) -> None:
    talker.frame()
    old = redis.values[KEY]
    talker.frame()
    jobs.sweep()
    redis.values[KEY] = old
    assert _presence(director) == "away" and _one(director).frame is None


def test_the_last_frame_that_is_put_there_again_and_again_grows_old(
    director: Director, talker: TalkingDirector, redis: FakeRedis
) -> None:
    talker.frame()
    jobs.sweep()
    assert _presence(director) == "online"
    Director.objects.update(seen_at=timezone.now() - timedelta(seconds=60))
    jobs.sweep()
    assert _presence(director) == "away", "Redis says it is new, and we know better"
    talker.frame()
    assert _presence(director) == "online"


@pytest.mark.parametrize("age_s", [-10.0, 4000.0])
def test_a_frame_with_another_lifetime_than_a_director_gives_is_not_believed(
    director: Director, talker: TalkingDirector, redis: FakeRedis, age_s: float
) -> None:
    redis.ages_s[KEY] = age_s
    assert _one(director).frame is None and _presence(director) == "away"


def test_a_frame_from_before_the_director_was_enrolled_with_a_new_key_sets_no_limit(
    web: Cluster, talker: TalkingDirector, redis: FakeRedis
) -> None:
    Director.objects.update(frame_sequence=10**6, sequence=10**6)
    again = TalkingDirector("director1", redis)
    again.hello()
    row = Director.objects.get()
    enrol_director(row, web, seen_fingerprint=row.fingerprint, by=ANN)
    again.frame()
    assert _presence(row) == "online"


def test_sums_leave_out_directors_that_are_not_heard_and_say_so(
    vera: Client, director: Director, talker: TalkingDirector, second: TalkingDirector
) -> None:
    talker.frame(services=[WEB | {"totals": {"connections": 100}}])
    second.frame(services=[WEB | {"totals": {"connections": 7000}}], age_s=15)
    url = reverse("live-table", args=[director.cluster_id])
    answer = vera.get(url)
    page = re.sub(r"\s+", " ", answer.content.decode())
    assert answer.context["live_rows"][0].totals["connections"] == 100
    assert "director2 is not heard: these numbers are without it." in page
    assert not answer.context["live_is_stale"]
    second.frame(services=[WEB | {"totals": {"connections": 7000}}])
    answer = vera.get(url)
    assert answer.context["live_rows"][0].totals["connections"] == 7100
    assert "not heard" not in answer.content.decode()


def test_with_nobody_heard_the_last_numbers_stay_and_are_grey(
    vera: Client, director: Director, talker: TalkingDirector, second: TalkingDirector
) -> None:
    talker.frame(services=[WEB | {"totals": {"connections": 100}}], age_s=20)
    second.frame(services=[WEB | {"totals": {"connections": 7000}}], age_s=15)
    answer = vera.get(reverse("live-table", args=[director.cluster_id]))
    assert answer.context["live_rows"][0].totals["connections"] == 7100
    assert answer.context["live_is_stale"] and answer.context["live_left_out"] == ""
    assert abs(time.time() - 20 - answer.context["live_at"]) < 5, "the older one's age counts"


def test_drift_is_what_the_director_did_not_bring_its_kernel_to(
    run: Run, director: Director, talker: TalkingDirector, redis: FakeRedis
) -> None:
    talker.finish(run)
    cluster = Cluster.objects.get(pk=director.cluster_id)
    talker.frame(fingerprint="in the middle of an order", wanted="")
    assert cluster_state(cluster).status == "in sync"
    talker.frame(fingerprint="a backend is down", wanted="a backend is down")
    assert cluster_state(cluster).status == "in sync"
    talker.frame(fingerprint="changed from outside", wanted="a backend is down")
    assert cluster_state(cluster).status == "drift"
    talker.hello()
    assert cluster_state(cluster).status == "drift", "a hello says nothing of the table"


def test_a_service_that_is_named_twice_in_a_frame_makes_it_no_frame(
    ann: Client, director: Director, talker: TalkingDirector
) -> None:
    talker.frame(services=[WEB, WEB])
    assert _one(director).frame is None
    for name in ("director-adopt", "director-detail"):
        assert ann.get(reverse(name, args=[director.pk])).status_code == 200


@pytest.mark.parametrize("odd", [{"at": float("nan")}, {"at": 10**400}, {"sequence": 10**30}])
def test_a_frame_with_impossible_numbers_is_none(
    ann: Client, director: Director, talker: TalkingDirector, redis: FakeRedis, odd: dict[str, Any]
) -> None:
    body = json.loads(json.loads(redis.values[KEY])["body"]) | odd
    redis.values[KEY] = json.dumps(talker.genuine("frame", body))
    assert _one(director).frame is None
    jobs.sweep()
    assert ann.get(reverse("overview")).status_code == 200


def test_the_table_of_a_frame_is_what_the_review_plans_on(
    director: Director, talker: TalkingDirector
) -> None:
    talker.frame(services=[WEB])
    assert [str(key) for key in _one(director).table.keys] == ["TCP 192.168.50.10:80"]
    assert len(reported_table(Director.objects.get())) == 0


def test_what_is_in_the_kernel_for_checks_alone_is_no_row(
    director: Director, talker: TalkingDirector, ann: Client
) -> None:
    path = {
        "protocol": "firewall-mark",
        "address": "0.0.0.0",
        "port": 0,
        "mark": FIRST_MARK + 5,
        "scheduler": "rr",
        "owned": True,
        "backends": [],
    }
    talker.frame(services=[WEB, path])
    assert [row.label for row in live.rows(live.read([director]))] == ["TCP 192.168.50.10:80"]
    page = ann.get(reverse("director-adopt", args=[director.pk])).content.decode()
    assert str(FIRST_MARK + 5) not in page


def test_a_director_shows_how_its_checks_keep_up(
    ann: Client, director: Director, talker: TalkingDirector
) -> None:
    talker.frame(checks={"per_second": 2495.9, "late_share": 0.004, "cpu_share": 0.384})
    page = ann.get(reverse("director-facts", args=[director.pk])).content.decode()
    assert "2496 a second, 0.4 % late, 38 % of a CPU" in page


@pytest.mark.parametrize("odd", [None, 5, {}, {"per_second": "many"}, {"per_second": float("nan")}])
def test_checks_that_cannot_be_read_are_not_shown(
    ann: Client, director: Director, talker: TalkingDirector, odd: Any
) -> None:
    talker.frame(checks={"per_second": 1, "late_share": 0, "cpu_share": 0})
    redis = talker.redis
    body = json.loads(json.loads(redis.values[KEY])["body"])
    body["payload"]["checks"] = odd
    redis.values[KEY] = json.dumps(talker.genuine("frame", body))
    page = ann.get(reverse("director-facts", args=[director.pk])).content.decode()
    assert "of a CPU" not in page


def test_the_live_table_sums_directors_and_shows_its_age(
    vera: Client, director: Director, backend: Backend, talker: TalkingDirector, redis: FakeRedis
) -> None:
    part = {"address": "192.168.50.11", "port": 80, "forwarding": "masquerade", "weight": 3}
    part |= {"active": 2, "inactive": 5, "rates": {"connections": 1.5}}
    key = {"protocol": "tcp", "address": "192.168.50.10", "port": 80, "scheduler": "wrr", "owned": True}
    talker.frame(services=[key | {"rates": {"connections": 1.5}, "backends": [part]}])
    response = vera.get(reverse("live", args=[director.cluster_id]))
    page = text_of(response)
    assert "TCP 192.168.50.10:80" in page and "1.5" in page and "data-age-at=" in page
    assert response.context["live_rows"][0].active == 2 and not response.context["live_is_stale"]
    url = reverse("live-table", args=[director.cluster_id])
    assert vera.get(url, {"stamp": response.context["live_stamp"]}).status_code == 204
    talker.frame(services=[])
    assert vera.get(url, {"stamp": response.context["live_stamp"]}).status_code == 200


def test_old_numbers_are_marked_stale(vera: Client, director: Director, talker: TalkingDirector) -> None:
    talker.frame(age_s=15)
    response = vera.get(reverse("live-table", args=[director.cluster_id]))
    assert response.context["live_is_stale"] and 'class="panel stale"' in text_of(response)


def test_with_redis_down_the_page_keeps_the_numbers_that_it_has(
    vera: Client, director: Director, redis: FakeRedis
) -> None:
    redis.is_up = False
    assert vera.get(reverse("live-table", args=[director.cluster_id])).status_code == 503


def test_nothing_is_green_when_nobody_can_tell(
    ann: Client, run: Run, talker: TalkingDirector, redis: FakeRedis
) -> None:
    talker.finish(run)
    director = Director.objects.get()
    talker.frame(fingerprint=fingerprint(reported_table(director)))
    assert "in sync" in text_of(ann.get(reverse("cluster-list")))
    redis.is_up = False
    for name in ("cluster-list", "director-list"):
        assert "in sync" not in text_of(ann.get(reverse(name)))


def test_a_frame_that_the_director_did_not_sign_is_not_shown(
    vera: Client, director: Director, redis: FakeRedis
) -> None:
    TalkingDirector("director1", redis).frame(services=[])
    response = vera.get(reverse("live-table", args=[director.cluster_id]))
    assert response.context["live_at"] is None
