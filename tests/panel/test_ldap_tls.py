"""The LDAP directory over TLS: a real slapd, with certificates of an authority that the tests make."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from lvsadmin import ldap_directory
from tests.panel.slapd import ELSEWHERE, HERE, Authority, Slapd, configure, running, sign_in

WAYS = pytest.mark.parametrize("way", ["ldaps", "StartTLS"])


@dataclass(frozen=True)
class Bank:
    authority: Path
    slapd: Slapd

    def url(self, way: str) -> str:
        return self.slapd.tls if way == "ldaps" else self.slapd.plain


def bank(
    folder: Path, *, name: x509.GeneralName = HERE, days: int = 1, ciphers: str = "NORMAL"
) -> Iterator[Bank]:
    authority = Authority(folder)
    with running(folder, authority.certificate(name, days=days), ciphers=ciphers) as slapd:
        yield Bank(authority.file, slapd)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    yield from bank(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def misnamed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    yield from bank(tmp_path_factory.mktemp("misnamed"), name=ELSEWHERE)


@pytest.fixture(scope="module")
def expired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    yield from bank(tmp_path_factory.mktemp("expired"), days=-1)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    yield from bank(tmp_path_factory.mktemp("old"), ciphers="NORMAL:-VERS-ALL:+VERS-TLS1.1")


@pytest.fixture
def doubtful(
    way: str,
    kind: str,
    request: pytest.FixtureRequest,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> str:
    """The address of a directory with a certificate of this kind, of which the panel is told."""
    it: Bank = request.getfixturevalue("good" if kind == "foreign" else kind)
    trusts = Authority(tmp_path).file if kind == "foreign" else it.authority
    configure(it.url(way), settings, monkeypatch, trusts=trusts)
    return it.url(way)


def refuses_as_for_a_wrong_password(client: Client) -> None:
    """The browser learns nothing else."""
    right, wrong = sign_in(client), sign_in(client, password="wrong")
    assert right.status_code == wrong.status_code == 422
    assert right.context["form"].errors == wrong.context["form"].errors
    assert not User.objects.exists()


@WAYS
def test_a_certificate_of_the_authority_for_this_name_lets_passwords_through(
    way: str, good: Bank, settings: Any, monkeypatch: pytest.MonkeyPatch, db: None, client: Client
) -> None:
    configure(good.url(way), settings, monkeypatch, trusts=good.authority)
    assert sign_in(client, password="wrong").status_code == 422
    assert sign_in(client)["Location"] == "/"
    assert [group.name for group in User.objects.get().groups.all()] == ["operators"]


@WAYS
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("foreign", "certificate verify failed"),
        ("misnamed", "not valid for '127.0.0.1'"),
        ("expired", "certificate has expired"),
        ("old", "protocol"),
    ],
)
def test_any_other_is_refused_and_the_log_says_why(
    doubtful: str, said: str, caplog: pytest.LogCaptureFixture, db: None, client: Client
) -> None:
    refuses_as_for_a_wrong_password(client)
    (line, *_) = [
        record.getMessage() for record in caplog.records if "Caught LDAPError" in record.getMessage()
    ]
    assert doubtful in line and said in line


@WAYS
@pytest.mark.parametrize("kind", ["foreign", "misnamed", "expired"])
def test_libldap_looks_at_the_certificate_too(doubtful: str, settings: Any, db: None, client: Client) -> None:
    """What was looked at before it is another connection, which somebody on the way could tell apart."""
    settings.AUTH_LDAP_SERVER_URI = doubtful
    refuses_as_for_a_wrong_password(client)


@WAYS
def test_the_next_server_is_asked_where_the_first_is_silent(
    way: str, good: Bank, settings: Any, monkeypatch: pytest.MonkeyPatch, db: None, client: Client
) -> None:
    monkeypatch.setattr(ldap_directory, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        scheme = good.url(way).split(":")[0]
        both = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}, {good.url(way)}"
        configure(both, settings, monkeypatch, trusts=good.authority)
        assert sign_in(client)["Location"] == "/"


@WAYS
def test_a_silent_server_ends_the_wait(
    way: str,
    good: Bank,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    db: None,
    client: Client,
) -> None:
    monkeypatch.setattr(ldap_directory, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{good.url(way).split(':')[0]}://127.0.0.1:{silent.getsockname()[1]}"
        configure(url, settings, monkeypatch, trusts=good.authority)
        refuses_as_for_a_wrong_password(client)
    assert "timed out" in caplog.text


@pytest.mark.parametrize("by_libldap_alone", [False, True])
def test_a_server_that_starts_no_tls_hears_no_password(
    by_libldap_alone: bool,
    good: Bank,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    db: None,
    client: Client,
) -> None:
    heard = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def decline() -> None:
            connection, _ = listener.accept()
            with connection:
                heard.extend(connection.recv(4096))
                connection.sendall(bytes.fromhex("300c 020101 7807 0a0102 0400 0400"))
                heard.extend(connection.recv(4096))

        thread = threading.Thread(target=decline)
        thread.start()
        url = f"ldap://127.0.0.1:{listener.getsockname()[1]}"
        configure(url, settings, monkeypatch, trusts=good.authority)
        if by_libldap_alone:
            settings.AUTH_LDAP_SERVER_URI = url
        assert sign_in(client).status_code == 422
        thread.join(10)
    assert b"1.3.6.1.4.1.1466.20037" in heard and b"s3cret" not in heard and b"olga" not in heard
    assert ("PROTOCOL_ERROR" if by_libldap_alone else "does not start TLS") in caplog.text


# What is said when the panel starts.


@pytest.mark.parametrize(
    "url",
    [
        "ldap://ldap.example.net",
        "LDAP://192.0.2.7",
        "ldap://127.0.0.1,ldap://192.0.2.7",
        "ldap://[2001:db8::1]",
    ],
)
def test_passwords_do_not_go_over_the_network_as_they_are(
    url: str, good: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LVSADMIN_LDAP_CA_FILE", str(good.authority))
    assert ldap_directory.settings(url)["AUTH_LDAP_START_TLS"] is True
    monkeypatch.setenv("LVSADMIN_LDAP_START_TLS", "0")
    with pytest.raises(ImproperlyConfigured, match="read on the way"):
        ldap_directory.settings(url)


@pytest.mark.parametrize("url", ["ldap://127.0.0.1", "ldap://localhost:3890", "ldap://[::1]"])
def test_a_directory_on_the_machine_itself_needs_no_tls(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVSADMIN_LDAP_START_TLS", "0")
    assert ldap_directory.settings(url)["AUTH_LDAP_START_TLS"] is False


@pytest.mark.parametrize(
    "url",
    [
        "ldap.example.net",
        "http://ldap.example.net",
        "ldaps://",
        "ldaps://a:b",
        "ldaps://a, ldap://b",
        "ldapi:///",
        ",",
    ],
)
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="LVSADMIN_LDAP_URL is “.*”. Write ldaps://"):
        ldap_directory.settings(url)


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_authorities_that_cannot_be_read_are_named(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text:
        (tmp_path / "ca.pem").write_text(text)
    monkeypatch.setenv("LVSADMIN_LDAP_CA_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(ImproperlyConfigured, match="LVSADMIN_LDAP_CA_FILE: .* from .*ca.pem"):
        ldap_directory.settings("ldaps://ldap.example.net")
