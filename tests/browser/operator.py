"""An operator at a browser: what a person does, in a person's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect

from lab.stack import Stack

# Two directors, one guest CPU: a job takes about a second, and tests may be slow machines.
JOB_TIMEOUT_MS = 30_000


class Operator:
    """A signed-in browser page and the verbs that the tests need."""

    def __init__(self, page: Page, stack: Stack) -> None:
        self.page, self.stack = page, stack
        self.complaints: list[str] = []
        page.on("console", self._note_console)
        page.on("request", self._note_request)

    def _note_console(self, message: object) -> None:
        if getattr(message, "type", "") in ("error", "warning"):
            self.complaints.append(str(getattr(message, "text", "")))

    def _note_request(self, request: object) -> None:
        url = str(getattr(request, "url", ""))
        if not url.startswith((self.stack.url, "data:")):
            self.complaints.append(f"asked a stranger: {url}")

    def open(self, path: str) -> None:
        self.page.goto(self.stack.url + path.lstrip("/"))

    def sign_in(self, username: str, password: str) -> None:
        self.open("/sign-in/")
        self.page.get_by_label("User name").fill(username)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("heading", name="Overview")).to_be_visible()

    def click(self, name: str) -> None:
        """The button or link of this name."""
        self.page.get_by_role("button", name=name, exact=True).or_(
            self.page.get_by_role("link", name=name, exact=True)
        ).first.click()

    def create_cluster(self, name: str) -> None:
        self.open("/clusters/new/")
        self.page.get_by_label("Name", exact=True).fill(name)
        self.click("Create cluster")
        expect(self.page.get_by_role("heading", name=name)).to_be_visible()

    def add_director(self, director: str, cluster: str) -> None:
        self.open("/directors/")
        self.page.get_by_role("row").filter(has_text=director).get_by_role("link", name="Add").click()
        self.page.get_by_label("Cluster", exact=True).select_option(label=cluster)
        self.page.get_by_label("Reason").fill("a day at work")
        self.click("They are equal: add")
        expect(self.page.get_by_text(f"{director} belongs to {cluster} now.")).to_be_visible()

    def open_cluster(self, name: str) -> None:
        self.open("/clusters/")
        self.page.get_by_role("link", name=name, exact=True).click()

    def add_service(
        self, cluster: str, address: str, port: int, *, protocol: str = "TCP", scheduler: str = "rr"
    ) -> None:
        self.open_cluster(cluster)
        self.page.get_by_role("link", name=re.compile("^Add (a )?service$")).first.click()
        self.page.get_by_label("Virtual address", exact=True).fill(address)
        self.page.get_by_label("Port", exact=True).fill(str(port))
        self.page.get_by_label("Protocol", exact=True).select_option(label=protocol)
        self.page.get_by_label("Scheduler", exact=True).select_option(value=scheduler)
        self.click("Add service")
        expect(self.page.get_by_text("is in the draft.")).to_be_visible()

    def open_service(self, endpoint: str, protocol: str = "TCP", *, cluster: str = "") -> None:
        """Of this cluster, where several have it."""
        self.open("/services/")
        row = self.page.get_by_role("row").filter(has_text=protocol)
        if cluster:
            row = row.filter(has=self.page.get_by_role("link", name=cluster, exact=True))
        row.get_by_role("link", name=endpoint, exact=True).click()

    def set_scheduler(self, endpoint: str, scheduler: str) -> None:
        self.open_service(endpoint)
        self.click("Edit")
        self.page.get_by_label("Scheduler", exact=True).select_option(value=scheduler)
        self.click("Save in the draft")
        expect(self.page.get_by_text("is saved in the draft.")).to_be_visible()

    def add_backends(self, *addresses: str, port: int, forwarding: str = "Masquerade (NAT)") -> None:
        """To the service that is open."""
        for address in addresses:
            self.page.get_by_role("link", name=re.compile("^Add (a )?backend$")).first.click()
            self.page.get_by_label("Address", exact=True).fill(address)
            self.page.get_by_label("Port", exact=True).fill(str(port))
            self.page.get_by_label(forwarding, exact=True).check()
            self.click("Add backend")
            expect(self.page.get_by_text("is in the draft.")).to_be_visible()

    def set_weight(self, backend: str, weight: int) -> None:
        field = self.page.get_by_label(f"Weight of {backend}")
        field.fill(str(weight))
        field.press("Enter")
        expect(self.page.get_by_text(f"The weight of {backend} is {weight} in the draft")).to_be_visible()

    def remove_backend(self, backend: str) -> None:
        self.page.get_by_role("link", name=f"Remove backend {backend}").click()
        self.click("Remove from the draft")
        expect(self.page.get_by_text("is out of the draft.")).to_be_visible()

    def set_forwarding(self, backend: str, forwarding: str) -> None:
        self.page.get_by_role("link", name=f"Edit backend {backend}").click()
        self.page.get_by_label(forwarding, exact=True).check()
        self.click("Save in the draft")
        expect(self.page.get_by_text("is saved in the draft.")).to_be_visible()

    def remove_service(self, endpoint: str, protocol: str = "TCP") -> None:
        self.open_service(endpoint, protocol)
        self.click("Remove")
        self.page.get_by_label("to confirm").fill(endpoint)
        self.click("Remove from the draft")

    def review(self, cluster: str) -> None:
        self.open_cluster(cluster)
        self.page.get_by_role("link", name="Review", exact=True).first.click()

    def send(self, cluster: str, *, reason: str = "a day at work") -> None:
        """Review and apply, without waiting for the directors."""
        self.review(cluster)
        self.page.get_by_label("Reason").fill(reason)
        self.page.get_by_role("button", name=re.compile("^Apply")).click()
        expect(self.page.get_by_role("heading", name=re.compile("^Apply revision"))).to_be_visible()

    def expect_run(self, director: str, status: str) -> None:
        """The open job page comes to say this of a director, by itself."""
        expect(self.page.locator(f"#status-{director}")).to_have_text(status, timeout=JOB_TIMEOUT_MS)

    def apply(
        self,
        cluster: str,
        *,
        reason: str = "a day at work",
        directors: tuple[str, ...] = ("director1", "director2"),
    ) -> None:
        self.send(cluster, reason=reason)
        for director in directors:
            self.expect_run(director, "verified")


@contextmanager
def signed_in(browser: Browser, stack: Stack, **options: object) -> Iterator[Operator]:
    """A fresh browser context with the first administrator in it."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 860}} | options))  # type: ignore[arg-type]
    try:
        operator = Operator(context.new_page(), stack)
        operator.sign_in(stack.username, stack.password)
        yield operator
    finally:
        context.close()
