"""What a password has to be: hard to guess, and nothing else. Names in AUTH_PASSWORD_VALIDATORS; no letter,
digit or sign is asked for, and nothing leaves the machine."""

from __future__ import annotations

import re

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from zxcvbn import zxcvbn

# What the library judges at most; the rest of a longer password only adds to it.
JUDGED_LETTERS = 72
LEAST_SCORE = 3  # of 4: would hold for months against a stolen hash
LEAST_OF_ONES_OWN = 8
OF_THE_PANEL = ("lvsadmin", "lvs", "ipvs", "admin", "linux", "virtual", "server", "cluster", "director")


class HardToGuess:
    """Refuse what a guesser would try: names of the panel and of the person, listed passwords, rows of keys,
    repeats, dates, and their likes in other letters."""

    def validate(self, password: str, user: AbstractBaseUser | None = None) -> None:
        rest = password.lower()
        for word in sorted(_known_words(user), key=len, reverse=True):
            rest = rest.replace(word, "")
        if len(re.sub(r"[\W_]", "", rest)) < LEAST_OF_ONES_OWN:
            raise ValidationError(
                "This is mostly your name, or the panel's. Add words that have nothing to do with either."
            )
        judged = zxcvbn(password[:JUDGED_LETTERS], user_inputs=_known_words(user))
        if judged["score"] < LEAST_SCORE:
            advice = [judged["feedback"]["warning"], *judged["feedback"]["suggestions"][:1]]
            raise ValidationError(f"{_in_words(judged)} {' '.join(filter(None, advice))}".strip())

    def get_help_text(self) -> str:
        return "Four unusual words are easy to keep and hard to guess. Paste is fine, and so are 128 letters."


def strength(password: str, user: AbstractBaseUser) -> str:
    """How long it holds, as a sentence."""
    return _in_words(zxcvbn(password[:JUDGED_LETTERS], user_inputs=_known_words(user)))


def _in_words(judged: dict[str, dict[str, str]]) -> str:
    takes = judged["crack_times_display"]["offline_slow_hashing_1e4_per_second"]
    return f"Whoever stole the database would guess this password in {takes}."


def _known_words(user: AbstractBaseUser | None) -> list[str]:
    """In small letters: of the panel, of its address, of the person."""
    hosts = [part for host in settings.ALLOWED_HOSTS for part in re.findall(r"[a-z]{3,}", host.lower())]
    name = user.get_username().lower() if user else ""
    return [*OF_THE_PANEL, *hosts, *re.findall(r"[a-z0-9]{3,}", name)]
