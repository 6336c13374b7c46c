"""Signing in with a password of an LDAP directory: a real slapd, which is a process beside the tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.urls import reverse

from cluster.models import AuditEntry, Role, RoleBinding
from lvsadmin import ldap_directory

PASSWORD = "kettle walnut orbit"
ADMIN = "cn=admin,dc=bank,dc=example"
CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
database mdb
suffix "dc=bank,dc=example"
rootdn "cn=admin,dc=bank,dc=example"
rootpw s3cret
directory {folder}/data
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
"""
PERSON = """
dn: uid={uid},dc=bank,dc=example
objectClass: inetOrgPerson
uid: {uid}
cn: {uid}
sn: {uid}
userPassword: kettle walnut orbit
"""
TREE = """
dn: dc=bank,dc=example
objectClass: dcObject
objectClass: organization
o: bank
dc: bank
"""
GROUP = """
dn: cn={cn},dc=bank,dc=example
objectClass: groupOfNames
cn: {cn}
"""


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. olga, uma and panel are in lvs-ops; greg is in the canteen's group alone."""
    folder = tmp_path_factory.mktemp("slapd")
    (folder / "data").mkdir()
    configuration = folder / "slapd.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder))
    people = ("olga", "uma", "panel", "greg")
    member = "member: uid={},dc=bank,dc=example\n"
    groups = GROUP.format(cn="lvs-ops") + "".join(member.format(one) for one in people[:3])
    groups += GROUP.format(cn="canteen") + member.format("greg")
    tree = TREE + "".join(PERSON.format(uid=one) for one in people) + groups
    add = ["/usr/sbin/slapadd", "-f", str(configuration)]
    subprocess.run(add, input=tree, text=True, check=True, capture_output=True, timeout=60)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"ldap://127.0.0.1:{port}"
    command = ["/usr/sbin/slapd", "-f", str(configuration), "-h", url, "-d", "0"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def directory(slapd: str, settings: Any, monkeypatch: pytest.MonkeyPatch, db: None) -> str:
    """The panel, told of it."""
    configure(slapd, settings, monkeypatch)
    return slapd


def configure(url: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVSADMIN_LDAP_PEOPLE", "dc=bank,dc=example")
    monkeypatch.setenv("LVSADMIN_LDAP_BIND_DN", ADMIN)
    monkeypatch.setenv("LVSADMIN_LDAP_BIND_PASSWORD", "s3cret")
    monkeypatch.setenv("LVSADMIN_LDAP_START_TLS", "0")
    settings.LDAP_URL = url
    settings.LDAP_GROUPS = [("lvs-ops", "operators"), ("lvs-admins", "administrators")]
    backends = [*settings.AUTHENTICATION_BACKENDS, "cluster.ldap_sign_in.Directory"]
    settings.AUTHENTICATION_BACKENDS = backends
    for name, value in ldap_directory.settings(url, may_be_plain=True).items():
        setattr(settings, name, value)


def sign_in(client: Client, name: str = "olga", password: str = PASSWORD) -> Any:
    return client.post(reverse("login"), {"username": name, "password": password})


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
    session = client.session
    session["signed_in_at"] -= 16 * 60
    for record in session["account_authentication_methods"]:
        record["at"] -= 16 * 60
    session.save()
    asked = client.get(reverse("person-new"))["Location"]
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
    more = {"LVSADMIN_LDAP_URL": "ldaps://ldap.example.net", "LVSADMIN_DATA_DIR": str(tmp_path)}
    text = "import lvsadmin.settings as it; print(it.AUTH_LDAP_SERVER_URI, it.AUTHENTICATION_BACKENDS[-1])"
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, env=kept | more, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["ldaps://ldap.example.net", "cluster.ldap_sign_in.Directory"], done.stderr


def test_passwords_do_not_go_over_the_network_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ldap_directory.settings("ldap://ldap.example.net", may_be_plain=False)
    assert said["AUTH_LDAP_START_TLS"] is True
    monkeypatch.setenv("LVSADMIN_LDAP_START_TLS", "0")
    with pytest.raises(ImproperlyConfigured, match="read on the way"):
        ldap_directory.settings("ldap://ldap.example.net", may_be_plain=False)
    assert ldap_directory.settings("ldaps://ldap.example.net", may_be_plain=False)
