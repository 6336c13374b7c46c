"""Passwords that are known from breaches: how the list is searched, and what is said where it cannot be."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from cluster.breached_passwords import NotAList, NotBreached, check_list, is_listed, look_over

BREACHED = "kettle walnut orbit"  # which nothing else refuses
HASHES = st.integers(0, 16**40 - 1)
ENDS = st.sampled_from(["\n", "\r\n"])
COUNTS = st.one_of(st.just(""), st.integers(1, 10**10).map(lambda count: f":{count}"))


def digest(number: int) -> bytes:
    return f"{number:040X}".encode()


def write_list(path: Path, *passwords: str) -> Path:
    hashes = sorted(sha1(password.encode()).hexdigest().upper() for password in passwords)
    path.write_text("".join(f"{one}:{count}\r\n" for count, one in enumerate(hashes, 1)), newline="")
    return path


@given(st.sets(HASHES, max_size=60), st.sets(HASHES, max_size=5), ENDS, st.booleans(), st.data())
def test_it_says_what_a_set_would_say(
    listed: set[int], others: set[int], end: str, is_ended: bool, data: st.DataObject
) -> None:
    lines = [digest(one).decode() + data.draw(COUNTS) for one in sorted(listed)]
    file = io.BytesIO((end.join(lines) + end * (is_ended and bool(lines))).encode())
    beside = {max(one - 1, 0) for one in listed} | {min(one + 1, 16**40 - 1) for one in listed}
    for one in listed | others | beside | {0, 16**40 - 1}:
        assert is_listed(file, digest(one)) == (one in listed)
    if listed:
        look_over(file)


class Virtual(io.RawIOBase):
    """A billion lines that nobody has written down: each 44th of the hashes from 0 on, with CRLF. It counts
    how often it is read."""

    LINES = 10**9
    LINE = 44

    def __init__(self) -> None:
        self.at = self.reads = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.LINES * self.LINE}[whence]
        self.at = start + offset
        return self.at

    def readinto(self, buffer: Any) -> int:
        self.reads += 1
        first = self.at // self.LINE
        last = min((self.at + len(buffer)) // self.LINE + 1, self.LINES)
        text = b"".join(digest(number * 44)[:40] + b":1\r\n" for number in range(first, last))
        begun = self.at - first * self.LINE
        found = text[begun : begun + len(buffer)]
        buffer[: len(found)] = found
        self.at += len(found)
        return len(found)


@pytest.mark.parametrize("number", [0, 1, 44, 44 * 10**9 - 44, 44 * 10**9, 44 * 123_456_789, 16**39])
def test_forty_gigabytes_take_some_forty_reads(number: int) -> None:
    raw = Virtual()
    file = io.BufferedReader(raw)
    assert is_listed(file, digest(number)) == (number % 44 == 0 and number < 44 * 10**9)
    assert raw.reads <= 45


def test_a_password_of_the_list_is_refused_and_another_is_taken(tmp_path: Path) -> None:
    listed = NotBreached(str(write_list(tmp_path / "list", "other", BREACHED, "Ключ", "")))
    for breached in (BREACHED, "other", "Ключ", ""):
        with pytest.raises(ValidationError, match="known from a breach"):
            listed.validate(breached)
    listed.validate(BREACHED + " seventeen")


def write_unordered(path: Path) -> None:
    """As Pwned Passwords publishes it too: by how often each was seen."""
    lines = write_list(path, *map(str, range(500))).read_text().splitlines()
    path.write_text("\n".join(sorted(lines, key=lambda line: sha1(line.encode()).digest())))


def write_cut(path: Path) -> None:
    """As a full disk leaves it."""
    os.truncate(write_list(path, *map(str, range(2000))), 50_000)


BROKEN = {
    "is missing": (lambda path: None, "No such file"),
    "is a folder": (lambda path: path.mkdir(), "Is a directory"),
    "has small letters": (lambda path: path.write_text("a" * 40 + ":7\n"), "in capitals"),
    "is cut off": (lambda path: path.write_text("A" * 40 + ":7\n" + "B" * 39), "in capitals"),
    "has no lines": (lambda path: path.write_bytes(b"\0" * 5000), "in capitals"),
}
UNFIT = {
    "is empty": (Path.touch, "is empty"),
    "is in another order": (write_unordered, "not ordered by hash"),
    "has a broken end": (write_cut, "in capitals"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_list_that_cannot_be_read_lets_no_password_through(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    BROKEN[how][0](tmp_path / "list")
    with pytest.raises(ValidationError, match="cannot be read, so none is taken"):
        NotBreached(str(tmp_path / "list")).validate("zebra lantern gravel seventeen")
    assert str(tmp_path / "list") in caplog.text and BROKEN[how][1] in caplog.text


@pytest.mark.parametrize("how", [*BROKEN, *UNFIT])
def test_a_list_that_cannot_be_used_is_found_by_a_check(how: str, tmp_path: Path, settings: Any) -> None:
    write, said = (BROKEN | UNFIT)[how]
    write(tmp_path / "list")
    settings.BREACHED_PASSWORDS = str(tmp_path / "list")
    (found,) = check_list()
    assert (
        found.id == "cluster.W001" and said in found.msg and "LVSADMIN_BREACHED_PASSWORDS" in str(found.hint)
    )


def test_a_good_list_and_none_at_all_get_no_word(tmp_path: Path, settings: Any) -> None:
    assert settings.BREACHED_PASSWORDS == "" and check_list() == []
    settings.BREACHED_PASSWORDS = str(write_list(tmp_path / "list", *map(str, range(1000))))
    assert check_list() == []


@pytest.mark.parametrize("lines", [2, 3, 40, 200])
def test_a_short_list_is_looked_over_line_by_line(lines: int) -> None:
    hashes = [digest(number) for number in range(lines)]
    hashes[-1], hashes[-2] = hashes[-2], hashes[-1]
    with pytest.raises(NotAList, match="not ordered"):
        look_over(io.BytesIO(b"\n".join(hashes)))


def test_the_account_page_names_the_list_only_where_there_is_one(
    tmp_path: Path, settings: Any, client: Client, db: None
) -> None:
    uma = User.objects.create_user(username="uma", password="a password of her own")
    client.force_login(uma)
    assert "known from a breach" not in client.get(reverse("account")).content.decode()
    path = write_list(tmp_path / "list", BREACHED)
    validator = {"NAME": "cluster.breached_passwords.NotBreached", "OPTIONS": {"path": str(path)}}
    settings.AUTH_PASSWORD_VALIDATORS = [*settings.AUTH_PASSWORD_VALIDATORS, validator]
    assert "can’t be one that is known from a breach" in client.get(reverse("account")).content.decode()
    typed = {"old_password": "a password of her own", "new_password1": BREACHED, "new_password2": BREACHED}
    page = client.post(reverse("account"), typed)
    assert "guessers try it" in page.content.decode()
    path.unlink()
    page = client.post(reverse("account"), typed)
    assert "cannot be read" in page.content.decode()
    assert User.objects.get().check_password("a password of her own")


def test_the_environment_turns_it_on_and_the_panel_says_at_its_start_what_is_wrong(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LVSADMIN_")}
    more = {"LVSADMIN_BREACHED_PASSWORDS": "/nowhere/list", "LVSADMIN_DATA_DIR": str(tmp_path)}
    text = (
        "import lvsadmin.wsgi; from django.conf import settings; print(settings.AUTH_PASSWORD_VALIDATORS[-1])"
    )
    environment = kept | more | {"DJANGO_SETTINGS_MODULE": "lvsadmin.settings"}
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert "NotBreached" in done.stdout and "/nowhere/list" in done.stdout
    (said,) = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert said["level"] == logging.getLevelName(logging.WARNING).lower()
    assert "cluster.W001" in said["message"] and "/nowhere/list" in said["message"], done.stderr
