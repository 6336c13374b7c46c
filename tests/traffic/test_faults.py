"""What breaks mends itself, and traffic goes on meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from lab.host import Lab
from lab.stack import Stack
from tests.browser.operator import Operator, signed_in
from tests.traffic.witness import VIP, ask, saved, servers

pytestmark = [pytest.mark.traffic, pytest.mark.browser]

SERVICE, DIRECTORS = f"{VIP}:80", ("director1", "director2")
MANY = 400

# Too much to click: the same actions as the pages call.
_ADD_MANY = f"""
from cluster.actions import backends, services
from cluster.audit import Actor
from cluster.models import Cluster
cluster, by = Cluster.objects.get(name="faults"), Actor("test")
for number in range({MANY}):
    said = services.ServiceFields("tcp", "192.168.50.10", 10000 + number)
    service = services.add_service(cluster, said, by=by)
    for last in (11, 12, 13):
        backends.add_backend(service, backends.BackendFields(f"192.168.50.{{last}}", 80), by=by)
"""
_RELEASE_ALL = "from cluster.models import Director; Director.objects.update(cluster=None)"
_REMOVE_MANY = """
from cluster.actions import services
from cluster.audit import Actor
from cluster.models import VirtualService
from cluster.seen import mark_of
for service in VirtualService.objects.filter(cluster__name="faults", port__gte=10000):
    services.remove_service(service, seen=mark_of(service), by=Actor("test"))
"""


@pytest.fixture(scope="module")
def lab(stack: Stack) -> Lab:
    assert stack.lab is not None
    return stack.lab


@pytest.fixture(scope="module")
def day(browser: Browser, stack: Stack, lab: Lab) -> Iterator[Operator]:
    """A cluster with both directors, and one masqueraded service that answers."""
    with signed_in(browser, stack) as operator:
        # The article's cluster may have both; a director has one cluster at a time.
        stack.manage(
            "shell", "-c", "from cluster.models import Director; Director.objects.update(cluster=None)"
        )
        operator.create_cluster("faults")
        for director in DIRECTORS:
            operator.add_director(director, "faults")
        operator.add_service("faults", VIP, 80)
        operator.add_backends("192.168.50.11", "192.168.50.12", port=80)
        operator.apply("faults")
        assert len(ask(lab, 2)) == 2
        yield operator


def _wait_until(is_true: object, *, timeout_s: float = 30) -> None:
    assert callable(is_true)
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.2)


def _set_weight(day: Operator, weight: int) -> None:
    day.open_service(SERVICE)
    day.set_weight("192.168.50.11:80", weight)


def test_a_director_that_is_away_is_waited_for_and_catches_up(day: Operator, lab: Lab) -> None:
    lab.stop_worker("director2")
    _set_weight(day, 2)
    time.sleep(7)  # until its last frame is stale
    day.send("faults")
    day.expect_run("director1", "verified")
    day.expect_run("director2", "waiting for director")
    assert "-r 192.168.50.11:80 -m -w 2" in "".join(saved(lab, "director1"))
    assert "-r 192.168.50.11:80 -m -w 1" in "".join(saved(lab, "director2")), "it forwards what it had"
    lab.start_worker("director2")
    day.expect_run("director2", "verified")
    assert saved(lab, "director2") == saved(lab, "director1")


def test_with_redis_down_pages_render_and_what_was_applied_goes_out_later(day: Operator, lab: Lab) -> None:
    lab.stop_redis()
    try:
        _set_weight(day, 3)
        day.send("faults", reason="while Redis is down")
        expect(day.page.get_by_text("Redis does not answer.").first).to_be_visible()
        expect(day.page.get_by_text("goes out when Redis is back").first).to_be_visible()
        for path in ("/", "/clusters/", "/directors/", "/services/", "/jobs/", "/audit/"):
            day.open(path)
            expect(day.page.get_by_text("Redis does not answer.")).to_be_visible()
        assert servers(ask(lab, 4)), "traffic does not need Redis"
    finally:
        lab.start_redis()
    day.open("/jobs/")
    day.page.get_by_role("link", name="Apply revision").first.click()
    for director in DIRECTORS:
        day.expect_run(director, "verified")
        assert "-r 192.168.50.11:80 -m -w 3" in "".join(saved(lab, director))


def test_redis_that_dies_with_the_orders_in_it_loses_nothing(day: Operator, lab: Lab, stack: Stack) -> None:
    for director in DIRECTORS:
        lab.stop_worker(director)
    _set_weight(day, 4)
    day.send("faults")
    lab.stop_redis(crash=True)
    lab.start_redis()
    for director in DIRECTORS:
        lab.start_worker(director)
    for director in DIRECTORS:
        day.expect_run(director, "verified")


def test_without_the_panels_worker_jobs_wait_and_go_on_later(day: Operator, stack: Stack) -> None:
    stack.stop_panel_worker()
    try:
        _set_weight(day, 5)
        day.send("faults")
        time.sleep(3)
        expect(day.page.locator("#status-director1")).not_to_have_text("verified")
    finally:
        stack.start_panel_worker()
    for director in DIRECTORS:
        day.expect_run(director, "verified")


def test_a_worker_killed_in_the_middle_ends_in_the_same_table(day: Operator, lab: Lab, stack: Stack) -> None:
    stack.manage("shell", "-c", _ADD_MANY)
    day.send("faults", reason="many, with a murderer about")
    killed = 0
    for delay_s in (0.05, 0.1, 0.2, 0.3, 0.4):
        if pid := lab.worker_pid("director1"):
            time.sleep(delay_s)
            lab.execute("hub", ["kill", "-9", str(pid)])
            killed += 1
        _wait_until(lambda: lab.worker_pid("director1"))
    assert killed
    for director in DIRECTORS:
        day.expect_run(director, "verified")
    assert len(saved(lab, "director2")) == MANY * 4 + 3
    assert saved(lab, "director1") == saved(lab, "director2")


def test_a_director_restores_its_table_with_panel_and_redis_down(
    day: Operator, lab: Lab, stack: Stack
) -> None:
    stack.manage("shell", "-c", _REMOVE_MANY)
    day.apply("faults")
    wanted = saved(lab, "director2")
    assert len(wanted) == 3
    lab.stop_worker("director2")
    assert lab.execute("director2", ["ipvsadm", "-D", "-t", SERVICE]).returncode == 0
    stack.stop_web()
    stack.stop_panel_worker()
    lab.stop_redis()
    try:
        lab.start_worker("director2")
        _wait_until(lambda: saved(lab, "director2") == wanted)
    finally:
        lab.start_redis()
        stack.start_web()
        stack.start_panel_worker()


def test_a_change_from_outside_is_shown_as_drift_and_put_right(day: Operator, lab: Lab) -> None:
    wanted = saved(lab, "director1")
    change = ["ipvsadm", "-e", "-t", SERVICE, "-r", "192.168.50.11:80", "-m", "-w", "99"]
    _wait_until(lambda: lab.worker_pid("director1"))
    assert lab.execute("director1", change).returncode == 0
    time.sleep(5)  # until a frame has told
    day.review("faults")
    expect(day.page.locator("#review-director1")).to_contain_text("was changed from outside")
    day.apply("faults", reason="put it right")
    assert saved(lab, "director1") == wanted


_UNLOAD_IPVS = """
echo /bin/false >/proc/sys/kernel/modprobe
for module in $(grep -o '^ip_vs_[a-z0-9_]*' /proc/modules) ip_vs; do rmmod $module || exit 1; done
"""


def test_a_missing_module_fails_the_job_with_that_sentence_and_the_page_mends_it(
    day: Operator, lab: Lab
) -> None:
    day.remove_service(SERVICE)
    day.apply("faults", reason="make room for rmmod")
    done = lab.execute("hub", ["sh", "-c", _UNLOAD_IPVS])
    assert done.returncode == 0, done.stderr
    try:
        day.add_service("faults", VIP, 80)
        day.add_backends("192.168.50.11", port=80)
        day.send("faults")
        for director in DIRECTORS:
            day.expect_run(director, "failed")
        expect(day.page.get_by_text("has no IPVS: the module ip_vs is not loaded.").first).to_be_visible()
        expect(day.page.get_by_text("Load it on the director's page").first).to_be_visible()
        job = day.page.url.removeprefix(day.stack.url)
        day.page.get_by_role("link", name="director1", exact=True).click()
        row = day.page.get_by_role("row").filter(has=day.page.get_by_text("ip_vs", exact=True))
        row.get_by_role("button", name="Load").click()
        day.expect_run("director1", "verified")
    finally:
        lab.execute("hub", ["sh", "-c", "echo /sbin/modprobe >/proc/sys/kernel/modprobe"])
    day.open(job)
    day.click("Try again")
    for director in DIRECTORS:
        day.expect_run(director, "verified")
    assert servers(ask(lab, 2)) == {"real1": 2}
