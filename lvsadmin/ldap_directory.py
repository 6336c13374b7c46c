"""Settings of django-auth-ldap, for a panel whose people have their passwords in an LDAP directory, and which
of its servers is asked. It needs requirements-ldap.txt."""

import socket
import ssl
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import ldap
from django.core.exceptions import ImproperlyConfigured
from django_auth_ldap.config import GroupOfNamesType, LDAPSearch

from lvsadmin import env

TIMEOUT_S = 5
PORTS = {"ldap": 389, "ldaps": 636}
START_TLS = bytes.fromhex("301d 020101 7718 8016") + b"1.3.6.1.4.1.1466.20037"  # RFC 4511, 4.14.1
STARTS = bytes.fromhex("0a0100")  # the result code of its answer: success


@dataclass(frozen=True)
class Server:
    """One address of the directory."""

    url: str
    host: str
    port: int

    @property
    def is_here(self) -> bool:
        """Whether nobody is on the way to it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def settings(url: str) -> dict[str, Any]:
    """By name. Fails loudly where passwords would go over the network as they are."""
    scheme, servers = _servers(url)
    start_tls = scheme == "ldap" and env.flag("LVSADMIN_LDAP_START_TLS", default=True)
    has_tls = scheme == "ldaps" or start_tls
    if not has_tls and not all(server.is_here for server in servers):
        raise ImproperlyConfigured(
            "LVSADMIN_LDAP_START_TLS is 0: passwords would be read on the way. Unset it, or write ldaps://;"
            " only a directory on this machine itself needs no TLS."
        )
    authorities = env.text("LVSADMIN_LDAP_CA_FILE", "/etc/ssl/certs/ca-certificates.crt")
    people = env.text("LVSADMIN_LDAP_PEOPLE")
    groups = env.text("LVSADMIN_LDAP_GROUPS_BASE", people)
    options = {ldap.OPT_NETWORK_TIMEOUT: TIMEOUT_S, ldap.OPT_TIMEOUT: TIMEOUT_S, ldap.OPT_REFERRALS: 0}
    if has_tls:
        options |= {
            ldap.OPT_X_TLS_REQUIRE_CERT: ldap.OPT_X_TLS_DEMAND,
            ldap.OPT_X_TLS_CACERTFILE: authorities,
            ldap.OPT_X_TLS_NEWCTX: 0,  # last: what the others say counts from here on
        }
    return {
        "AUTH_LDAP_SERVER_URI": partial(
            first_that_answers, servers, _tls(authorities) if has_tls else None, start_tls
        ),
        "AUTH_LDAP_START_TLS": start_tls,
        "AUTH_LDAP_CONNECTION_OPTIONS": options,
        "AUTH_LDAP_BIND_DN": env.text("LVSADMIN_LDAP_BIND_DN"),
        "AUTH_LDAP_BIND_PASSWORD": env.text("LVSADMIN_LDAP_BIND_PASSWORD"),
        "AUTH_LDAP_ALWAYS_UPDATE_USER": False,
        "AUTH_LDAP_USER_SEARCH": LDAPSearch(
            people, ldap.SCOPE_SUBTREE, env.text("LVSADMIN_LDAP_FILTER", "(uid=%(user)s)")
        ),
        "AUTH_LDAP_GROUP_SEARCH": LDAPSearch(groups, ldap.SCOPE_SUBTREE, "(objectClass=groupOfNames)"),
        "AUTH_LDAP_GROUP_TYPE": GroupOfNamesType(),
    }


def first_that_answers(
    servers: list[Server], tls: ssl.SSLContext | None, start_tls: bool, request: object = None
) -> str:
    """The address of the first server that answers in time and whose certificate counts; SERVER_DOWN with the
    reasons where there is none. libldap checks the certificate again, but does not say what is wrong with it,
    and waits for ever for a server that takes a connection and keeps silent."""
    problems = []
    for server in servers:
        try:
            _knock(server, tls, start_tls)
        except OSError as problem:
            problems.append(f"{server.url}: {problem}")
        else:
            return server.url
    raise ldap.SERVER_DOWN({"desc": "; ".join(problems)})


def _knock(server: Server, tls: ssl.SSLContext | None, start_tls: bool) -> None:
    with socket.create_connection((server.host, server.port), TIMEOUT_S) as connection:
        if start_tls:
            connection.sendall(START_TLS)
            if STARTS not in connection.recv(64):
                raise OSError("it does not start TLS")
        if tls:
            tls.wrap_socket(connection, server_hostname=server.host).close()


def _servers(url: str) -> tuple[str, list[Server]]:
    """The scheme that all have, and each."""
    parsed = [urlsplit(one) for one in url.replace(",", " ").split()]
    schemes = {one.scheme for one in parsed}
    try:
        (scheme,) = schemes
        servers = [Server(one.geturl(), one.hostname or "", one.port or PORTS[scheme]) for one in parsed]
    except (KeyError, ValueError):
        servers = []
    if not servers or not all(server.host for server in servers):
        raise ImproperlyConfigured(
            f"LVSADMIN_LDAP_URL is “{url}”. Write ldaps://HOST or ldap://HOST; several with commas, all"
            " of one kind."
        )
    return scheme, servers


def _tls(authorities: str) -> ssl.SSLContext:
    """TLS 1.2 or newer, with a certificate of one of these authorities for the very name."""
    try:
        tls = ssl.create_default_context(cafile=authorities)
    except OSError as problem:
        raise ImproperlyConfigured(
            f"LVSADMIN_LDAP_CA_FILE: no authority's certificate can be read from {authorities}: {problem}."
        ) from None
    tls.minimum_version = ssl.TLSVersion.TLSv1_2  # Debian's Python and libldap would take 1.1
    return tls
