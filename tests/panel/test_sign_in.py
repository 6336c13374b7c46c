"""Signing in and out, lockout, idle sessions."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from cluster.models import AuditEntry, Job

PASSWORD = "correct horse battery"


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_user(username="uma", password=PASSWORD)


def _sign_in(client: Client, password: str = PASSWORD, **more: str) -> Any:
    return client.post(reverse("login"), {"username": "uma", "password": password, **more})


def test_a_good_password_opens_the_panel_and_is_written_down(user: User, client: Client) -> None:
    assert _sign_in(client)["Location"] == "/"
    assert client.get("/").status_code == 200
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.actor, entry.address) == ("sign-in", "uma", "127.0.0.1")


def test_a_bad_password_is_refused_with_the_same_words_as_an_unknown_name(user: User, client: Client) -> None:
    wrong = _sign_in(client, "wrong")
    unknown = client.post(reverse("login"), {"username": "nobody", "password": "wrong"})
    assert wrong.status_code == unknown.status_code == 422
    assert wrong.context["form"].errors == unknown.context["form"].errors
    assert [entry.action for entry in AuditEntry.objects.all()] == ["sign-in.refused", "sign-in.refused"]
    assert "wrong" not in str(list(AuditEntry.objects.values()))


def test_guessing_is_stopped_but_not_for_others(user: User, client: Client) -> None:
    for _ in range(11):
        _sign_in(client, "wrong")
    assert _sign_in(client).status_code in (403, 422, 429)
    elsewhere = Client(REMOTE_ADDR="198.51.100.7")
    assert _sign_in(elsewhere)["Location"] == "/"


def test_the_session_gets_a_new_id_at_sign_in(user: User, client: Client) -> None:
    client.get(reverse("login"))
    before = client.session.session_key
    _sign_in(client)
    assert client.session.session_key != before


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"])
def test_sign_in_does_not_send_people_elsewhere(user: User, client: Client, target: str) -> None:
    assert _sign_in(client, next=target)["Location"] == "/"


def test_after_sign_out_the_session_is_worthless(user: User, client: Client) -> None:
    _sign_in(client)
    cookie = client.cookies["sessionid"].value
    client.post(reverse("logout"))
    client.cookies["sessionid"] = cookie
    assert client.get("/").status_code == 302


def test_an_idle_session_ends_and_polling_does_not_keep_it(otto: Client, job: Job) -> None:
    session = otto.session
    session["used_at"] = int(time.time()) - 29 * 60
    session.save()
    otto.get(reverse("job-live", args=[job.pk]))
    assert otto.session["used_at"] < time.time() - 28 * 60
    session["used_at"] = int(time.time()) - 31 * 60
    session.save()
    assert otto.get(reverse("job-live", args=[job.pk])).status_code == 302


def test_a_closed_account_is_out_at_its_next_request(user: User, client: Client) -> None:
    _sign_in(client)
    User.objects.update(is_active=False)
    assert client.get("/").status_code == 302


def test_a_new_password_ends_other_sessions(user: User, client: Client) -> None:
    other = Client()
    _sign_in(client)
    _sign_in(other)
    new = "another long password"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert client.post(reverse("account"), form).status_code == 302
    assert client.get("/").status_code == 200 and other.get("/").status_code == 302


def test_forms_without_a_csrf_token_are_refused(user: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    assert _sign_in(strict).status_code == 403


def test_a_forwarded_address_counts_only_behind_our_own_proxy(
    user: User, client: Client, settings: Any
) -> None:
    claim = {"X-Forwarded-For": "203.0.113.9, 198.51.100.4"}
    client.post(reverse("login"), {"username": "uma", "password": "wrong"}, headers=claim)
    settings.BEHIND_PROXY = True
    client.post(reverse("login"), {"username": "uma", "password": "wrong"}, headers=claim)
    assert [entry.address for entry in AuditEntry.objects.all()] == ["198.51.100.4", "127.0.0.1"]


def test_a_locked_out_guesser_does_not_fill_the_log(user: User, client: Client) -> None:
    for _ in range(30):
        _sign_in(client, "wrong")
    assert AuditEntry.objects.count() <= 10
