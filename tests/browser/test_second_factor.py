"""A security key, an app and a passkey in a real Chromium, which simulates the authenticator."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from lab.stack import Stack
from tests.browser.operator import Operator
from tests.panel.test_second_factor import code_of

pytestmark = pytest.mark.browser

KEY = {
    "protocol": "ctap2",
    "transport": "usb",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


class ByName(Stack):
    """The same panel under a host name: keys are bound to one, and refuse an address."""

    def __init__(self, stack: Stack) -> None:
        self.url = stack.url.replace("127.0.0.1", "localhost")


@pytest.fixture
def kim(browser: Browser, stack: Stack) -> Iterator[Operator]:
    """A new administrator who holds a security key, signed in by password."""
    name, password = f"kim{secrets.token_hex(3)}", "-".join(secrets.token_hex(3) for _ in range(4))
    stack.manage("first_admin", name, input=f"{password}\n")
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    kim = Operator(context.new_page(), ByName(stack))
    session = context.new_cdp_session(kim.page)
    session.send("WebAuthn.enable")
    session.send("WebAuthn.addVirtualAuthenticator", {"options": KEY})
    kim.name, kim.password = name, password  # type: ignore[attr-defined]
    kim.sign_in(name, password)
    yield kim
    assert kim.complaints == []
    context.close()


def sign_out(kim: Operator) -> None:
    kim.open("/account/")
    kim.page.locator("#user-menu summary").click()
    kim.page.get_by_role("button", name="Sign out").click()
    expect(kim.page.get_by_role("heading", name="Sign in")).to_be_visible()


def give_password(kim: Operator) -> None:
    kim.page.get_by_label("User name").fill(kim.name)  # type: ignore[attr-defined]
    kim.page.get_by_label("Password").fill(kim.password)  # type: ignore[attr-defined]
    kim.page.get_by_role("button", name="Sign in", exact=True).click()


def test_a_key_is_added_asked_for_and_removed(kim: Operator) -> None:
    kim.open("/account/second-factor/")
    kim.page.get_by_role("link", name="Add a key").click()
    kim.page.get_by_label("Name").fill("blue one")
    kim.click("Touch the key")
    expect(kim.page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    expect(kim.page.locator("#codes")).to_have_text(re.compile(r"(\d{8}\s+){10}"))
    kim.click("Done")
    expect(kim.page.get_by_role("row").filter(has_text="blue one")).to_contain_text("security key")

    sign_out(kim)
    give_password(kim)
    expect(kim.page.get_by_role("heading", name="Second factor")).to_be_visible()
    kim.click("Use a security key")
    expect(kim.page.get_by_role("heading", name="Overview")).to_be_visible()

    kim.open("/confirm/key/?next=/people/new/")
    kim.click("Use a security key")
    expect(kim.page.get_by_role("heading", name="Add person")).to_be_visible()

    kim.open("/account/second-factor/")
    kim.page.get_by_role("row").filter(has_text="blue one").get_by_role("link", name="Remove").click()
    kim.click("Remove the key")
    expect(kim.page.get_by_text("There is none yet.")).to_be_visible()


def test_a_passkey_signs_in_without_a_password(kim: Operator) -> None:
    kim.open("/account/second-factor/keys/new/")
    kim.page.get_by_label("Name").fill("laptop")
    kim.page.get_by_label("It may sign in without a password").check()
    kim.click("Touch the key")
    kim.click("Done")
    expect(kim.page.get_by_role("row").filter(has_text="laptop")).to_contain_text("passkey")
    sign_out(kim)
    kim.open("/sign-in/?next=/services/")
    kim.click("Use a passkey")
    expect(kim.page.get_by_role("heading", name="Services")).to_be_visible()


def test_an_app_is_set_up_and_its_code_asked_for(kim: Operator) -> None:
    kim.open("/account/second-factor/app/")
    secret = kim.page.locator(".copyable .mono").inner_text()
    kim.page.get_by_label("Code").fill(code_of(secret))
    kim.click("It shows this code: use it")
    expect(kim.page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    sign_out(kim)
    give_password(kim)
    kim.page.get_by_label("Code").fill(code_of(secret, seconds=30))
    kim.click("Sign in")
    expect(kim.page.get_by_role("heading", name="Overview")).to_be_visible()


def test_a_key_that_does_not_answer_is_said_in_a_sentence(kim: Operator) -> None:
    kim.open("/account/second-factor/keys/new/")
    kim.page.evaluate(
        "() => { navigator.credentials.create ="
        " async () => { throw new DOMException('', 'NotAllowedError') } }"
    )
    kim.click("Touch the key")
    expect(kim.page.get_by_role("alert")).to_have_text(re.compile("was not used in time"))
