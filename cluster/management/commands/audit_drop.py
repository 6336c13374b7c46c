"""Remove from the database what audit_seal has written into a file. Needs the rights of the table's owner."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cluster.audit.segments import SegmentError, drop


class Command(BaseCommand):
    help = "Check a sealed file as a whole, and remove exactly its entries from the database."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            segment = drop(file)
        except SegmentError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"The log begins with #{segment.last + 1}. Keep {file}: nothing else has the rest.")
