"""Whoever is refused without being known is in the log, and cannot fill it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cluster import refusals, reports
from cluster.actions import people, tokens
from cluster.audit import Actor
from cluster.models import ApiToken, AuditEntry, Cluster, Director, Role
from cluster.wire.envelope import SigningKey
from cluster.wire.messages import Event
from tests.panel.conftest import ANN, TalkingDirector, apply_draft
from tests.panel.test_roles import acting, user_with
from tests.panel.test_tokens import asked

STRANGER = SigningKey(b"somebody's key, thirty-two bytes")


def _last() -> AuditEntry:
    entry = AuditEntry.objects.first()
    assert entry is not None and entry.result == "refused"
    return entry


@pytest.fixture
def owner(web: Cluster) -> User:
    return user_with("owner", Role.OPERATOR)


def test_a_token_that_nobody_knows_is_written_down_without_its_text(web: Cluster) -> None:
    assert asked("lvs_made-up-text").status_code == 401
    entry = _last()
    assert (entry.action, entry.actor, entry.address) == ("token.refused", "anonymous", "127.0.0.1")
    assert (
        entry.reason == f"GET {entry.target}: a token was sent that is not known here, or that was revoked."
    )
    assert "made-up-text" not in json.dumps([entry.reason, entry.target, entry.after])


def test_a_request_without_a_token_is_written_down_with_no_cookies_name(ann: Client) -> None:
    assert ann.get(reverse("api-clusters")).status_code == 401
    assert _last().reason.endswith(": no token was sent.")
    assert (_last().actor, _last().session) == ("anonymous", "")


def test_whose_token_it_was_that_ended_is_written_down(owner: User, web: Cluster) -> None:
    text = tokens.create_token(owner, name="deploys", cluster=web, by=acting(owner))
    ended = timezone.now() - timedelta(minutes=1)
    ApiToken.objects.update(expires_at=ended)
    assert asked(text).status_code == 401
    entry = _last()
    assert entry.target.startswith("deploys") and (entry.object_kind, entry.cluster) == ("token", "web")
    assert f"the token ended at {ended:%F %T} UTC." in entry.reason


def test_a_token_of_a_closed_account_is_written_down(owner: User) -> None:
    text = tokens.create_token(owner, name="deploys", by=acting(owner))
    people.set_active(owner, active=False, by=ANN)
    assert asked(text).status_code == 401 and "the account owner is closed" in _last().reason


def test_a_good_token_leaves_no_refusal(owner: User) -> None:
    asked(tokens.create_token(owner, name="deploys", by=acting(owner)))
    assert not AuditEntry.objects.filter(result="refused").exists()


@pytest.mark.parametrize("name", ["login", "cluster-new"])
def test_a_form_of_another_site_is_written_down(ann: Client, name: str) -> None:
    strict = Client(enforce_csrf_checks=True)
    if name != "login":
        strict.cookies = ann.cookies
    said = strict.post(reverse(name), {"name": "x", "username": "ann", "password": "a secret"})
    assert said.status_code == 403
    page = said.content.decode()
    assert "This form was not accepted" in page and "Nothing was changed" in page and "a secret" not in page
    entry = _last()
    assert (entry.action, entry.target) == ("form.refused", reverse(name))
    assert entry.actor == ("anonymous" if name == "login" else "ann") and "CSRF" in entry.reason
    assert "a secret" not in entry.reason and not Cluster.objects.exists()


def test_a_report_that_its_director_did_not_sign_is_written_down(
    director: Director, talker: TalkingDirector
) -> None:
    genuine = talker.signed(Event.TRAFFIC)
    reports.take(STRANGER.sign("report", json.loads(genuine["body"])))
    entry = _last()
    assert (entry.action, entry.target, entry.actor) == ("report.refused", "director1", "panel")
    assert (entry.object_kind, entry.cluster) == ("director", "web") and entry.reason


@pytest.mark.parametrize("odd", [None, {}, {"body": "["}, "stranger"])
def test_what_no_known_director_sent_is_written_down_without_a_made_up_name(
    director: Director, talker: TalkingDirector, odd: Any
) -> None:
    if odd == "stranger":
        said = json.loads(talker.signed(Event.TRAFFIC)["body"]) | {"director": "made-up"}
        odd = STRANGER.sign("report", said)
    for _ in range(3):
        reports.take(odd)
    entry = _last()
    assert (entry.action, entry.target) == ("report.refused", "a report") and "made-up" not in entry.reason


def test_another_key_under_a_directors_name_is_written_down_once(
    director: Director, talker: TalkingDirector
) -> None:
    genuine, talker.key = talker.key, STRANGER
    for _ in range(3):
        talker.hello()
    found = AuditEntry.objects.filter(action="director.rival-key")
    assert found.count() == 1
    entry = found.get()
    director.refresh_from_db()
    assert director.rival_fingerprint in entry.reason and entry.object_id == str(director.pk)
    talker.key = genuine
    talker.hello()
    talker.key = STRANGER
    talker.hello()
    assert found.count() == 2, "a new visit is news"


def test_orders_that_a_director_dropped_are_written_down_as_they_come(
    director: Director, talker: TalkingDirector
) -> None:
    found = AuditEntry.objects.filter(action="order.dropped")
    for count, entries, said in [(0, 0, ""), (2, 1, "2 messages"), (2, 1, ""), (3, 2, "1 message in")]:
        talker.hello(worker="a", orders_dropped=count)
        assert found.count() == entries and (not said or said in _last().reason)
    talker.hello(worker="b", orders_dropped=1)
    assert found.count() == 3, "another worker counts from the beginning"
    assert (_last().actor, _last().object_kind) == ("director director1", "director")
    talker.hello(worker="b", orders_dropped=1)
    run = apply_draft(director.cluster).runs.get()  # type: ignore[arg-type]
    talker.finish(run, facts={"worker": "b", "orders_dropped": 4})
    talker.hello(worker="b", orders_dropped=4)
    assert found.count() == 4 and "3 messages" in _last().reason, "a report in between hides none"
    for odd in (-1, True, "7", 10**30, None):
        talker.hello(worker="b", orders_dropped=odd)
    assert found.count() == 4


def test_what_strangers_send_hides_nothing_that_is_sent_in_a_directors_name(
    director: Director, talker: TalkingDirector, settings: Any
) -> None:
    for _ in range(settings.ADDRESS_FAILURE_LIMIT + 1):
        reports.take({})
    genuine = json.loads(talker.signed(Event.TRAFFIC)["body"])
    reports.take(STRANGER.sign("report", genuine))
    assert (_last().action, _last().target) == ("report.refused", "director1")
    talker.key = STRANGER
    talker.hello()
    assert _last().action == "director.rival-key"


def test_what_is_not_written_down_does_not_count_against_others(db: None, settings: Any) -> None:
    stranger = Actor("anonymous", address="203.0.113.9")
    for _ in range(settings.ADDRESS_FAILURE_LIMIT + 1):
        refusals.note("token.refused", "/api/v1/", by=stranger, reason="no.")
    refusals.note("form.refused", "/people/", by=stranger, reason="no.")
    assert _last().action == "form.refused"


def test_nobody_fills_the_log(db: None, settings: Any) -> None:
    stranger = Actor("anonymous", address="203.0.113.9")
    for _ in range(settings.AXES_FAILURE_LIMIT + 5):
        refusals.note("token.refused", "/api/v1/", by=stranger, reason="no.")
    found = AuditEntry.objects.filter(address=stranger.address)
    assert found.count() == settings.AXES_FAILURE_LIMIT
    assert "More of these are not written down" in found.first().reason  # type: ignore[union-attr]
    for number in range(settings.ADDRESS_FAILURE_LIMIT + 5):
        refusals.note("token.refused", f"/api/v1/{number}", by=stranger, reason="no.")
    assert found.count() <= settings.ADDRESS_FAILURE_LIMIT
    last = found.first()
    assert last and "of whatever kind" in last.reason
    other = Actor("anonymous", address="203.0.113.10")
    refusals.note("token.refused", "/api/v1/", by=other, reason="no.")
    assert AuditEntry.objects.filter(address=other.address).count() == 1, "others are heard still"
