"""How the pages behave in a real browser: errors, roles, keys, phones, themes, without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from lab.stack import Stack
from tests.browser.operator import Operator, signed_in

pytestmark = pytest.mark.browser

PAGES = ["/", "/clusters/", "/directors/", "/services/", "/changes/", "/jobs/", "/audit/", "/people/"]
PAGES += [
    "/account/",
    "/account/second-factor/",
    "/account/second-factor/app/",
    "/account/sessions/",
    "/confirm/",
]


@pytest.fixture(scope="module")
def furnished(browser: Browser, stack: Stack) -> Iterator[str]:
    """A cluster with a service and a backend in its draft; its path."""
    with signed_in(browser, stack) as operator:
        operator.create_cluster("manners")
        path = operator.page.url.removeprefix(stack.url)
        operator.add_service("manners", "192.168.50.77", 80)
        operator.add_backends("192.168.50.11", port=80)
        yield path


def test_a_wrong_address_is_said_at_its_field_and_stays_typed(operator: Operator, furnished: str) -> None:
    operator.open(furnished + "services/new/")
    operator.page.get_by_label("Virtual address", exact=True).fill("192.168.50.300")
    operator.page.get_by_label("Port", exact=True).fill("80")
    operator.click("Add service")
    field = operator.page.get_by_label("Virtual address", exact=True)
    expect(field).to_have_value("192.168.50.300")
    expect(field).to_have_attribute("aria-invalid", "true")
    described = (field.get_attribute("aria-describedby") or "").split()
    said = " ".join(operator.page.locator(f"#{name}").inner_text() for name in described)
    assert "is not an IP address" in said


def test_a_viewer_sees_everything_and_can_change_nothing(
    operator: Operator, furnished: str, browser: Browser, stack: Stack
) -> None:
    operator.open("/people/new/")
    operator.page.get_by_label("User name").fill("vera")
    operator.page.get_by_label("Role").select_option(label="Viewer")
    operator.click("Add, and show the link")
    link = operator.page.locator("#link").inner_text()
    context = browser.new_context()
    viewer = Operator(context.new_page(), stack)
    viewer.page.goto(link.strip())
    for label in ("New password", "New password confirmation"):
        viewer.page.get_by_label(label, exact=True).fill("kettle walnut orbit")
    viewer.click("Set the password")
    expect(viewer.page.get_by_text("Your password is set.")).to_be_visible()
    viewer.sign_in("vera", "kettle walnut orbit")
    viewer.open(furnished)
    expect(viewer.page.get_by_text("your role is viewer")).to_be_visible()
    expect(viewer.page.get_by_role("button", name="Add service")).to_be_disabled()
    viewer.open(furnished + "review/")
    expect(viewer.page.get_by_role("button", name=re.compile("^Apply"))).to_have_count(0)
    viewer.open(furnished + "services/new/")
    expect(viewer.page.get_by_text("This needs the permission “edit”")).to_be_visible()
    context.close()


def test_a_removal_waits_for_the_typed_name(operator: Operator, furnished: str) -> None:
    operator.open(furnished + "remove/")
    button = operator.page.get_by_role("button", name="Remove the cluster")
    expect(button).to_be_disabled()
    operator.page.get_by_label("to confirm").fill("manners")
    expect(button).to_be_enabled()


def test_keys_lead_through_the_panel(operator: Operator, furnished: str) -> None:
    operator.open("/")
    operator.page.keyboard.press("g")
    operator.page.keyboard.press("s")
    expect(operator.page.get_by_role("heading", name="Virtual services")).to_be_visible()
    operator.page.keyboard.press("/")
    expect(operator.page.get_by_label("Filter services")).to_be_focused()
    operator.page.keyboard.type("nothing has this")
    operator.page.keyboard.press("Enter")
    expect(operator.page.get_by_text("No service matches")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_is_wider_than_the_screen(
    browser: Browser, stack: Stack, furnished: str, scheme: str, width: int
) -> None:
    with signed_in(browser, stack, viewport={"width": width, "height": 800}, color_scheme=scheme) as operator:
        parts = ("", "review/", "live/", "draft/", "compare/", "revisions/")
        for path in [*PAGES, *(furnished + part for part in parts)]:
            operator.open(path)
            assert operator.page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert operator.page.locator("html").get_attribute("data-bs-theme") == scheme
        assert operator.complaints == []


def test_who_comes_second_takes_theirs_with_a_click_and_saves_with_enter(
    browser: Browser, stack: Stack
) -> None:
    with signed_in(browser, stack) as first, signed_in(browser, stack) as second:
        first.create_cluster("second")
        first.add_service("second", "192.168.50.78", 80)
        first.add_backends("192.168.50.11", port=80)
        for operator in (first, second):
            operator.open_service("192.168.50.78:80")
            operator.page.get_by_role("link", name="Edit backend 192.168.50.11:80").click()
            operator.page.get_by_label("Weight", exact=True).fill("9" if operator is first else "3")
            operator.page.locator("[name=name]").fill("" if operator is first else "real1")
        first.click("Save in the draft")
        expect(first.page.get_by_text("is saved in the draft.")).to_be_visible()
        weight = second.page.get_by_label("Weight", exact=True)
        weight.press("Enter")
        expect(second.page.get_by_text("has changed it since you opened this form")).to_be_visible()
        expect(weight).to_have_value("3")
        second.page.get_by_role("button", name="Take theirs: Weight").click()
        expect(weight).to_have_value("9")
        weight.press("Enter")
        expect(second.page.get_by_text("is saved in the draft.")).to_be_visible()
        expect(second.page.get_by_label("Weight of 192.168.50.11:80")).to_have_value("9")
        expect(second.page.get_by_text("real1")).to_be_visible()


def test_forms_and_tables_work_without_javascript(browser: Browser, stack: Stack, furnished: str) -> None:
    with signed_in(browser, stack, java_script_enabled=False) as operator:
        operator.open_service("192.168.50.77:80")
        operator.set_weight("192.168.50.11:80", 6)
        operator.remove_service("192.168.50.77:80")
        operator.open_cluster("manners")
        expect(operator.page.get_by_text("No virtual service yet")).to_be_visible()
        operator.add_service("manners", "192.168.50.77", 80)
        operator.add_backends("192.168.50.11", port=80)


def test_the_live_part_turns_grey_when_the_panel_does_not_answer(
    browser: Browser, stack: Stack, furnished: str
) -> None:
    with signed_in(browser, stack) as operator:
        operator.open(furnished + "live/")
        operator.page.route("**/live/table/**", lambda route: route.abort())
        expect(operator.page.locator("#live")).to_have_class(re.compile("is-stale"), timeout=10_000)


def test_a_hidden_session_end_leads_to_the_sign_in_page(operator: Operator, furnished: str) -> None:
    operator.open(furnished + "live/")
    operator.page.context.clear_cookies()
    expect(operator.page.get_by_role("button", name="Sign in")).to_be_visible(timeout=10_000)
    assert "next=" in operator.page.url
    # The 401 that led here is in the browser's console, and rightly so.
    operator.complaints.clear()


def test_a_double_click_does_a_thing_once(operator: Operator) -> None:
    operator.open("/clusters/new/")
    operator.page.get_by_label("Name", exact=True).fill("twice")
    operator.page.get_by_role("button", name="Create cluster").dblclick()
    expect(operator.page.get_by_text("twice is there.")).to_be_visible()
    operator.open("/audit/?q=action:cluster.create+twice")
    expect(operator.page.locator("tbody tr")).to_have_count(1)
