"""Make the first administrator. There is no default account and no default password."""

import getpass
import sys
from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from cluster import audit
from cluster.actions.people import create_token
from cluster.models import Role, RoleBinding


class Command(BaseCommand):
    help = "Make the first administrator; the password is asked for, or read from standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--token", metavar="NAME", help="also make an API token and print it")

    def handle(self, *args: Any, username: str, token: str | None, **options: Any) -> None:
        if User.objects.filter(username=username).exists():
            raise CommandError(f"There is an account named {username} already.")
        typed = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        try:
            validate_password(typed)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        user = User.objects.create_user(username=username, password=typed)
        RoleBinding.objects.create(user=user, role=Role.ADMINISTRATOR)
        by = audit.Actor("first_admin")
        audit.record("person.add", username, by=by, after={"role": Role.ADMINISTRATOR.value})
        if token:
            self.stdout.write(create_token(user, name=token, by=by))
