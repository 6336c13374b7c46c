"""The tests' side of it: start it, and walk through its pages as a browser does."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import requests

from lab.children import Child
from tests.health.servers import free_port
from tests.panel.openid_provider import PASSWORD

READY_TIMEOUT_S = 60.0


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Its issuer, which is its address. Whoever waits for it in vain hears its own words."""
    port = free_port()
    command = [sys.executable, "-m", "tests.panel.openid_provider", str(port), str(folder)]
    # Nothing of the panel's surroundings, least of all which settings are Django's.
    environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
    server = Child("OpenID provider", command, log=folder / "provider.log", env=environment)
    server.start()
    try:
        issuer = f"http://127.0.0.1:{port}/o"
        _wait_until_it_answers(server, issuer)
        yield issuer
    finally:
        server.stop()


def _wait_until_it_answers(server: Child, issuer: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            answer = requests.get(f"{issuer}/.well-known/openid-configuration", timeout=5)
            answer.raise_for_status()
            return
        except requests.RequestException as problem:
            if server.exit_status is not None or time.monotonic() > deadline:
                pytest.fail(f"The OpenID provider does not answer: {problem}. Its words:\n{server.tail()}")
        time.sleep(0.05)


class NotLetIn(Exception):
    """The provider asks for the password once more: it was a wrong one."""


class Browser:
    """Somebody's browser at the provider, with its cookies there. `asked` is what it has shown them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._session = requests.Session()

    def visit(self, url: str, name: str, *, password: str = PASSWORD, allows: bool = True) -> str:
        """Go where the panel sends one, fill in what is asked; where one is sent back to."""
        self.asked = []
        answer = self._session.get(url, allow_redirects=False, timeout=10)
        while True:
            if answer.is_redirect:
                there = urljoin(answer.url, answer.headers["Location"])
                if urlsplit(there).netloc != urlsplit(url).netloc:
                    return there
                answer = self._session.get(there, allow_redirects=False, timeout=10)
                continue
            fields = _Form(answer.text).fields
            if "password" in fields:
                if "password" in self.asked:
                    raise NotLetIn
                self.asked.append("password")
                fields |= {"username": name, "password": password}
            else:
                assert "allow" in fields, answer.text
                self.asked.append("consent")
                if not allows:
                    del fields["allow"]
            answer = self._session.post(answer.url, data=fields, allow_redirects=False, timeout=10)


class _Form(HTMLParser):
    """What the one form of a page would send as it stands."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "input" and (name := said.get("name")):
            self.fields[name] = said.get("value") or ""
