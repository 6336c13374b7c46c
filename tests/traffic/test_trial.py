"""A revision that nobody can confirm, because panel and Redis are gone, goes back on the real directors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from lab.host import Lab
from lab.stack import Stack
from tests.browser.operator import Operator, signed_in
from tests.traffic.witness import VIP, ask, saved, servers

pytestmark = [pytest.mark.traffic, pytest.mark.browser]

SERVICE, DIRECTORS = f"{VIP}:80", ("director1", "director2")
_RELEASE_ALL = "from cluster.models import Director; Director.objects.update(cluster=None)"


@pytest.fixture(scope="module")
def lab(stack: Stack) -> Lab:
    assert stack.lab is not None
    return stack.lab


@pytest.fixture(scope="module")
def day(browser: Browser, stack: Stack, lab: Lab) -> Iterator[Operator]:
    """A cluster of both directors with a service in force."""
    with signed_in(browser, stack) as operator:
        stack.manage("shell", "-c", _RELEASE_ALL)
        operator.create_cluster("trial")
        for director in DIRECTORS:
            operator.add_director(director, "trial")
        operator.add_service("trial", VIP, 80)
        operator.add_backends("192.168.50.11", "192.168.50.12", port=80)
        operator.apply("trial")
        yield operator


def _wait_until(is_true: Callable[[], bool], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.5)


def _try_out(day: Operator, *, first: str = "") -> None:
    day.review("trial")
    day.page.get_by_label("Reason", exact=True).fill("a trial")
    day.page.get_by_text("To be confirmed, on one director first, or later").click()
    day.page.get_by_label("To be confirmed within, minutes").fill("1")
    if first:
        day.page.get_by_label("One director first").select_option(first)
    day.page.get_by_role("button", name="Apply to 2 directors").click()
    day.expect_run(first or "director1", "verified")


def test_with_panel_and_redis_gone_the_directors_go_back_and_traffic_with_them(
    day: Operator, lab: Lab, stack: Stack
) -> None:
    wanted = saved(lab, "director1")
    day.open_service(SERVICE, cluster="trial")
    day.remove_backend("192.168.50.12:80")
    _try_out(day)
    day.expect_run("director2", "verified")
    assert servers(ask(lab, 4)) == {"real1": 4}
    stack.stop_web()
    stack.stop_panel_worker()
    lab.stop_redis()
    try:
        _wait_until(lambda: all(saved(lab, one) == wanted for one in DIRECTORS), timeout_s=90)
        assert servers(ask(lab, 4)) == {"real1": 2, "real2": 2}
    finally:
        lab.start_redis()
        stack.start_web()
        stack.start_panel_worker()
    day.open("/jobs/")
    day.page.get_by_role("link", name="Apply revision 2").first.click()
    heading = day.page.get_by_role("heading", name="Went back from revision 2")
    expect(heading).to_be_visible(timeout=60_000)
    day.expect_run("director1", "reverted")
    day.open("/jobs/")
    day.page.get_by_role("link", name="Apply revision 3").first.click()
    for director in DIRECTORS:
        day.expect_run(director, "verified")
        assert saved(lab, director) == wanted


def test_one_director_first_and_the_other_after_the_confirmation(day: Operator, lab: Lab) -> None:
    before = saved(lab, "director1")
    _try_out(day, first="director2")
    assert saved(lab, "director1") == before and saved(lab, "director2") != before
    day.expect_run("director1", "waits for the first")
    job = day.page.url.removeprefix(day.stack.url)
    day.click("Confirm")
    expect(day.page.get_by_text("is confirmed and stays.")).to_be_visible()
    day.open(job)
    day.expect_run("director1", "verified")
    assert saved(lab, "director1") == saved(lab, "director2") != before
