"""Codes, recovery codes, who has to enrol, and saying once more who one is."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import struct
import time
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cluster import desired, gates
from cluster.models import (
    AuditEntry,
    Backend,
    Cluster,
    CustomRole,
    Drain,
    Role,
    RoleBinding,
    VirtualService,
    WeightProfile,
)
from cluster.seen import mark_of
from tests.panel.conftest import apply_draft

PASSWORD = "correct horse battery"
SECRET = base64.b32encode(b"a secret of twenty b").decode()


def code_of(secret: str, *, seconds: int = 0) -> str:
    """RFC 6238, so that the library does not judge itself."""
    counter = struct.pack(">Q", int(time.time() + seconds) // 30)
    digest = hmac.new(base64.b32decode(secret), counter, hashlib.sha1).digest()
    offset = digest[-1] & 15
    value = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{value % 10**6:06}"


def wrong_code() -> str:
    """None of the three that count now."""
    right = {code_of(SECRET, seconds=shift) for shift in (-60, -30, 0, 30, 60)}
    return next(f"{number:06}" for number in range(10) if f"{number:06}" not in right)


@pytest.fixture
def uma(db: None) -> User:
    """An operator with an app and ten recovery codes."""
    user = User.objects.create_user(username="uma", password=PASSWORD)
    RoleBinding.objects.create(user=user, role=Role.OPERATOR, cluster=None)
    TOTP.activate(user, SECRET)
    RecoveryCodes.activate(user)
    return user


def give_password(client: Client, **more: str) -> Any:
    return client.post(reverse("login"), {"username": "uma", "password": PASSWORD, **more})


def give_code(client: Client, code: str) -> Any:
    return client.post(reverse("mfa_authenticate"), {"code": code})


def test_the_password_alone_opens_nothing(uma: User, client: Client) -> None:
    assert give_password(client)["Location"] == reverse("mfa_authenticate")
    assert client.get("/").status_code == 302
    assert "sign-in" not in AuditEntry.objects.values_list("action", flat=True)
    assert give_code(client, code_of(SECRET))["Location"] == "/"
    assert client.get("/").status_code == 200
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.after) == ("sign-in", {"with": ["password", "authenticator app"]})


def test_the_page_asked_for_comes_after_both_steps(uma: User, client: Client) -> None:
    give_password(client, next="/services/")
    assert give_code(client, code_of(SECRET))["Location"] == "/services/"


def test_the_second_step_without_the_first_leads_back(uma: User, client: Client) -> None:
    assert client.get(reverse("mfa_authenticate"))["Location"] == reverse("account_login")


@pytest.mark.parametrize("seconds", [-30, 0, 30])
def test_a_code_counts_once_in_all_its_time(
    uma: User, client: Client, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = code_of(SECRET, seconds=seconds)
    give_password(client)
    assert give_code(client, code).status_code == 302
    other = Client()
    give_password(other)
    # The library's own memory of it ends after one period, while the code is still good.
    from django.core.cache import cache

    cache.delete(f"allauth.mfa.totp.used?user={uma.pk}&code={code}")
    assert give_code(other, code).status_code == 422
    assert other.get("/").status_code == 302


def test_the_code_that_proved_a_new_app_does_not_sign_in(otto: Client, client: Client) -> None:
    page = otto.get(reverse("mfa_activate_totp")).content.decode()
    secret = re.search(r'data-copy="([A-Z2-7]{32})"', page)
    assert secret
    code = code_of(secret[1])
    assert otto.post(reverse("mfa_activate_totp"), {"code": code})["Location"] == reverse(
        "mfa_view_recovery_codes"
    )
    client.post(reverse("login"), {"username": "otto", "password": PASSWORD})
    assert give_code(client, code).status_code == 422


def test_a_recovery_code_opens_the_panel_once(uma: User, client: Client) -> None:
    codes = Authenticator.objects.get(user=uma, type="recovery_codes").wrap().get_unused_codes()
    assert len(codes) == 10
    give_password(client)
    assert give_code(client, codes[0]).status_code == 302
    other = Client()
    give_password(other)
    assert give_code(other, codes[0]).status_code == 422
    assert give_code(other, codes[1]).status_code == 302


def test_wrong_codes_are_locked_out_like_passwords_and_written_down(uma: User, client: Client) -> None:
    give_password(client)
    for _ in range(9):
        assert give_code(client, wrong_code()).status_code == 422
    assert give_code(client, wrong_code()).status_code == 429
    assert give_code(client, code_of(SECRET)).status_code == 429, "a right one comes too late"
    assert give_password(client).status_code == 429, "and so does a password"
    refused = AuditEntry.objects.filter(action="sign-in.refused", target="uma", result="refused")
    assert 9 <= refused.count() <= 10
    elsewhere = Client(REMOTE_ADDR="198.51.100.7")
    give_password(elsewhere)
    assert give_code(elsewhere, code_of(SECRET)).status_code == 302, "uma herself is not locked out"


def test_a_right_password_does_not_forgive_wrong_codes(uma: User, client: Client) -> None:
    for _ in range(9):
        give_password(client)
        give_code(client, wrong_code())
    give_password(client)
    assert give_code(client, wrong_code()).status_code == 429


def test_codes_cannot_be_guessed_from_many_addresses(uma: User) -> None:
    statuses = []
    for number in range(5):
        client = Client(REMOTE_ADDR=f"198.51.100.{number}")
        give_password(client)
        statuses += [give_code(client, wrong_code()).status_code for _ in range(8)]
    assert statuses[:30] == [422] * 30
    client = Client(REMOTE_ADDR="198.51.100.200")
    give_password(client)
    assert "Try again in 15 minutes" in give_code(client, code_of(SECRET)).content.decode()
    assert client.get("/").status_code == 302


def test_a_closed_account_does_not_get_past_the_second_step(uma: User, client: Client) -> None:
    give_password(client)
    User.objects.update(is_active=False)
    give_code(client, code_of(SECRET))
    assert client.get("/").status_code == 302


def test_secrets_are_encrypted_at_rest_and_another_key_fits_nothing(
    uma: User, client: Client, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert SECRET not in str(list(Authenticator.objects.values()))
    settings.SECOND_FACTOR_KEY = "another"
    give_password(client)
    assert give_code(client, code_of(SECRET)).status_code == 422
    assert "another key" in caplog.text


EMPTY = ["", "{", "{}", "[]", "null"]
GARBAGE = ["1", '"x"', '{"id": 1, "rawId": [], "response": 7}', '{"response": null}']
GARBAGE += ['{"response": {"userHandle": "AAAA"}}', '{"response": {"userHandle": null}}']


@pytest.mark.parametrize("answer", EMPTY + GARBAGE)
def test_an_answer_that_no_key_gave_opens_nothing_and_breaks_nothing(
    uma: User, ann: Client, client: Client, answer: str
) -> None:
    url = reverse("mfa_login_webauthn")
    client.get(url, headers={"Accept": "application/json"})
    assert client.post(url, {"credential": answer})["Location"] == reverse("account_login")
    assert client.get("/").status_code == 302
    entry = AuditEntry.objects.first()
    assert answer in EMPTY or (entry and (entry.action, entry.result) == ("sign-in.refused", "refused"))
    give_password(client)
    client.get(reverse("mfa_authenticate"))
    assert client.post(reverse("mfa_authenticate"), {"credential": answer}).status_code == 422
    ann.get(reverse("mfa_add_webauthn"))
    page = ann.post(reverse("mfa_add_webauthn"), {"name": "x", "credential": answer})
    assert page.status_code == 422 and not Authenticator.objects.filter(type="webauthn").exists()


def test_odd_answers_are_stopped_like_wrong_passwords(client: Client, db: None) -> None:
    url = reverse("mfa_login_webauthn")
    statuses = [client.post(url, {"credential": GARBAGE[-1]}).status_code for _ in range(12)]
    assert statuses == [302] * 9 + [429] * 3 and AuditEntry.objects.count() <= 10


# Who has to enrol.


@pytest.fixture
def required(settings: Any) -> None:
    settings.SECOND_FACTOR_REQUIRED = True


def test_a_writing_role_is_led_to_enrol_and_can_do_nothing_else(
    required: None, otto: Client, service: VirtualService
) -> None:
    for path in ("/", "/services/", "/account/", reverse("service-edit", args=[service.pk])):
        assert otto.get(path)["Location"] == reverse("mfa_index"), path
    assert otto.post(reverse("service-remove", args=[service.pk]))["Location"] == reverse("mfa_index")
    fragment = otto.get(reverse("cluster-table"), headers={"HX-Request": "true"})
    assert fragment.status_code == 403 and fragment["HX-Redirect"] == reverse("mfa_index")
    page = otto.get(reverse("mfa_index"))
    assert page.status_code == 200 and "Your role needs a second factor" in page.content.decode()
    assert otto.get(reverse("mfa_add_webauthn")).status_code == 200
    text = otto.get(reverse("mfa_activate_totp")).content.decode()
    secret = re.search(r'data-copy="([A-Z2-7]{32})"', text)
    assert secret
    assert otto.post(reverse("mfa_activate_totp"), {"code": wrong_code()}).status_code == 422
    assert otto.get("/").status_code == 302


def test_once_enrolled_everything_opens(
    required: None, otto: Client, django_capture_on_commit_callbacks: Any
) -> None:
    secret = re.search(r'data-copy="([A-Z2-7]{32})"', otto.get(reverse("mfa_activate_totp")).content.decode())
    assert secret
    with django_capture_on_commit_callbacks(execute=True):
        otto.post(reverse("mfa_activate_totp"), {"code": code_of(secret[1])})
    assert otto.get("/").status_code == 200
    entry = AuditEntry.objects.first()
    assert (
        entry and entry.action == "account.second-factor-add" and entry.after == {"kind": "authenticator app"}
    )
    codes = otto.get(reverse("mfa_view_recovery_codes"))
    assert (
        codes.status_code == 200
        and len(re.findall(r"^(?:.*<code>)?\d{8}$", codes.content.decode(), re.M)) == 10
    )
    entry = AuditEntry.objects.first()
    assert entry and entry.action == "account.recovery-codes-view"
    otto.post(reverse("mfa_deactivate_totp"))
    assert otto.get("/")["Location"] == reverse("mfa_index"), "and closes again without it"
    entry = AuditEntry.objects.first()
    assert entry and entry.action == "account.second-factor-remove"


def test_whoever_only_looks_need_not_enrol(required: None, vera: Client, nobody: Client) -> None:
    assert vera.get("/").status_code == nobody.get("/").status_code == 200


def test_a_new_role_counts_from_the_next_click(required: None, vera: Client) -> None:
    RoleBinding.objects.filter(user__username="vera").update(role=Role.OPERATOR)
    assert vera.get("/")["Location"] == reverse("mfa_index")


def test_a_session_without_the_factor_that_its_person_has_ends(required: None, uma: User) -> None:
    client = Client()
    client.force_login(uma)
    assert client.get("/")["Location"] == reverse("login")
    give_password(client)
    give_code(client, code_of(SECRET))
    assert client.get("/").status_code == 200


def test_a_session_with_its_factor_costs_no_query(
    required: None, uma: User, client: Client, django_assert_num_queries: Any
) -> None:
    give_password(client)
    give_code(client, code_of(SECRET))
    session = client.session
    assert session[gates.SECOND_FACTOR] is True
    with django_assert_num_queries(4):  # session, user, the bindings, the clusters
        client.get(reverse("cluster-table"), headers={"HX-Request": "true"})


# Once more who one is.

GONE_FOR_GOOD = {
    "cluster-edit": ["cluster"],
    "cluster-enforce": ["cluster"],
    "cluster-remove": ["cluster"],
    "service-remove": ["service"],
    "backend-remove": ["backend"],
    "profile-remove": ["profile"],
    "draft-discard": ["cluster"],
    "drain-cut": ["drain"],
    "person-new": [],
    "person-give-role": ["user"],
    "person-set-active": ["user"],
    "person-reset-password": ["user"],
    "person-token-new": ["user"],
    "service-account-new": [],
    "binding-take": ["binding"],
    "group-new": [],
    "group-remove": ["group"],
    "group-give-role": ["group"],
    "group-add-member": ["group"],
    "group-remove-member": ["group", "user"],
    "role-new": [],
    "role-edit": ["role"],
    "role-remove": ["role"],
    "director-enrol": ["director"],
    "director-release": ["director"],
    "token-new": [],
}
# With a form of their own, or free to look at.
OTHERS = {"audit-export", "cluster-import", "revision-roll-back"}


@pytest.fixture
def numbers(web: Cluster, backend: Backend, director: Any, ann: Client) -> dict[str, int]:
    user = User.objects.create_user(username="gone", password=PASSWORD)
    group, role = (
        Group.objects.create(name="night"),
        CustomRole.objects.create(name="r", permissions=["view"]),
    )
    binding = RoleBinding.objects.create(user=user, role=Role.VIEWER)
    rows = {"cluster": web, "service": backend.service, "backend": backend, "director": director}
    rows |= {"user": user, "group": group, "role": role, "binding": binding}
    rows["profile"] = WeightProfile.objects.create(cluster=web, name="night")
    rows["drain"] = Drain.objects.create(cluster=web, targets=[], begins_at=timezone.now())
    return {noun: row.pk for noun, row in rows.items()}


def grow_old(client: Client) -> None:
    session = client.session
    session["signed_in_at"] = int(time.time()) - 16 * 60
    session.save()


def test_every_url_that_asks_again_is_tested() -> None:
    assert set(GONE_FOR_GOOD) | OTHERS == gates.CONFIRM_FIRST


@pytest.mark.parametrize("name", GONE_FOR_GOOD)
@pytest.mark.parametrize("method", ["get", "post"])
def test_what_cannot_be_undone_asks_again(
    name: str, method: str, ann: Client, numbers: dict[str, int]
) -> None:
    url = reverse(name, args=[numbers[noun] for noun in GONE_FOR_GOOD[name]])
    grow_old(ann)
    before = AuditEntry.objects.count()
    asked = getattr(ann, method)(url)
    assert asked.status_code == 302 and asked["Location"].startswith(reverse("account_reauthenticate"))
    assert AuditEntry.objects.count() == before, "nothing was done"
    ann.post(asked["Location"], {"password": PASSWORD})
    assert not getattr(ann, method)(url).headers.get("Location", "").startswith("/confirm/")


def test_who_throws_an_unapplied_draft_away_is_asked_again(
    ann: Client, web: Cluster, service: VirtualService, backend: Backend, director: Any
) -> None:
    """To look first is free, and so is an import that only adds."""
    apply_draft(web)
    grow_old(ann)
    back, take = reverse("revision-roll-back", args=[web.pk, 1]), reverse("cluster-import", args=[web.pk])
    text = {"kind": "ipvsadm", "text": "-A -t 192.0.2.9:80 -s rr"}
    assert ann.get(back).status_code == 200 and ann.get(take).status_code == 200
    assert ann.post(take, text | {"replace": "on"}).status_code == 200
    seen = ann.post(take, text).context["seen"]
    assert ann.post(take, text | {"take": "1", "seen": seen}).status_code == 302
    for url, sent in [(back, {"seen": "x"}), (take, text | {"take": "1", "replace": "on", "seen": "x"})]:
        asked = ann.post(url, sent)
        assert asked.status_code == 302 and asked["Location"].startswith(reverse("account_reauthenticate"))


def test_what_was_posted_is_done_once_it_is_confirmed(ann: Client, service: VirtualService) -> None:
    grow_old(ann)
    url = reverse("service-remove", args=[service.pk])
    asked = ann.post(url, {"confirm": "192.168.50.10:80", "seen": mark_of(service)})
    assert VirtualService.objects.exists()
    done = ann.post(asked["Location"], {"password": PASSWORD, "next": url})
    assert done.status_code == 302 and not VirtualService.objects.exists()
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.actor) == ("service.remove", "ann")


def edited(client: Client, web: Cluster, **typed: str) -> dict[str, Any]:
    """What a browser sends of the cluster's form, opened now, with these fields typed."""
    page = client.get(reverse("cluster-edit", args=[web.pk]))
    form = page.context["form"]
    shown = {name: form[name].value() or "" for name in form.fields}
    return shown | {"opened": page.context["opened"].opened} | typed


def test_nobody_lowers_approvals_at_a_screen_that_was_left_open(ann: Client, web: Cluster) -> None:
    Cluster.objects.update(approvals=2)
    sent = edited(ann, web, approvals="0", reason="faster")
    grow_old(ann)
    asked = ann.post(reverse("cluster-edit", args=[web.pk]), sent)
    assert asked["Location"].startswith(reverse("account_reauthenticate"))
    assert Cluster.objects.get().approvals == 2


def test_what_was_typed_into_a_clusters_form_is_saved_once_it_is_confirmed(ann: Client, web: Cluster) -> None:
    sent = edited(ann, web, description="Shops & banks", approvals="1", reason="a second pair of eyes")
    grow_old(ann)
    asked = ann.post(reverse("cluster-edit", args=[web.pk]), sent)
    wrong = ann.post(asked["Location"], {"password": "wrong"})
    assert wrong.status_code == 422
    done = ann.post(asked["Location"], {"password": PASSWORD})
    assert done["Location"] == reverse("cluster-detail", args=[web.pk])
    saved = Cluster.objects.get()
    assert (saved.description, saved.approvals) == ("Shops & banks", 1)


def test_what_was_typed_wrongly_is_still_there_once_it_is_confirmed(ann: Client, web: Cluster) -> None:
    sent = edited(ann, web, name="no such name!", description="Shops & banks", reason="x")
    grow_old(ann)
    asked = ann.post(reverse("cluster-edit", args=[web.pk]), sent)
    page = ann.post(asked["Location"], {"password": PASSWORD}).content.decode()
    assert "no such name!" in page and "Shops &amp; banks" in page
    assert Cluster.objects.get().description == ""


def test_one_change_is_taken_back_without_asking_and_all_of_them_are_not(
    ann: Client, web: Cluster, backend: Backend, director: Any
) -> None:
    apply_draft(web)
    Backend.objects.update(weight=7)
    url = reverse("draft-discard", args=[web.pk])
    grow_old(ann)

    def seen() -> str:
        cluster = Cluster.objects.get()
        return desired.draft_print(*desired.draft_said(cluster))

    every = {"all": "1", "confirm": "web", "seen": seen()}
    asked = ann.post(url, every)
    assert asked["Location"].startswith(reverse("account_reauthenticate"))
    assert Backend.objects.get().weight == 7
    item = ann.get(reverse("cluster-draft", args=[web.pk])).context["changes"][0].difference.id
    # Whoever says both gets the one.
    ann.post(url, every | {"item": item})
    assert Backend.objects.get().weight == 1
    Backend.objects.update(weight=7)
    asked = ann.post(url, every)
    assert Backend.objects.get().weight == 7
    ann.post(asked["Location"], {"password": PASSWORD})
    assert Backend.objects.get().weight == 1


def test_a_forged_post_is_not_kept_for_later(ann: Client, service: VirtualService) -> None:
    grow_old(ann)
    ann.handler.enforce_csrf_checks = True
    forged = ann.post(reverse("service-remove", args=[service.pk]), {"confirm": "192.168.50.10:80"})
    assert forged.status_code == 403 and "account_reauthentication_state" not in ann.session


def test_a_wrong_password_confirms_nothing_and_counts(ann: Client, numbers: dict[str, int]) -> None:
    grow_old(ann)
    asked = ann.get(reverse("person-new"))
    wrong = ann.post(asked["Location"], {"password": "wrong"})
    assert wrong.status_code == 422 and "This is not your password." in wrong.content.decode()
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.target, entry.result) == ("account.confirm", "ann", "refused")
    assert entry.object_kind == "person" and entry.object_id
    assert ann.get(reverse("person-new")).status_code == 302
    for _ in range(9):
        wrong = ann.post(asked["Location"], {"password": "wrong"})
    assert wrong.status_code == 429


def test_a_code_confirms_as_well(uma: User, client: Client, service: VirtualService) -> None:
    give_password(client)
    give_code(client, code_of(SECRET))
    session = client.session
    session["signed_in_at"] -= 16 * 60
    for record in session["account_authentication_methods"]:
        record["at"] -= 16 * 60
    session.save()
    url = reverse("service-remove", args=[service.pk])
    asked = client.get(url)
    other = reverse("mfa_reauthenticate")
    assert other in client.get(asked["Location"]).content.decode(), "both ways are offered"
    assert client.post(f"{other}?next={url}", {"code": code_of(SECRET)}).status_code == 422, "used before"
    assert client.post(f"{other}?next={url}", {"code": code_of(SECRET, seconds=30)})["Location"] == url
    assert client.get(url).status_code == 200


def test_enrolling_asks_again_as_well(otto: Client) -> None:
    grow_old(otto)
    for name in ("mfa_activate_totp", "mfa_add_webauthn"):
        assert otto.get(reverse(name))["Location"].startswith(reverse("account_reauthenticate"))


def test_a_confirmation_does_not_lead_elsewhere(ann: Client) -> None:
    grow_old(ann)
    done = ann.post(reverse("account_reauthenticate") + "?next=https://evil.example/", {"password": PASSWORD})
    assert done["Location"] == "/"
