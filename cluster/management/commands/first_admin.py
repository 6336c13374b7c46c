"""Make the first administrator. There is no default account and no default password."""

import getpass
import sys
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from cluster import audit
from cluster.actions.people import add_person
from cluster.actions.problems import Rejected
from cluster.actions.tokens import create_token
from cluster.models import Role


class Command(BaseCommand):
    help = "Make the first administrator; the password is asked for, or read from standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--token", metavar="NAME", help="also make an API token and print it")

    def handle(self, *args: Any, username: str, token: str | None, **options: Any) -> None:
        by = audit.Actor("first_admin")
        typed = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        try:
            validate_password(typed)
            user, _ = add_person(
                username=username, role=Role.ADMINISTRATOR.value, cluster=None, by=by, password=typed
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        except Rejected as rejected:
            raise CommandError(str(rejected)) from None
        if token:
            self.stdout.write(create_token(user, name=token, by=by))
