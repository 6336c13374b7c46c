"""Whether a password is known from a breach: the operator keeps a list of hashes as a file, which is searched
where it lies. Its form is that of Pwned Passwords: on each line SHA-1, a colon and a count, ordered by hash.
https://haveibeenpwned.com/Passwords"""

from __future__ import annotations

import logging
import os
import re
from bisect import bisect_left
from functools import partial
from hashlib import sha1
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.core import checks
from django.core.exceptions import ValidationError

LINE = re.compile(rb"([0-9A-F]{40})(?::[0-9]+)?\r?\n?")
LONGEST_LINE = 80
AFTER_ALL = b"~"  # where the file has ended; greater than any hash
PLACES = 256

log = logging.getLogger(__name__)


class NotAList(ValueError):
    """The file is there, and no list of hashes in their order."""


class NotBreached:
    """Refuse what is in the list; and every password while the list cannot be read."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def validate(self, password: str, user: object = None) -> None:
        digest = sha1(password.encode(), usedforsecurity=False).hexdigest().upper().encode()
        try:
            with self.path.open("rb") as file:
                is_breached = is_listed(file, digest)
        except (OSError, NotAList) as problem:
            log.error("no password is taken: list of breached passwords %s: %s", self.path, problem)
            raise ValidationError(
                "The list of breached passwords cannot be read, so none is taken. Ask an administrator."
            ) from problem
        if is_breached:
            raise ValidationError("This password is known from a breach, so guessers try it. Choose another.")

    def get_help_text(self) -> str:
        return "Your password can’t be one that is known from a breach."


def is_listed(file: BinaryIO, digest: bytes) -> bool:
    """By bisection over the bytes of the file, which may be larger than memory: some forty reads in 40 GB.
    NotAList where a line on the way is no hash."""
    size = file.seek(0, os.SEEK_END)
    found_at = bisect_left(range(size), digest, key=partial(_hash_from, file))
    return _hash_from(file, found_at) == digest


def look_over(file: BinaryIO) -> None:
    """NotAList where the file is empty, its end is broken, or its hashes are in another order, as far as some
    hundred places in it show: reading all of it takes minutes."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        raise NotAList("it is empty")
    is_listed(file, AFTER_ALL)
    hashes = [_hash_from(file, size * place // PLACES) for place in range(PLACES)]
    if hashes != sorted(hashes):
        raise NotAList("it is not ordered by hash")


def check_list(**_: Any) -> list[checks.CheckMessage]:
    """Django's system check: whether the list that the settings name can be used."""
    if not settings.BREACHED_PASSWORDS:
        return []
    try:
        with Path(settings.BREACHED_PASSWORDS).open("rb") as file:
            look_over(file)
    except (OSError, NotAList) as problem:
        # No error: that would keep manage.py from everything else as well.
        return [
            checks.Warning(
                f"The list of breached passwords {settings.BREACHED_PASSWORDS} cannot be used: {problem}.",
                hint="Let LVSADMIN_BREACHED_PASSWORDS name a file that the panel's user may read, with a"
                " SHA-1 hash in capitals on each line, ordered by hash; or unset it.",
                id="cluster.W001",
            )
        ]
    return []


def _hash_from(file: BinaryIO, offset: int) -> bytes:
    """The hash of the first line that begins after the offset; of the first of all at 0."""
    file.seek(offset)
    if offset:
        file.readline(LONGEST_LINE)
    line = file.readline(LONGEST_LINE)
    if not line:
        return AFTER_ALL
    if not (found := LINE.fullmatch(line)):
        raise NotAList("a line of it is no SHA-1 hash in capitals, with or without a colon and a count")
    return found[1]
