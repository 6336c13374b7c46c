"""A real slapd as a process beside the tests, certificates for it, and a panel that is told of it."""

from __future__ import annotations

import ipaddress
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from django.test import Client
from django.urls import reverse

from lvsadmin import ldap_directory
from tests.health.servers import free_port

PASSWORD = "kettle walnut orbit"
ADMIN = "cn=admin,dc=bank,dc=example"
CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
{tls}
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


class Authority:
    """Signs certificates; `file` is what somebody trusts who trusts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "authority.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bank CA")])
        self.file.write_bytes(self._sign(self._name, self._key, x509.BasicConstraints(True, None)))

    def certificate(self, name: x509.GeneralName, *, days: int = 1) -> Path:
        """For this name alone, with its key, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "directory")])
        signed = self._sign(subject, key, x509.SubjectAlternativeName([name]), days=days)
        path = self.folder / "server.pem"
        path.write_bytes(signed + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return path

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extension: x509.ExtensionType,
        *,
        days: int = 1,
    ) -> bytes:
        end = datetime.now(UTC) + timedelta(days=days)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - timedelta(days=10))
            .not_valid_after(end)
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        )
        return made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
ELSEWHERE = x509.DNSName("ldap.example.net")


@dataclass(frozen=True)
class Slapd:
    """The addresses of a running one: without TLS or with StartTLS, and with TLS from the start."""

    plain: str
    tls: str


@contextmanager
def running(folder: Path, certificate: Path | None = None, *, ciphers: str = "NORMAL") -> Iterator[Slapd]:
    """olga, uma and panel are in lvs-ops; greg is in the canteen's group alone."""
    (folder / "data").mkdir()
    configuration = folder / "slapd.conf"
    tls = ""
    if certificate:
        tls = (
            f"TLSCertificateFile {certificate}\nTLSCertificateKeyFile {certificate}\nTLSCipherSuite {ciphers}"
        )
    configuration.write_text(CONFIGURATION.format(folder=folder, tls=tls))
    people = ("olga", "uma", "panel", "greg")
    member = "member: uid={},dc=bank,dc=example\n"
    groups = GROUP.format(cn="lvs-ops") + "".join(member.format(one) for one in people[:3])
    groups += GROUP.format(cn="canteen") + member.format("greg")
    tree = TREE + "".join(PERSON.format(uid=one) for one in people) + groups
    add = ["/usr/sbin/slapadd", "-f", str(configuration)]
    subprocess.run(add, input=tree, text=True, check=True, capture_output=True, timeout=60)
    ports = free_port(), free_port()
    server = Slapd(f"ldap://127.0.0.1:{ports[0]}", f"ldaps://127.0.0.1:{ports[1]}")
    listens = f"{server.plain} {server.tls}" if certificate else server.plain
    command = ["/usr/sbin/slapd", "-f", str(configuration), "-h", listens, "-d", "0"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", ports[0]), timeout=1).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(10)


def configure(
    url: str, settings: Any, monkeypatch: pytest.MonkeyPatch, *, trusts: Path | None = None
) -> None:
    """The panel, told of a directory; over TLS where it trusts an authority."""
    monkeypatch.setenv("LVSADMIN_LDAP_PEOPLE", "dc=bank,dc=example")
    monkeypatch.setenv("LVSADMIN_LDAP_BIND_DN", ADMIN)
    monkeypatch.setenv("LVSADMIN_LDAP_BIND_PASSWORD", "s3cret")
    if trusts:
        monkeypatch.setenv("LVSADMIN_LDAP_CA_FILE", str(trusts))
    else:
        monkeypatch.setenv("LVSADMIN_LDAP_START_TLS", "0")
    settings.LDAP_URL = url
    settings.LDAP_GROUPS = [("lvs-ops", "operators"), ("lvs-admins", "administrators")]
    backends = [*settings.AUTHENTICATION_BACKENDS, "cluster.ldap_sign_in.Directory"]
    settings.AUTHENTICATION_BACKENDS = backends
    for name, value in ldap_directory.settings(url).items():
        setattr(settings, name, value)


def sign_in(client: Client, name: str = "olga", password: str = PASSWORD) -> Any:
    return client.post(reverse("login"), {"username": name, "password": password})
