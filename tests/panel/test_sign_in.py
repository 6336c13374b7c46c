"""Signing in and out, lockout, idle sessions."""

from __future__ import annotations

import time
from ipaddress import ip_network
from typing import Any

import pytest
from django.conf import settings
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
    for _ in range(10):
        _sign_in(client, "wrong")
    assert _sign_in(client).status_code == 429
    elsewhere = Client(REMOTE_ADDR="198.51.100.7")
    assert _sign_in(elsewhere)["Location"] == "/"


def test_a_colleagues_typing_errors_do_not_lock_an_office_out(user: User, client: Client) -> None:
    for _ in range(12):
        client.post(reverse("login"), {"username": "otto", "password": "wrong"})
    assert _sign_in(client)["Location"] == "/"


def test_an_address_that_tries_many_names_is_locked_out(user: User, client: Client) -> None:
    for number in range(98):
        client.post(reverse("login"), {"username": f"guess{number}", "password": "wrong"})
    assert _sign_in(client, "wrong").status_code == 422
    assert _sign_in(client, "wrong").status_code == 429, "that was the hundredth"
    assert _sign_in(client).status_code == 429
    assert _sign_in(Client(REMOTE_ADDR="198.51.100.7"))["Location"] == "/"


def test_a_neighbour_at_the_same_address_locks_nobody_out_who_is_known_there(
    user: User, client: Client
) -> None:
    """Two in one office, or behind one translated address; guesses at the known one still count."""
    assert _sign_in(client)["Location"] == "/"
    client.post(reverse("logout"))
    for number in range(settings.ADDRESS_FAILURE_LIMIT):
        Client().post(reverse("login"), {"username": f"guess{number}", "password": "wrong"})
    assert Client().post(reverse("login"), {"username": "guess", "password": "x"}).status_code == 429
    assert _sign_in(client)["Location"] == "/"
    client.post(reverse("logout"))
    for _ in range(settings.AXES_FAILURE_LIMIT):
        _sign_in(client, "wrong")
    assert _sign_in(client).status_code == 429


def test_signing_in_with_an_account_of_ones_own_does_not_forgive_guesses(user: User, client: Client) -> None:
    User.objects.create_user(username="mallory", password=PASSWORD)
    for _ in range(9):
        _sign_in(client, "wrong")
    client.post(reverse("login"), {"username": "mallory", "password": PASSWORD})
    client.post(reverse("logout"))
    assert _sign_in(client, "wrong").status_code == 429


def test_a_name_longer_than_any_is_refused_and_breaks_nothing(client: Client, db: None) -> None:
    page = client.post(reverse("login"), {"username": "a" * 300, "password": "wrong"})
    assert page.status_code == 422 and "more than 150 letters" in page.content.decode()


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


def test_a_session_ends_twelve_hours_after_its_sign_in_however_busy_it_is(
    user: User, client: Client, job: Job
) -> None:
    _sign_in(client)
    session = client.session
    assert session["signed_in_at"] >= time.time() - 60
    session["signed_in_at"] -= 12 * 3600 - 60
    session.save()
    assert client.get("/").status_code == 200
    session = client.session
    session["signed_in_at"] -= 60
    session.save()
    assert client.get(reverse("job-live", args=[job.pk])).status_code == 302, "a poll finds it as well"
    assert client.get("/").status_code == 302


def test_a_session_of_an_older_panel_counts_from_the_first_sight_of_it(user: User, client: Client) -> None:
    client.force_login(user)
    assert "signed_in_at" not in client.session
    client.get(reverse("cluster-table"))
    seen = client.session["signed_in_at"]
    assert time.time() - 60 < seen <= time.time()
    session = client.session
    session["signed_in_at"] = seen - 100
    session.save()
    client.get("/")
    assert client.session["signed_in_at"] == seen - 100, "later requests do not renew it"


def test_a_new_sign_in_begins_a_new_twelve_hours(user: User, client: Client) -> None:
    _sign_in(client)
    session = client.session
    session["signed_in_at"] -= 11 * 3600
    session.save()
    _sign_in(client)
    assert client.session["signed_in_at"] >= time.time() - 60


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


CLAIM = {"X-Forwarded-For": "203.0.113.9, 198.51.100.4", "X-Forwarded-Proto": "https"}
NETWORKS = [ip_network("127.0.0.1"), ip_network("192.0.2.0/28"), ip_network("2001:db8::/64")]


@pytest.mark.parametrize(
    ("peer", "behind_proxy", "believed"),
    [
        ("127.0.0.1", True, True),
        ("192.0.2.3", True, True),
        ("::ffff:192.0.2.3", True, True),
        ("2001:db8::7", True, True),
        ("", True, True),  # a unix socket
        ("192.0.2.16", True, False),
        ("203.0.113.80", True, False),
        ("2001:db8:1::7", True, False),
        ("127.0.0.1", False, False),
        ("", False, False),
    ],
)
def test_forwarded_headers_count_only_from_our_own_proxy(
    user: User, settings: Any, peer: str, behind_proxy: bool, believed: bool
) -> None:
    settings.BEHIND_PROXY, settings.PROXY_NETWORKS = behind_proxy, NETWORKS
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.SECURE_SSL_REDIRECT = True
    form = {"username": "uma", "password": "wrong"}
    strict = Client(REMOTE_ADDR=peer)
    assert strict.post(reverse("login"), form, headers=CLAIM).status_code == (422 if believed else 301)
    settings.SECURE_SSL_REDIRECT = False
    Client(REMOTE_ADDR=peer).post(reverse("login"), form, headers=CLAIM)
    entry = AuditEntry.objects.first()
    assert entry and entry.address == ("198.51.100.4" if believed else peer)


def test_a_locked_out_guesser_does_not_fill_the_log(user: User, client: Client) -> None:
    for _ in range(30):
        _sign_in(client, "wrong")
    assert AuditEntry.objects.count() <= 10
