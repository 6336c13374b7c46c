"""Signing in by an OpenID provider, which is a process beside the tests and knows nothing of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn.forms import LoginWebAuthnForm
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from cluster import gates
from cluster.actions import tokens
from cluster.models import AuditEntry, Cluster, Role, RoleBinding
from lvsadmin import env
from tests.panel import openid_provider as agreed
from tests.panel.conftest import text_of
from tests.panel.openid_provider import visit
from tests.panel.openid_provider.visit import Browser, NotLetIn
from tests.panel.test_roles import acting
from tests.panel.test_tokens import names

PASSWORD = "correct horse battery"
BEGIN = "/sign-in/with/oidc/"
BACK = f"{BEGIN}back/"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    with visit.running(tmp_path_factory.mktemp("provider")) as issuer:
        yield issuer


@pytest.fixture
def sso(provider: str, settings: Any, db: None) -> str:
    """The panel, told of it."""
    configure(settings, provider)
    return provider


def configure(settings: Any, url: str, *, client: str = agreed.CLIENT, secret: str = agreed.SECRET) -> None:
    """As the variables would, with what they leave to the panel as it is."""
    settings.OIDC_URL, settings.OIDC_NAME = url, "Bank ID"
    settings.OIDC_GROUPS = [("lvs-ops", "operators"), ("lvs-admins", "administrators")]
    app = settings.OIDC_APP | {"name": "Bank ID", "client_id": client, "secret": secret}
    app["settings"] = app["settings"] | {"server_url": url}
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [app]}}


def come_back(client: Client, name: str, begin: str = BEGIN, browser: Browser | None = None) -> Any:
    """What the panel answers to somebody whom the provider has let in."""
    away = client.get(begin)
    assert away.status_code == 302, away.content.decode()
    back = (browser or Browser()).visit(away["Location"], name)
    return client.get(path_of(back))


def path_of(url: str, **changes: str) -> str:
    """Without the host, which a test client does not need, and with other values in its query."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return f"{parts.path}?{urlencode(query | changes)}"


def pass_a_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the panel it is 16 minutes later."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 16 * 60)


def forget_a_quarter(client: Client) -> None:
    """The session was opened 16 minutes earlier, with what was shown then."""
    session = client.session
    session["signed_in_at"] -= 16 * 60
    for record in session["account_authentication_methods"]:
        record["at"] -= 16 * 60
    session.save()


def said(client: Client) -> str:
    return client.get(reverse("login")).content.decode()


def test_a_mapped_group_lets_in_and_is_written_down(sso: str, client: Client) -> None:
    assert "Sign in by Bank ID" in said(client)
    assert come_back(client, "olga", f"{BEGIN}?next=/services/")["Location"] == "/services/"
    olga = User.objects.get(username="olga")
    assert [group.name for group in olga.groups.all()] == ["operators"] and not olga.has_usable_password()
    assert client.get("/").status_code == 200
    account = client.get(reverse("account")).content.decode()
    assert "kept elsewhere" in account and "Old password" not in account
    signed_in, added = AuditEntry.objects.all()[:2]
    assert (signed_in.action, signed_in.actor, signed_in.after) == ("sign-in", "olga", {"with": ["Bank ID"]})
    assert (added.action, added.target) == ("person.add", "olga")


def test_name_and_groups_are_read_where_only_the_token_has_them(
    sso: str, client: Client, settings: Any
) -> None:
    configure(settings, sso, client=agreed.TERSE_CLIENT)
    come_back(client, "uma")
    assert [group.name for group in User.objects.get(username="uma").groups.all()] == ["operators"]
    come_back(Client(), "greg")
    assert AuditEntry.objects.get(action="sign-in.refused").target == "greg"


def test_token_and_userinfo_of_two_people_let_neither_in(sso: str, client: Client, settings: Any) -> None:
    configure(settings, sso, client=agreed.TWISTED_CLIENT)
    assert come_back(client, "olga")["Location"] == reverse("login")
    assert "spoke of two people" in said(client) and not User.objects.exists()
    assert AuditEntry.objects.get(action="sign-in.refused").target == "olga"


def test_the_second_time_it_is_the_same_person(sso: str, client: Client) -> None:
    come_back(client, "olga")
    come_back(Client(), "olga")
    assert User.objects.count() == 1


def test_without_a_mapped_group_nobody_comes_in(sso: str, client: Client) -> None:
    assert come_back(client, "greg")["Location"] == reverse("login")
    assert "none of your groups there opens this panel" in said(client)
    assert not User.objects.exists() and client.get("/").status_code == 302
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.target, entry.result) == ("sign-in.refused", "greg", "refused")


def test_groups_count_anew_at_each_sign_in(sso: str, client: Client) -> None:
    come_back(client, "olga")
    olga = User.objects.get(username="olga")
    olga.groups.set([Group.objects.create(name="administrators"), Group.objects.create(name="of our own")])
    come_back(Client(), "olga")
    assert sorted(group.name for group in olga.groups.all()) == ["of our own", "operators"]
    entry = AuditEntry.objects.filter(action="person.set-groups").get()
    assert entry.before == {"groups": ["administrators"]} and entry.after == {"groups": ["operators"]}


def test_whoever_has_lost_the_group_is_not_let_in_again(sso: str, client: Client, settings: Any) -> None:
    come_back(client, "olga")
    settings.OIDC_GROUPS = [("lvs-admins", "administrators")]
    other = Client()
    assert come_back(other, "olga")["Location"] == reverse("login") and other.get("/").status_code == 302


def test_whoever_has_lost_the_group_loses_what_it_gave(
    sso: str, client: Client, settings: Any, web: Cluster
) -> None:
    """Sessions end; a token is as little as its owner is then. What the provider does not say stays."""
    come_back(client, "olga")
    olga = User.objects.get(username="olga")
    RoleBinding.objects.create(group=olga.groups.get(), role=Role.OPERATOR)
    olga.groups.add(Group.objects.create(name="of our own"))
    token = tokens.create_token(olga, name="reports", by=acting(olga))
    assert names(token) == ["web"]
    settings.OIDC_GROUPS = [("elsewhere", "operators")]
    assert come_back(Client(), "olga")["Location"] == reverse("login")
    assert client.get("/")["Location"].startswith(reverse("login")) and names(token) == []
    assert [group.name for group in olga.groups.all()] == ["of our own"]
    entry = AuditEntry.objects.get(action="person.set-groups")
    assert entry.before == {"groups": ["operators"]} and entry.reason == "said by Bank ID"
    assert entry.after == {"groups": [], "sessions_ended": 1}
    come_back(Client(), "olga")
    assert AuditEntry.objects.filter(action="person.set-groups").count() == 1, "nothing was left to lose"


def test_whoever_lost_the_group_and_is_asked_again_is_out(
    sso: str, client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Browser()
    come_back(client, "olga", browser=there)
    RoleBinding.objects.create(user=User.objects.get(), role=Role.ADMINISTRATOR, cluster=None)
    pass_a_quarter(monkeypatch)
    asked = client.get(reverse("person-new"))["Location"]
    settings.OIDC_GROUPS = [("elsewhere", "operators")]
    assert come_back(client, "olga", asked, there)["Location"] == reverse("login")
    assert "none of your groups there opens this panel" in said(client)
    assert not User.objects.get().groups.exists() and client.get("/").status_code == 302


def test_a_closed_account_stays_closed(sso: str, client: Client) -> None:
    come_back(client, "olga")
    User.objects.update(is_active=False)
    other = Client()
    assert come_back(other, "olga")["Location"] == reverse("login") and other.get("/").status_code == 302
    assert "This account is closed." in said(other)


@pytest.mark.parametrize("name", ["panel", "a b <i>"])
def test_names_of_the_panel_and_odd_ones_are_refused(sso: str, client: Client, name: str) -> None:
    come_back(client, name)
    assert "cannot be a user name" in said(client) and not User.objects.exists()


def test_a_local_account_is_not_taken_over_but_can_be_tied_by_its_owner(sso: str, client: Client) -> None:
    uma = User.objects.create_user(username="uma", password=PASSWORD)
    come_back(client, "uma")
    assert "not tied to Bank ID" in said(client) and client.get("/").status_code == 302
    client.post(reverse("login"), {"username": "uma", "password": PASSWORD})
    assert "Tie this account to Bank ID" in client.get(reverse("account")).content.decode()
    assert come_back(client, "uma", f"{BEGIN}?process=connect")["Location"] == reverse("account")
    other = Client()
    assert come_back(other, "uma")["Location"] == "/"
    assert other.session["_auth_user_id"] == str(uma.pk) and User.objects.count() == 1


def test_another_site_cannot_tie_an_account(sso: str, client: Client) -> None:
    client.force_login(User.objects.create_user(username="uma", password=PASSWORD))
    begun = client.get(f"{BEGIN}?process=connect", headers={"Sec-Fetch-Site": "cross-site"})
    assert begun["Location"] == reverse("account")


def test_the_providers_sign_in_counts_as_two_factors_where_it_should(
    sso: str, client: Client, settings: Any
) -> None:
    settings.SECOND_FACTOR_REQUIRED = True
    come_back(client, "olga")
    RoleBinding.objects.create(user=User.objects.get(), role=Role.OPERATOR, cluster=None)
    assert client.get("/")["Location"] == reverse("mfa_index"), "many providers ask for a password alone"
    settings.OIDC_IS_SECOND_FACTOR = True
    other = Client()
    come_back(other, "olga")
    assert other.get("/").status_code == 200


def test_before_what_is_final_the_provider_is_asked_again(sso: str, client: Client) -> None:
    there = Browser()
    come_back(client, "olga", browser=there)
    RoleBinding.objects.create(user=User.objects.get(), role=Role.ADMINISTRATOR, cluster=None)
    forget_a_quarter(client)
    asked = client.get(reverse("person-new"))
    assert asked["Location"].startswith(BEGIN) and "prompt" in asked["Location"]
    assert "prompt=login" in client.get(asked["Location"])["Location"]
    assert come_back(client, "olga", asked["Location"], there)["Location"] == reverse("person-new")
    assert "password" in there.asked
    assert client.get(reverse("person-new")).status_code == 200


def test_what_the_provider_remembers_is_no_answer_before_what_is_final(
    sso: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cookie lets whoever sits at an open screen in again, and says nothing of who that is."""
    there = Browser()
    come_back(client, "olga", browser=there)
    RoleBinding.objects.create(user=User.objects.get(), role=Role.ADMINISTRATOR, cluster=None)
    assert client.get(reverse("person-new")).status_code == 200
    pass_a_quarter(monkeypatch)
    other = Client()
    assert come_back(other, "olga", browser=there)["Location"] == "/" and there.asked == ["consent"]
    asked = other.get(reverse("person-new"))
    assert asked["Location"].startswith(BEGIN)
    # Whoever takes the question out of the address is no further, and is told why.
    away = other.get(asked["Location"])["Location"].replace("prompt=login", "display=page")
    assert other.get(path_of(there.visit(away, "olga")))["Location"] == reverse("account")
    assert "did not ask you again" in other.get(reverse("account")).content.decode()
    assert other.get(reverse("person-new"))["Location"].startswith(BEGIN)


def test_a_form_that_was_sent_before_the_provider_asks_again_is_not_lost(
    sso: str, client: Client, ann: Client
) -> None:
    there = Browser()
    come_back(client, "olga", browser=there)
    RoleBinding.objects.create(user=User.objects.get(username="olga"), role=Role.ADMINISTRATOR, cluster=None)
    assert client.get(reverse("person-new")).status_code == 200
    forget_a_quarter(client)
    form = {"username": "newcomer", "role": "viewer", "cluster": "", "csrfmiddlewaretoken": "x"}
    asked = client.post(reverse("person-new"), form)
    assert asked["Location"].startswith(BEGIN) and not User.objects.filter(username="newcomer").exists()
    back = come_back(client, "olga", asked["Location"], there)["Location"]
    page = client.get(back)
    assert "Go on with what you sent?" in text_of(page) and "newcomer" in text_of(page)
    assert page.context["sent"]["path"] == reverse("person-new")
    again = dict(page.context["sent"]["fields"])
    assert again == {"username": "newcomer", "role": "viewer", "cluster": ""}
    assert "link" in text_of(client.post(page.context["sent"]["path"], again))
    assert User.objects.filter(username="newcomer").exists()
    assert ann.get(back)["Location"] == "/", "nobody else sees it"
    cache.clear()
    assert "is not kept any more" in client.get(back, follow=True).content.decode()


def test_a_form_that_is_too_large_to_keep_is_not(
    sso: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    come_back(client, "olga")
    RoleBinding.objects.create(user=User.objects.get(username="olga"), role=Role.ADMINISTRATOR, cluster=None)
    pass_a_quarter(monkeypatch)
    asked = client.post(reverse("person-new"), {"username": "x" * gates.MOST_KEPT})
    (back,) = parse_qs(urlsplit(asked["Location"]).query)["next"]
    assert "is not kept any more" in client.get(back, follow=True).content.decode()


def test_what_the_provider_remembers_is_enough_to_tie_an_account(
    sso: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Browser()
    there.visit(client.get(BEGIN)["Location"], "uma")
    pass_a_quarter(monkeypatch)
    client.force_login(User.objects.create_user(username="uma", password=PASSWORD))
    come_back(client, "uma", f"{BEGIN}?process=connect", there)
    assert there.asked == ["consent"] and AuditEntry.objects.get(action="account.tie").actor == "uma"


def test_with_the_provider_given_up_its_people_have_to_sign_in_otherwise(
    sso: str, client: Client, settings: Any
) -> None:
    come_back(client, "olga")
    RoleBinding.objects.create(user=User.objects.get(), role=Role.ADMINISTRATOR, cluster=None)
    session = client.session
    session["signed_in_at"] -= 16 * 60
    del session["account_authentication_methods"]
    session.save()
    settings.OIDC_URL = ""
    assert client.get(reverse("person-new"))["Location"] == reverse("login")
    assert client.get("/").status_code == 302


def test_an_answer_that_nobody_asked_for_opens_nothing(sso: str, client: Client) -> None:
    back = Browser().visit(client.get(BEGIN)["Location"], "olga")
    victim = Client()
    assert victim.get(path_of(back))["Location"] == reverse("login")
    assert victim.get("/").status_code == 302 and not User.objects.exists()


@pytest.mark.parametrize("query", ["error=nope&state=zzz", "error=nope", "code=x&state=zzz", ""])
def test_an_answer_that_nobody_asked_for_is_said_and_not_written_down(
    sso: str, client: Client, query: str
) -> None:
    assert client.get(f"{BACK}?{query}")["Location"] == reverse("login")
    assert "did not sign you in" in said(client)
    assert not AuditEntry.objects.filter(action="sign-in.refused").exists()


def test_an_answer_to_another_browsers_sign_in_is_not_written_down(sso: str, client: Client) -> None:
    state = parse_qs(urlsplit(client.get(BEGIN)["Location"]).query)["state"][0]
    Client().get(f"{BACK}?error=nope&state={state}")
    assert not AuditEntry.objects.exists()


def refused_at(address: str) -> int:
    return AuditEntry.objects.filter(action="sign-in.refused", address=address).count()


def test_refused_sign_ins_fill_the_log_no_further_than_wrong_passwords(sso: str, settings: Any) -> None:
    for address in ["203.0.113.9", "203.0.113.10"]:
        for _ in range(settings.AXES_FAILURE_LIMIT + 2):
            client = Client(REMOTE_ADDR=address)
            state = parse_qs(urlsplit(client.get(BEGIN)["Location"]).query)["state"][0]
            client.get(f"{BACK}?error=nope&state={state}")
            assert "did not sign you in" in said(client)
        assert refused_at(address) == settings.AXES_FAILURE_LIMIT


def test_of_an_address_with_many_names_no_more_is_written_down(sso: str, settings: Any) -> None:
    settings.ADDRESS_FAILURE_LIMIT = 3
    for name in ["greg", "a b <i>", "panel", "greg"]:
        come_back(Client(), name)
    assert refused_at("127.0.0.1") == 3


def test_a_state_of_somebody_elses_making_opens_nothing(sso: str, client: Client) -> None:
    back = Browser().visit(client.get(BEGIN)["Location"], "olga")
    assert client.get(path_of(back, state="made-up"))["Location"] == reverse("login")
    assert client.get("/").status_code == 302 and not User.objects.exists()


def test_a_code_begun_in_another_browser_is_the_providers_to_refuse(sso: str, client: Client) -> None:
    """State and code are each a true one; what does not fit is the PKCE verifier."""
    code = parse_qs(urlsplit(Browser().visit(Client().get(BEGIN)["Location"], "olga")).query)["code"][0]
    back = Browser().visit(client.get(BEGIN)["Location"], "uma")
    assert client.get(path_of(back, code=code))["Location"] == reverse("login")
    assert "invalid_grant" in said(client)
    assert client.get("/").status_code == 302 and not User.objects.exists()


def test_the_provider_needs_pkce_and_has_it(sso: str, client: Client) -> None:
    away = client.get(BEGIN)["Location"]
    assert "code_challenge_method=S256" in away
    bare = away.replace("code_challenge", "no_challenge")
    assert "error=invalid_request" in Browser().visit(bare, "olga"), "The provider needs it."


def test_a_wrong_secret_of_the_panel_lets_nobody_in(sso: str, client: Client, settings: Any) -> None:
    configure(settings, sso, secret="old one")
    assert come_back(client, "olga")["Location"] == reverse("login")
    assert "Bank ID did not sign you in" in said(client) and not User.objects.exists()
    entry = AuditEntry.objects.get(action="sign-in.refused")
    assert "invalid_client" in entry.reason and "old one" not in entry.reason


def test_a_wrong_password_at_the_provider_brings_nobody_back(sso: str, client: Client) -> None:
    away = client.get(BEGIN)["Location"]
    with pytest.raises(NotLetIn):
        Browser().visit(away, "olga", password="guessed")
    assert client.get("/").status_code == 302


def test_a_sign_in_refused_at_the_provider_is_said(sso: str, client: Client) -> None:
    back = Browser().visit(client.get(BEGIN)["Location"], "olga", allows=False)
    assert "error=access_denied" in back
    assert client.get(path_of(back))["Location"] == reverse("login")
    assert "did not sign you in" in said(client) and not User.objects.exists()


def test_a_provider_that_is_away_is_said(settings: Any, client: Client, db: None) -> None:
    configure(settings, "http://127.0.0.1:9")
    assert client.get(BEGIN)["Location"] == reverse("login")
    assert "Bank ID does not answer" in said(client)
    assert AuditEntry.objects.get().action == "sign-in.refused"


def test_a_provider_that_is_away_does_not_fill_the_log(settings: Any, client: Client, db: None) -> None:
    configure(settings, "http://127.0.0.1:9")
    for _ in range(settings.AXES_FAILURE_LIMIT + 2):
        client.get(BEGIN)
    assert "Bank ID does not answer" in said(client)
    assert AuditEntry.objects.count() == settings.AXES_FAILURE_LIMIT


def test_without_a_provider_nothing_is_offered(client: Client, db: None) -> None:
    assert client.get(BEGIN).status_code == 404 and "Sign in by" not in said(client)


def test_the_map_of_groups_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUPS", "cn=ops,=x")
    with pytest.raises(env.ImproperlyConfigured):
        env.pairs("GROUPS")
    monkeypatch.setenv("GROUPS", "lvs-ops=operators, lvs-admins = administrators")
    assert env.pairs("GROUPS") == [("lvs-ops", "operators"), ("lvs-admins", "administrators")]


def test_a_provider_without_tls_keeps_the_panel_from_starting(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LVSADMIN_")}
    more = {"LVSADMIN_OIDC_URL": "http://id.example.net", "LVSADMIN_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-c", "import lvsadmin.settings"]
    done = subprocess.run(command, env=kept | more, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "must begin with https://" in done.stderr
    more["LVSADMIN_OIDC_URL"] = "https://id.example.net/"
    more |= {"LVSADMIN_OIDC_NAME": "Bank ID", "LVSADMIN_OIDC_CLIENT_ID": "panel"}
    command[-1] += " as it; print(it.SOCIALACCOUNT_PROVIDERS['openid_connect']['APPS'])"
    done = subprocess.run(command, env=kept | more, capture_output=True, text=True, timeout=60)
    assert "'server_url': 'https://id.example.net'" in done.stdout and "'name': 'Bank ID'" in done.stdout


def _key_of(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this person's passkey had answered rightly; the real one is in the browser tests."""
    key = Authenticator.objects.create(user=user, type=Authenticator.Type.WEBAUTHN, data={"credential": {}})
    monkeypatch.setattr(LoginWebAuthnForm, "clean_credential", lambda _: key)


def test_a_passkey_of_the_panel_does_not_pass_the_provider_by(
    sso: str, client: Client, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Or whoever was shut out there would come in here."""
    come_back(client, "olga")
    olga = User.objects.get(username="olga")
    _key_of(olga, monkeypatch)
    browser = Client()
    browser.post(reverse("mfa_login_webauthn"), {"credential": '{"id": "x"}'})
    assert browser.get("/").status_code == 302
    entry = AuditEntry.objects.first()
    assert entry and entry.action == "sign-in.refused" and "has no password here" in entry.reason
    olga.set_password("correct horse battery")
    olga.save()
    browser.post(reverse("mfa_login_webauthn"), {"credential": '{"id": "x"}'})
    assert browser.get("/").status_code == 200, "an account of the panel's own may"


def test_no_key_is_called_a_passkey_that_could_not_be_one(sso: str, client: Client) -> None:
    come_back(client, "olga")
    page = client.get(reverse("mfa_add_webauthn"))
    assert page.context["form"].fields["passwordless"].disabled
    assert "Your account has no password here: the key is a second step." in page.content.decode()
