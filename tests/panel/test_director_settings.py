"""A director's page shows what IPVS has there beside its table, and what differs from the kernel's own."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cluster.ipvs import settings, tuning
from cluster.ipvs.settings import Settings, SyncDaemon, SyncRole, Timeouts
from cluster.ipvs.tuning import Sysctl
from cluster.models import Director
from tests.panel.conftest import TalkingDirector

MASTER = SyncDaemon(SyncRole.MASTER, "eth0", 7, "224.0.0.81", 8848, 1, 1472)
SYSCTLS = [Sysctl("conntrack", "0"), Sysctl("expire_nodest_conn", "1"), Sysctl("what_is_this", None)]


def said(*sysctls: Sysctl, daemons: tuple[SyncDaemon, ...] = (MASTER,)) -> dict[str, Any]:
    found = Settings(Timeouts(900, 60, 300), daemons, connection_table_size=4096)
    return settings.to_document(found) | {"sysctls": tuning.to_document(sysctls)}


def page_of(client: Client, talker: TalkingDirector, director: Director, facts: object) -> str:
    talker.hello(settings=facts)
    return words_of(client, director)


def words_of(client: Client, director: Director) -> str:
    """The words of the page, without its tags."""
    page = client.get(reverse("director-detail", args=[director.pk])).content.decode()
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", page)))


def test_timeouts_daemons_and_switches_are_shown(
    vera: Client, director: Director, talker: TalkingDirector
) -> None:
    page = page_of(vera, talker, director, said(*SYSCTLS))
    assert "Closing TCP forgotten after 60 s not the default" in page
    assert "UDP forgotten after 300 s" in page and "300 s not the default" not in page
    assert "Sync daemon, master on eth0, id 7, group 224.0.0.81 port 8848, ttl 1, 1472 bytes" in page
    assert "what_is_this unreadable Not known here." in page


def test_what_differs_from_the_kernels_default_comes_first(
    vera: Client, director: Director, talker: TalkingDirector
) -> None:
    page = page_of(vera, talker, director, said(*SYSCTLS))
    assert page.index("expire_nodest_conn not the default") < page.index("conntrack 0")
    assert "The kernel's default is 0." in page and "conntrack not the default" not in page


def test_a_kernel_that_does_not_count_is_announced(
    vera: Client, director: Director, talker: TalkingDirector
) -> None:
    assert "does not count" not in page_of(vera, talker, director, said(Sysctl("run_estimation", "1")))
    assert "does not count" in page_of(vera, talker, director, said(Sysctl("run_estimation", "0")))


def test_a_director_that_could_not_read_them_has_no_such_part(
    vera: Client, director: Director, talker: TalkingDirector
) -> None:
    assert "IPVS settings" not in words_of(vera, director)
    assert "IPVS settings" not in page_of(vera, talker, director, {})
    assert "IPVS settings" in page_of(vera, talker, director, said())


@pytest.mark.parametrize(
    "odd", [[], {}, {"sysctls": []}, {"sysctls": {"a": 5}, "daemons": [1], "timeouts": 2}]
)
def test_odd_settings_break_no_page(
    vera: Client, director: Director, talker: TalkingDirector, odd: object
) -> None:
    assert "Heartbeat" in page_of(vera, talker, director, odd)


def test_a_switch_is_shown_as_text_and_nothing_else(
    vera: Client, director: Director, talker: TalkingDirector
) -> None:
    talker.hello(settings=said(Sysctl("<b>x</b>", "<script>")))
    page = vera.get(reverse("director-detail", args=[director.pk])).content.decode()
    assert "<script>" not in page.replace("<script ", "") and "&lt;b&gt;x" in page
