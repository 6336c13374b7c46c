"""A real Chromium, and the first administrator in front of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from lab.stack import Stack
from tests.browser.operator import Operator, signed_in

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# No sandbox, because root runs it; no traffic of the browser's own.
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def operator(browser: Browser, stack: Stack) -> Iterator[Operator]:
    """Signed in; fails the test afterwards if the browser complained or asked another origin."""
    with signed_in(browser, stack) as operator:
        yield operator
        assert operator.complaints == []
