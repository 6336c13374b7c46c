"""The article's scenarios, clicked together in the panel and judged by packets and ipvsadm.

VIP 192.168.50.10:80, round robin, real servers .11 and .12. The tests build on each other's cluster, as
an operator's day does, so they run in the order in which they stand.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from lab.host import Lab
from lab.stack import Stack
from tests.browser.operator import Operator, signed_in
from tests.traffic.witness import VIP, VIP6, ask, connections, packets, saved, servers

pytestmark = [pytest.mark.traffic, pytest.mark.browser]

SERVICE, BACKENDS = f"{VIP}:80", ("192.168.50.11", "192.168.50.12")
FOREIGN = ["-A -t 192.168.50.99:99 -s wlc", "-a -t 192.168.50.99:99 -r 192.168.50.13:99 -g -w 5"]


@pytest.fixture(scope="module")
def lab(stack: Stack) -> Lab:
    assert stack.lab is not None
    return stack.lab


@pytest.fixture(scope="module")
def day(browser: Browser, stack: Stack, lab: Lab) -> Iterator[Operator]:
    """The operator's day: a cluster with both directors, and a service of somebody else on one of them."""
    for line in FOREIGN:
        assert lab.execute("director1", ["ipvsadm", *line.split()]).returncode == 0
    with signed_in(browser, stack) as operator:
        operator.create_cluster("article")
        operator.add_director("director1", "article")
        operator.add_director("director2", "article")
        yield operator
        for service in ("TCP " + SERVICE, f"UDP {VIP}:53", f"TCP [{VIP6}]:80"):
            operator.open("/services/")
            protocol, endpoint = service.split()
            if operator.page.get_by_role("link", name=endpoint, exact=True).count():
                operator.remove_service(endpoint, protocol)
        operator.apply("article", reason="the day is over")
        assert saved(lab, "director1") == sorted(FOREIGN), "only what is ours has gone"
        assert saved(lab, "director2") == []
        lab.execute("director1", ["ipvsadm", "-D", "-t", "192.168.50.99:99"])
        assert operator.complaints == []


def _agree(operator: Operator, lab: Lab, wanted: list[str]) -> None:
    """The newest revision's page, and ipvsadm on both directors, say just this."""
    operator.open_cluster("article")
    operator.page.get_by_role("link", name="Revisions").click()
    operator.page.locator("tbody a").first.click()
    shown = operator.page.locator("#revision-lines").inner_text()
    assert sorted(shown.splitlines()) == sorted(wanted)
    assert saved(lab, "director1") == sorted(wanted + FOREIGN)
    assert saved(lab, "director2") == sorted(wanted)


def test_nat_with_the_director_as_gateway(day: Operator, lab: Lab) -> None:
    day.add_service("article", VIP, 80)
    day.add_backends(*BACKENDS, port=80)
    day.review("article")
    commands = day.page.locator("#commands-director1").inner_text().splitlines()
    assert commands == [
        f"ipvsadm -A -t {SERVICE} -s rr",
        f"ipvsadm -a -t {SERVICE} -r 192.168.50.11:80 -m -w 1",
        f"ipvsadm -a -t {SERVICE} -r 192.168.50.12:80 -m -w 1",
    ]
    day.apply("article", reason="scenario 1")
    _agree(day, lab, [command.removeprefix("ipvsadm ") for command in commands])

    answers = ask(lab, 10)
    names = [answer.server for answer in answers]
    assert set(names) == {"real1", "real2"}
    assert all(one != other for one, other in zip(names, names[1:], strict=False)), "strictly in turn"
    assert {answer.client for answer in answers} == {"10.0.0.2"}, "the client's own address arrives"
    assert {answer.address for answer in answers} == set(BACKENDS), "masquerade rewrites the target"
    incoming, outgoing = packets(lab, "director1")
    assert incoming > 0 and outgoing > 0, "replies come back through the director"


def test_a_weight_changed_in_the_panel_changes_the_spread(day: Operator, lab: Lab) -> None:
    day.set_scheduler(SERVICE, "wrr")
    day.set_weight("192.168.50.11:80", 3)
    day.apply("article", reason="peak period")
    assert servers(ask(lab, 40)) == {"real1": 30, "real2": 10}
    _agree(
        day,
        lab,
        [
            f"-A -t {SERVICE} -s wrr",
            f"-a -t {SERVICE} -r 192.168.50.11:80 -m -w 3",
            f"-a -t {SERVICE} -r 192.168.50.12:80 -m -w 1",
        ],
    )


def test_the_live_page_counts_what_the_client_sends(day: Operator, lab: Lab) -> None:
    day.open_cluster("article")
    day.page.get_by_role("link", name="Live").first.click()
    row = day.page.get_by_role("row").filter(has_text="TCP " + SERVICE)
    ask(lab, 20)
    total = str(connections(lab, "director1"))
    expect(row.locator("td").last).to_have_text(total, timeout=10_000)
    expect(day.page.locator("#live .age").first).to_have_text(re.compile("updated"))


def test_a_removed_backend_gets_nothing_more(day: Operator, lab: Lab) -> None:
    day.open_service(SERVICE)
    day.remove_backend("192.168.50.12:80")
    day.apply("article", reason="real2 goes")
    assert servers(ask(lab, 10)) == {"real1": 10}
    _agree(day, lab, [f"-A -t {SERVICE} -s wrr", f"-a -t {SERVICE} -r 192.168.50.11:80 -m -w 3"])


def test_direct_routing_bypasses_the_director(day: Operator, lab: Lab) -> None:
    day.open_service(SERVICE)
    day.remove_backend("192.168.50.11:80")
    day.apply("article")
    day.remove_service(SERVICE)
    day.apply("article")
    day.add_service("article", VIP, 80)
    day.add_backends(*BACKENDS, port=80, forwarding="Direct routing")
    day.apply("article", reason="scenario 2")
    wanted = [f"-A -t {SERVICE} -s rr", *(f"-a -t {SERVICE} -r {backend}:80 -g -w 1" for backend in BACKENDS)]
    _agree(day, lab, wanted)

    answers = ask(lab, 10)
    assert servers(answers) == {"real1": 5, "real2": 5}
    assert {answer.address for answer in answers} == {VIP}, "the VIP is on the real server's loopback"
    assert {answer.client for answer in answers} == {"10.0.0.2"}
    incoming, outgoing = packets(lab, "director1")
    assert incoming >= 10 and outgoing == 0, "replies bypass the director"


def test_ipv6_and_udp_work_as_well(day: Operator, lab: Lab) -> None:
    day.add_service("article", VIP6, 80)
    day.add_backends("fd00:50::11", "fd00:50::12", port=80)
    day.add_service("article", VIP, 53, protocol="UDP")
    day.add_backends(*BACKENDS, port=53)
    day.apply("article", reason="both families, both protocols")
    assert servers(ask(lab, 10, f"http://[{VIP6}]/")) == {"real1": 5, "real2": 5}
    asked = lab.execute("client", ["python3", "-c", _ASK_UDP])
    assert Counter(line.split()[0] for line in asked.stdout.splitlines()) == {"real1": 5, "real2": 5}


# A new socket each time: IPVS keeps one client port with one backend.
_ASK_UDP = f"""
import socket
for number in range(10):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(3)
        asking.sendto(b"hello", ("{VIP}", 53))
        answer, sender = asking.recvfrom(200)
        assert sender == ("{VIP}", 53), sender
        print(answer.decode())
"""


def test_a_module_is_loaded_from_the_page(day: Operator, lab: Lab) -> None:
    day.open("/directors/")
    day.page.get_by_role("link", name="director1", exact=True).click()
    row = day.page.get_by_role("row").filter(has=day.page.get_by_text("ip_vs_sed", exact=True))
    row.get_by_role("button", name="Load").click()
    day.expect_run("director1", "verified")
    assert "ip_vs_sed " in lab.execute("director1", ["cat", "/proc/modules"]).stdout
    day.page.get_by_role("link", name="director1", exact=True).first.click()
    expect(row).to_contain_text("loaded")


def test_the_audit_log_tells_the_day(day: Operator) -> None:
    day.open("/audit/?action=cluster.apply")
    for reason in ("scenario 1", "peak period", "real2 goes", "scenario 2"):
        expect(day.page.get_by_text(reason, exact=True)).to_be_visible()
    day.open("/audit/?action=run.applied")
    expect(day.page.get_by_role("row").filter(has_text="director director2").first).to_be_visible()
    assert "intact" in day.stack.manage("audit_verify")
