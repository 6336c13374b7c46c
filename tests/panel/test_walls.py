"""Walls that a page's happy path never touches: other people's clusters, tokens, runs and names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from cluster import access, jobs, live, reports
from cluster.actions import backends, changes, one_time_links, people, tokens
from cluster.actions.problems import Rejected
from cluster.models import Backend, Cluster, Director, Job, Role, RoleBinding, Run, VirtualService
from cluster.wire.messages import Event, Frame, frame_key
from tests.panel.conftest import ANN, FakeRedis, TalkingDirector, apply_draft, person


def _page(client: Client, name: str) -> str:
    return client.get(reverse(name)).content.decode()


@pytest.mark.parametrize("name", ["overview", "cluster-list", "cluster-table", "service-list", "job-list"])
def test_lists_show_no_cluster_of_others(
    mallory: Client, job: Job, service: VirtualService, name: str
) -> None:
    page = _page(mallory, name)
    assert "192.168.50.10" not in page and "Apply revision 1 to web" not in page and ">web<" not in page


@pytest.mark.parametrize("name", ["overview", "director-list", "director-table"])
def test_lists_show_no_director_of_others_and_none_that_waits(
    mallory: Client, otto: Client, director: Director, redis: FakeRedis, name: str
) -> None:
    TalkingDirector("newcomer", redis).hello()
    assert "director1" not in _page(mallory, name) and "newcomer" not in _page(mallory, name)
    assert "newcomer" not in _page(otto, name), "adding directors is for administrators of everything"


@pytest.mark.parametrize("name", ["person-give-role", "person-set-active", "person-reset-password"])
@pytest.mark.parametrize("who", ["otto", "vera", "mallory"])
def test_only_administrators_of_everything_touch_people(
    name: str, who: str, request: pytest.FixtureRequest, ann: Client
) -> None:
    client: Client = request.getfixturevalue(who)
    victim = User.objects.get(username="ann")
    before = victim.password
    response = client.post(reverse(name, args=[victim.pk]), {"role": "viewer", "active": "0"})
    victim.refresh_from_db()
    assert response.status_code == 403 and victim.is_active and victim.password == before
    assert victim.role_bindings.get().role == Role.ADMINISTRATOR


def test_an_administrator_of_one_cluster_does_not_enrol(director: Director, other: Cluster) -> None:
    client = person("carl", Role.ADMINISTRATOR, director.cluster)
    assert client.get(reverse("director-enrol", args=[director.pk])).status_code == 403


def test_a_token_is_worth_nothing_in_other_hands(ann: Client, mallory: Client) -> None:
    owner = User.objects.get(username="ann")
    text = tokens.create_token(owner, name="mine", by=ANN)
    token = owner.api_tokens.get()
    mallory.post(reverse("token-revoke", args=[token.pk]))
    assert owner.api_tokens.exists(), "only its owner revokes it"
    url = reverse("api-clusters")
    assert Client().get(url, headers={"Authorization": f"Basic {text}"}).status_code == 401
    assert Client().get(url, headers={"Authorization": f"Bearer {text}"}).status_code == 200
    User.objects.filter(pk=owner.pk).update(is_active=False)
    assert Client().get(url, headers={"Authorization": f"Bearer {text}"}).status_code == 401


def test_a_new_password_from_an_administrator_ends_the_tokens(ann: Client) -> None:
    user, _ = people.add_person(username="lost", role=Role.VIEWER, cluster=None, by=ANN)
    tokens.create_token(user, name="t", by=ANN)
    one_time_links.reset_password(user, by=ANN)
    assert not user.api_tokens.exists()


def test_a_hello_must_be_signed_with_the_key_that_it_names(db: None, redis: FakeRedis) -> None:
    honest, liar = TalkingDirector("director9", redis), TalkingDirector("director9", redis)
    reports.take(liar.signed(Event.HELLO, payload={"public_key": honest.key.public, "facts": {}}))
    assert not Director.objects.exists()


def test_a_genuine_old_report_does_not_come_back(
    run: Run, talker: TalkingDirector, director: Director
) -> None:
    old = talker.signed(Event.STARTED, run)
    talker.finish(run)
    director.refresh_from_db()
    before = director.sequence
    reports.take(old)
    director.refresh_from_db()
    assert director.sequence == before


def test_an_enrolled_director_cannot_start_the_run_of_another(
    run: Run, director: Director, redis: FakeRedis
) -> None:
    second = TalkingDirector("director2", redis)
    second.hello()
    reports.take(second.signed(Event.STARTED, run))
    run.refresh_from_db()
    assert run.status == "queued"


def test_a_frame_under_anothers_name_is_not_believed(
    director: Director, talker: TalkingDirector, redis: FakeRedis
) -> None:
    payload: dict[str, Any] = {"services": [], "fingerprint": "", "revision": 0, "error": ""}
    frame = Frame("director2", "", 9, time.time(), 2.0, payload)
    redis.values[frame_key("director1")] = json.dumps(talker.key.sign("frame", frame.to_body()))
    (one,) = live.read([director]).directors
    assert one.frame is None


def test_an_ended_run_is_not_sent(run: Run, talker: TalkingDirector, sent: list[Any]) -> None:
    talker.finish(run)
    jobs.send(run)
    assert not sent


def test_a_report_that_overtakes_the_sending_is_not_overwritten(
    run: Run, talker: TalkingDirector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.app, "send_task", lambda *_, **__: talker.finish(run))
    jobs.send(run)
    run.refresh_from_db()
    assert run.status == "applied"


def test_a_module_load_is_not_superseded_by_an_apply(
    web: Cluster, backend: Backend, director: Director
) -> None:
    load = jobs.queue(kind=Job.Kind.LOAD_MODULE, cluster=web, directors=[director], by=ANN, module="ip_vs_sh")
    apply_draft(web)
    assert load.runs.get().status == "queued"


def test_loading_a_module_says_nothing_of_revisions(
    web: Cluster, director: Director, talker: TalkingDirector
) -> None:
    load = jobs.queue(kind=Job.Kind.LOAD_MODULE, cluster=web, directors=[director], by=ANN, module="ip_vs_sh")
    talker.finish(load.runs.get(), revision=7)
    director.refresh_from_db()
    assert director.applied_revision == 0


def test_an_old_revision_gets_no_second_try(
    job: Job, run: Run, talker: TalkingDirector, backend: Backend, web: Cluster
) -> None:
    talker.finish(run, "failed")
    backends.set_weight(backend, seen_version=1, weight=9, by=ANN)
    apply_draft(web)
    with pytest.raises(Rejected, match="is not the newest any more"):
        changes.apply_again(job, by=ANN)


def test_a_failed_run_does_not_count_as_applied(
    run: Run, talker: TalkingDirector, director: Director
) -> None:
    talker.finish(run, "failed")
    director.refresh_from_db()
    assert director.applied_revision == 0


def test_a_draft_that_breaks_a_rule_is_not_applied(
    web: Cluster, backend: Backend, director: Director
) -> None:
    Backend.objects.update(weight=70_000)
    with pytest.raises(Rejected, match="between 0 and 65535"):
        apply_draft(web)


def test_a_closed_account_has_no_role_left(db: None) -> None:
    user = User.objects.create_user("gone", is_active=False)
    RoleBinding.objects.create(user=user, role=Role.ADMINISTRATOR)
    assert access.role_of(user) == "" and not access.visible_clusters(user).exists()


def test_cookies_are_safe_outside_the_demo() -> None:
    """The settings of production, read in a process of their own."""
    code = (
        "from lvsadmin import settings as s; from lvsadmin.celery import app;"
        "assert s.SESSION_COOKIE_NAME == '__Host-session';"
        "assert s.SESSION_COOKIE_SECURE and s.CSRF_COOKIE_SECURE;"
        "assert s.SECURE_HSTS_SECONDS and s.SECURE_SSL_REDIRECT and not s.DEBUG;"
        "assert ['username', 'ip_address'] in s.AXES_LOCKOUT_PARAMETERS;"
        "assert app.conf.accept_content == ['json'] and not app.conf.worker_enable_remote_control"
    )
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("LVSADMIN_", "DJANGO_"))
    }
    with tempfile.TemporaryDirectory() as folder:
        environment = kept | {"LVSADMIN_DATA_DIR": folder}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
