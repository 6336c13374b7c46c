"""Make the first administrator. There is no default account and no default password."""

import getpass
import sys
from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse

from cluster import audit
from cluster.actions.people import add_person
from cluster.actions.problems import Rejected
from cluster.actions.tokens import create_token
from cluster.models import Role


class Command(BaseCommand):
    help = (
        "Make the first administrator. The password is asked for, or read from standard input; with --link,"
        " the person sets it by a one-time link, which is printed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--link", action="store_true", help="print a one-time link, ask no password")
        parser.add_argument("--token", metavar="NAME", help="also make an API token and print it")

    def handle(self, *args: Any, username: str, link: bool, token: str | None, **options: Any) -> None:
        by = audit.Actor("first_admin")
        try:
            typed = "" if link else self._judged_password(username)
            user, secret = add_person(
                username=username, role=Role.ADMINISTRATOR.value, cluster=None, by=by, password=typed
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        except Rejected as rejected:
            raise CommandError(str(rejected)) from None
        if link:
            path = reverse("one-time-link", args=[secret])
            self.stdout.write(f"Open this at the panel's address, once, within a day: {path}")
        if token:
            self.stdout.write(create_token(user, name=token, by=by))

    def _judged_password(self, username: str) -> str:
        """Typed or piped; ValidationError where it could be guessed."""
        typed = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        validate_password(typed, User(username=username))
        return typed
