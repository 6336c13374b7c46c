"""Variables that are wrong are named when the panel starts, in a sentence."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from django.core.exceptions import ImproperlyConfigured

from lvsadmin import env


def test_networks_are_addresses_and_networks_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVSADMIN_PROXY_IPS", "192.0.2.7, 2001:db8::/64,")
    found = env.networks("LVSADMIN_PROXY_IPS", "127.0.0.1")
    assert found == [ip_network("192.0.2.7/32"), ip_network("2001:db8::/64")]


@pytest.mark.parametrize("wrong", ["*", "proxy.example.net", "192.0.2.1/24", "192.0.2.7 192.0.2.8"])
def test_a_proxy_that_is_no_network_keeps_the_panel_from_starting(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("LVSADMIN_PROXY_IPS", wrong)
    with pytest.raises(ImproperlyConfigured, match="LVSADMIN_PROXY_IPS has “.*”, which is no address"):
        env.networks("LVSADMIN_PROXY_IPS")
