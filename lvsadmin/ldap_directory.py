"""Settings of django-auth-ldap, for a panel whose people have their passwords in an LDAP directory. It needs
requirements-ldap.txt."""

from typing import Any

import ldap
from django.core.exceptions import ImproperlyConfigured
from django_auth_ldap.config import GroupOfNamesType, LDAPSearch

from lvsadmin import env


def settings(url: str, *, may_be_plain: bool) -> dict[str, Any]:
    """By name. Fails loudly where passwords would go over the network as they are."""
    start_tls = env.flag("LVSADMIN_LDAP_START_TLS", default=url.startswith("ldap://"))
    if url.startswith("ldap://") and not start_tls and not may_be_plain:
        raise ImproperlyConfigured("LVSADMIN_LDAP_START_TLS is 0: passwords would be read on the way.")
    people = env.text("LVSADMIN_LDAP_PEOPLE")
    groups = env.text("LVSADMIN_LDAP_GROUPS_BASE", people)
    options = {
        ldap.OPT_NETWORK_TIMEOUT: 5,
        ldap.OPT_TIMEOUT: 5,
        ldap.OPT_REFERRALS: 0,
        ldap.OPT_X_TLS_REQUIRE_CERT: ldap.OPT_X_TLS_DEMAND,
        ldap.OPT_X_TLS_NEWCTX: 0,
    }
    return {
        "AUTH_LDAP_SERVER_URI": url,
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
