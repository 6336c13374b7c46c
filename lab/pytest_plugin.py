"""For tests: `room`, a lab alone, and `stack`, the whole product with a lab of its own; each once a session.

tests/conftest.py loads it with `pytest_plugins = ["lab.pytest_plugin"]`. Where there can be no lab the tests
fail with the reason: a skipped test would look like a kernel that was asked.
"""

import base64
from collections.abc import Iterator

import pytest

from lab import Lab, up
from lab.stack import Stack

# The first key pair of RFC 8032, section 7.1: tests may sign as the panel with it.
PANEL_PRIVATE_KEY = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PANEL_PUBLIC_KEY = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


@pytest.fixture(scope="session")
def panel_public_key() -> str:
    """The key the directors trust; override the fixture to sign with one of your own."""
    return base64.b64encode(PANEL_PUBLIC_KEY).decode()


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory, panel_public_key: str) -> Iterator[Lab]:
    """A running lab. It ends with the test process, even a killed one."""
    lab = up(tmp_path_factory.mktemp("lab"), panel_public_key=panel_public_key, attached=True)
    yield lab
    lab.down()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """LVS Admin as it runs, on a free port; `stack.lab` is its lab. It ends with the test process too."""
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack
