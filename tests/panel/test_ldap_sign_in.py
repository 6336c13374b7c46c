"""Signing in with a password of an LDAP directory: a real slapd, which is a process beside the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from cluster.actions import tokens
from cluster.models import AuditEntry, Cluster, Role, RoleBinding
from tests.panel.slapd import PASSWORD, configure, running, sign_in
from tests.panel.test_roles import acting
from tests.panel.test_tokens import names


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("slapd")) as server:
        yield server.plain


@pytest.fixture
def directory(slapd: str, settings: Any, monkeypatch: pytest.MonkeyPatch, db: None) -> str:
    """The panel, told of it."""
    configure(slapd, settings, monkeypatch)
    return slapd


def ask_again(client: Client) -> str:
    """Where somebody who signed in a while ago is sent before what is final."""
    session = client.session
    session["signed_in_at"] -= 16 * 60
    for record in session["account_authentication_methods"]:
        record["at"] -= 16 * 60
    session.save()
    return str(client.get(reverse("person-new"))["Location"])


def test_a_mapped_group_lets_in_and_is_written_down(directory: str, client: Client) -> None:
    assert sign_in(client)["Location"] == "/" and client.get("/").status_code == 200
    olga = User.objects.get(username="olga")
    assert [group.name for group in olga.groups.all()] == ["operators"] and not olga.has_usable_password()
    signed_in, added = AuditEntry.objects.all()[:2]
    assert (signed_in.action, added.action, added.target) == ("sign-in", "person.add", "olga")
    assert sign_in(Client())["Location"] == "/" and User.objects.count() == 1


def test_a_wrong_password_and_an_unknown_name_get_the_same_words(directory: str, client: Client) -> None:
    wrong, unknown = sign_in(client, password="wrong"), sign_in(client, "nobody")
    assert wrong.status_code == unknown.status_code == 422
    assert wrong.context["form"].errors == unknown.context["form"].errors
    assert sign_in(client, "ol*").status_code == 422 and not User.objects.exists()
    assert sign_in(client, password="").status_code == 422, "slapd would take it for nobody in particular"


def test_guessing_is_locked_out_as_elsewhere(directory: str, client: Client) -> None:
    for _ in range(10):
        sign_in(client, password="wrong")
    assert sign_in(client).status_code == 429
    assert sign_in(Client(REMOTE_ADDR="198.51.100.7"))["Location"] == "/"


def test_without_a_mapped_group_nobody_comes_in(directory: str, client: Client) -> None:
    page = sign_in(client, "greg")
    assert page.status_code == 422 and "none of your groups" in page.content.decode()
    assert not User.objects.exists()
    entry = AuditEntry.objects.first()
    assert entry and entry.action == "sign-in.refused" and "none of your groups" in entry.reason


def test_groups_count_anew_at_each_sign_in(directory: str, client: Client) -> None:
    sign_in(client)
    olga = User.objects.get(username="olga")
    olga.groups.set([Group.objects.create(name="administrators"), Group.objects.create(name="of our own")])
    sign_in(Client())
    assert sorted(group.name for group in olga.groups.all()) == ["of our own", "operators"]


def test_whoever_has_lost_the_group_loses_what_it_gave(
    directory: str, client: Client, settings: Any, web: Cluster
) -> None:
    sign_in(client)
    olga = User.objects.get(username="olga")
    RoleBinding.objects.create(group=olga.groups.get(), role=Role.OPERATOR)
    olga.groups.add(Group.objects.create(name="of our own"))
    token = tokens.create_token(olga, name="reports", by=acting(olga))
    assert names(token) == ["web"]
    settings.LDAP_GROUPS = [("elsewhere", "operators")]
    assert sign_in(Client(), password="wrong").status_code == 422 and names(token) == ["web"]
    assert "none of your groups" in sign_in(Client()).content.decode()
    assert client.get("/")["Location"].startswith(reverse("login")) and names(token) == []
    assert [group.name for group in olga.groups.all()] == ["of our own"]
    entry = AuditEntry.objects.get(action="person.set-groups")
    assert entry.before == {"groups": ["operators"]}
    assert entry.after == {"groups": [], "sessions_ended": 1}


def test_whoever_lost_the_group_and_is_asked_again_is_out(
    directory: str, client: Client, settings: Any
) -> None:
    sign_in(client)
    RoleBinding.objects.create(user=User.objects.get(), role=Role.ADMINISTRATOR, cluster=None)
    asked = ask_again(client)
    session = client.session
    session["used_at"] -= 120  # the page was open for two minutes
    session.save()
    settings.LDAP_GROUPS = [("elsewhere", "operators")]
    page = client.post(asked, {"password": PASSWORD})
    assert page.status_code == 422 and "none of your groups" in page.content.decode()
    assert not User.objects.get().groups.exists() and client.get("/").status_code == 302


def test_an_account_of_the_panel_with_such_a_name_keeps_its_groups(
    directory: str, client: Client, settings: Any
) -> None:
    uma = User.objects.create_user(username="uma", password="a password of her own")
    uma.groups.add(Group.objects.create(name="operators"))
    sign_in(client, "uma", "a password of her own")
    settings.LDAP_GROUPS = [("elsewhere", "operators")]
    assert sign_in(Client(), "uma").status_code == 422
    assert uma.groups.exists() and client.get("/").status_code == 200


@pytest.mark.parametrize("name", ["uma", "panel"])
def test_an_account_of_the_panel_is_not_taken_over(directory: str, client: Client, name: str) -> None:
    User.objects.create_user(username="uma", password="a password of her own")
    page = sign_in(client, name)
    assert page.status_code == 422 and "does not keep" in page.content.decode()
    assert sign_in(client, "uma", "a password of her own")["Location"] == "/"


def test_a_closed_account_is_out_and_stays_out(directory: str, client: Client) -> None:
    sign_in(client)
    User.objects.update(is_active=False)
    assert client.get("/").status_code == 302
    assert sign_in(Client()).status_code == 422


def test_before_what_is_final_the_directory_is_asked_again(directory: str, client: Client) -> None:
    sign_in(client)
    RoleBinding.objects.create(user=User.objects.get(), role=Role.ADMINISTRATOR, cluster=None)
    asked = ask_again(client)
    assert asked.startswith(reverse("account_reauthenticate"))
    assert client.post(asked, {"password": "wrong"}).status_code == 422
    assert client.post(asked, {"password": PASSWORD})["Location"] == reverse("person-new")
    assert client.get(reverse("person-new")).status_code == 200


def test_with_the_directory_away_accounts_of_the_panel_still_sign_in(
    settings: Any, monkeypatch: pytest.MonkeyPatch, db: None, client: Client
) -> None:
    configure("ldap://127.0.0.1:9", settings, monkeypatch)
    User.objects.create_user(username="uma", password="a password of her own")
    assert sign_in(client).status_code == 422
    assert sign_in(client, "uma", "a password of her own")["Location"] == "/"


def test_the_environment_turns_it_on(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LVSADMIN_")}
    more = {"LVSADMIN_LDAP_URL": "ldap://127.0.0.1", "LVSADMIN_DATA_DIR": str(tmp_path)}
    more |= {"LVSADMIN_LDAP_START_TLS": "0"}
    text = "import lvsadmin.settings as it; print(it.AUTH_LDAP_START_TLS, it.AUTHENTICATION_BACKENDS[-1])"
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, env=kept | more, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "cluster.ldap_sign_in.Directory"], done.stderr
