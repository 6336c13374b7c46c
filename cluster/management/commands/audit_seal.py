"""Write the oldest part of the audit log into a signed file. Removes nothing; audit_drop does that later."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cluster.audit.search import parse
from cluster.audit.segments import SegmentError, seal
from cluster.models import AuditEntry


class Command(BaseCommand):
    help = (
        "Seal the entries up to a number, or those of before a day, in a new file that ends with a signature."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--through", type=int, metavar="NUMBER", help="the last entry to seal")
        which.add_argument(
            "--before", metavar="DAY", help="all entries of before this day, such as 2026-01-01"
        )

    def handle(self, *args: Any, file: Path, through: int | None, before: str | None, **options: Any) -> None:
        try:
            segment = seal(file, through=through if through is not None else _last_before(str(before)))
        except SegmentError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"#{segment.after + 1} to #{segment.last} are sealed in {file}.")
        self.stdout.write(f"SHA-256 {segment.sha256}")


def _last_before(day: str) -> int:
    """The last entry before the first one of this day or later."""
    search = parse(f'created:">={day}"')
    if search.problems or search.since is None:
        raise CommandError(f"“{day}” is no day. Write it like 2026-01-01.")
    first = AuditEntry.objects.filter(at__gte=search.since).order_by("sequence").first()
    last = AuditEntry.objects.order_by("-sequence").first()
    return first.sequence - 1 if first else last.sequence if last else 0
