"""Invitations, a new password, and that nobody else ever sees one; sessions and their end."""

from __future__ import annotations

import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP
from allauth.usersessions.models import UserSession
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cluster.actions import one_time_links, people, tokens
from cluster.actions.problems import Rejected
from cluster.models import AuditEntry, OneTimeLink
from tests.panel.conftest import ANN

GOOD = "kettle walnut orbit seventeen"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def invite(ann: Client, name: str = "ivo") -> str:
    """The path of the link that the page shows."""
    page = ann.post(reverse("person-new"), {"username": name, "role": "operator", "cluster": ""})
    shown = re.search(r"http://testserver(/welcome/[^<]+)", page.content.decode())
    assert shown
    return shown[1]


def choose(client: Client, path: str, password: str = GOOD) -> Any:
    return client.post(path, {"new_password1": password, "new_password2": password})


def sign_in(client: Client, name: str = "ivo", password: str = GOOD) -> Any:
    return client.post(reverse("login"), {"username": name, "password": password})


def test_an_invited_person_sets_a_password_that_nobody_else_sees(ann: Client, client: Client) -> None:
    path = invite(ann)
    assert not User.objects.get(username="ivo").has_usable_password()
    assert sign_in(client).status_code == 422
    assert "ivo" in client.get(path).content.decode()
    assert client.get(path).status_code == 200, "looking does not use it"
    assert choose(client, path)["Location"] == reverse("login")
    assert "guess this password in" in client.get(reverse("login")).content.decode()
    assert sign_in(client)["Location"] == "/"
    written = str(list(AuditEntry.objects.values()))
    assert GOOD not in written and path.split("/")[2] not in written
    assert AuditEntry.objects.filter(action="account.set-password", target="ivo").exists()


def test_a_link_is_kept_as_a_digest_works_once_and_is_replaced(ann: Client, client: Client) -> None:
    path = invite(ann)
    token = path.split("/")[2]
    assert token not in str(list(OneTimeLink.objects.values()))
    newer = one_time_links.reset_password(User.objects.get(username="ivo"), by=ANN)
    assert client.get(path).status_code == 404, "a newer one replaces it"
    path = reverse("one-time-link", args=[newer])
    choose(client, path)
    again = choose(client, path, "another walnut kettle orbit")
    assert again.status_code == 404 and "used" in again.content.decode()
    assert sign_in(client)["Location"] == "/"


def test_a_link_expires(ann: Client, client: Client) -> None:
    path = invite(ann)
    OneTimeLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert client.get(path).status_code == choose(client, path).status_code == 404
    assert "link has expired" in ann.get(reverse("person-list")).content.decode()


def test_of_two_who_use_a_link_at_once_one_is_refused(ann: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    token = invite(ann).split("/")[2]
    seen = one_time_links.open_link(token)
    one_time_links.use_link(token, GOOD, by=ANN)
    monkeypatch.setattr(one_time_links, "open_link", lambda token: seen)
    with pytest.raises(Rejected):
        one_time_links.use_link(token, "another walnut kettle orbit", by=ANN)
    assert User.objects.get(username="ivo").check_password(GOOD)


def test_a_closed_account_has_no_link(ann: Client, client: Client) -> None:
    path = invite(ann)
    people.set_active(User.objects.get(username="ivo"), active=False, by=ANN)
    assert client.get(path).status_code == 404 and not OneTimeLink.objects.exists()


def test_a_reset_ends_everything_and_forgets_the_second_factor_where_asked(ann: Client) -> None:
    choose(Client(), invite(ann))
    ivo, browser = User.objects.get(username="ivo"), Client()
    sign_in(browser)
    tokens.create_token(ivo, name="t", by=ANN)
    TOTP.activate(ivo, "A" * 32)
    page = ann.post(reverse("person-reset-password", args=[ivo.pk]), {})
    assert "/welcome/" in page.content.decode() and Authenticator.objects.exists()
    assert browser.get("/").status_code == 302 and not ivo.api_tokens.exists()
    ivo.refresh_from_db()
    assert not ivo.has_usable_password()
    ann.post(reverse("person-reset-password", args=[ivo.pk]), {"forget_second_factor": "on"})
    assert not Authenticator.objects.exists()
    entry = AuditEntry.objects.first()
    assert entry and entry.after and entry.after["second_factor_forgotten"] is True


def test_whoever_is_signed_in_as_another_is_signed_out_by_a_link(ann: Client) -> None:
    path = invite(ann)
    choose(ann, path)
    assert ann.get("/").status_code == 302


def test_the_first_administrator_may_get_a_link_instead_of_a_password(db: None, client: Client) -> None:
    out = StringIO()
    call_command("first_admin", "root1", "--link", stdout=out)
    path = re.search(r"(/welcome/\S+)", out.getvalue())
    assert path and choose(client, path[1]).status_code == 302
    assert sign_in(client, "root1")["Location"] == "/"


# What a password has to be.


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("short words", "at least 12"),
        ("Password12345!", "would guess this password in"),
        ("qwertyuiop123456", "would guess this password in"),
        ("aaaaaaaaaaaaaaaaaaaa", "would guess this password in"),
        ("ivo-lvsadmin-ivo-2026", "mostly your name"),
        ("LVSAdminLVSAdmin", "mostly your name"),
        ("administrator", "guess"),
    ],
)
def test_what_can_be_guessed_is_refused_with_a_sentence(
    ann: Client, client: Client, password: str, said: str
) -> None:
    path = invite(ann)
    page = choose(client, path, password)
    assert page.status_code == 422 and said in page.content.decode()
    assert client.get(path).status_code == 200, "the link is still good"


@pytest.mark.parametrize(
    "password",
    [
        "kettle walnut orbit",
        "tisch lampe wolke regen",
        "ключ дерево лампа ночь",
        "0k9xQ2mLw7bT4s",
        "kettle walnut orbit " + "x" * 108,
    ],
)
def test_no_letter_or_sign_is_asked_for_and_long_ones_are_taken(
    ann: Client, client: Client, password: str
) -> None:
    assert choose(client, invite(ann), password).status_code == 302
    assert sign_in(client, password=password)["Location"] == "/"


def test_the_first_administrators_password_is_judged_too(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("lvsadmin-root1\n"))
    with pytest.raises(CommandError, match="mostly your name"):
        call_command("first_admin", "root1")


# Sessions.


@pytest.fixture
def ivo(ann: Client) -> User:
    choose(Client(), invite(ann))
    return User.objects.get(username="ivo")


def test_sessions_are_listed_with_device_address_and_times(ivo: User, client: Client) -> None:
    sign_in(client)
    other = Client(REMOTE_ADDR="198.51.100.7", headers={"User-Agent": FIREFOX})
    sign_in(other)
    page = client.get(reverse("sessions")).content.decode()
    assert "Firefox on Linux" in page and "198.51.100.7" in page and "127.0.0.1" in page
    assert page.count("this one") == 1
    other.post(reverse("logout"))
    assert "198.51.100.7" not in client.get(reverse("sessions")).content.decode()


def test_one_session_or_all_others_are_ended_at_once(ivo: User, client: Client) -> None:
    others = [Client(REMOTE_ADDR=f"198.51.100.{number}") for number in range(3)]
    for browser in [client, *others]:
        sign_in(browser)
    first = UserSession.objects.get(ip="198.51.100.0")
    client.post(reverse("session-end", args=[first.pk]))
    assert [browser.get("/").status_code for browser in [client, *others]] == [200, 302, 200, 200]
    entry = AuditEntry.objects.first()
    assert entry and entry.action == "session.end" and entry.before and entry.before["address"] == first.ip
    client.post(reverse("sessions-end-others"))
    assert [browser.get("/").status_code for browser in [client, *others]] == [200, 302, 302, 302]


def test_somebody_elses_session_is_not_ones_own_to_end(ivo: User, ann: Client, client: Client) -> None:
    sign_in(client)
    ann.post(reverse("session-end", args=[UserSession.objects.get().pk]))
    assert client.get("/").status_code == 200


def test_an_administrator_ends_the_sessions_of_somebody(ivo: User, client: Client, ann: Client) -> None:
    sign_in(client)
    sign_in(other := Client())
    said = ann.post(reverse("person-end-sessions", args=[ivo.pk]), follow=True).content.decode()
    assert "2 sessions of ivo ended" in said
    assert client.get("/").status_code == other.get("/").status_code == 302
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.target, entry.after) == ("person.end-sessions", "ivo", {"ended": 2})
    assert sign_in(client)["Location"] == "/"


def test_closing_an_account_ends_its_sessions(ivo: User, client: Client, ann: Client) -> None:
    sign_in(client)
    ann.post(reverse("person-set-active", args=[ivo.pk]), {"active": "0"})
    ann.post(reverse("person-set-active", args=[ivo.pk]), {"active": "1"})
    assert client.get("/").status_code == 302, "reopening does not bring them back"
    assert not UserSession.objects.filter(user=ivo).exists()


def test_last_seen_moves_with_use_and_not_with_polling(ivo: User, client: Client, otto: Client) -> None:
    sign_in(client)
    client.get("/")
    past = timezone.now() - timedelta(minutes=10)
    UserSession.objects.update(last_seen_at=past)
    session = client.session
    session["used_at"] -= 600
    session.save()
    client.get(reverse("cluster-table"))
    assert UserSession.objects.get().last_seen_at == past
    client.get("/")
    assert UserSession.objects.get().last_seen_at > past


def test_after_a_new_password_this_session_stays_listed_alone(ivo: User, client: Client) -> None:
    sign_in(client)
    sign_in(Client())
    new = "another walnut kettle orbit"
    form = {"old_password": GOOD, "new_password1": new, "new_password2": new}
    client.post(reverse("account"), form)
    assert client.get("/").status_code == 200
    assert [one.session_key for one in UserSession.objects.filter(user=ivo)] == [client.session.session_key]
