"""What pages are drawn with: each icon and status that they name is there, and none is kept for nobody."""

from __future__ import annotations

import re

from django.conf import settings
from django.contrib.auth.models import User
from django.utils.text import slugify

from cluster.forms import FirstPasswordForm
from cluster.models import Run
from cluster.shell import NAVIGATION, PEOPLE
from cluster.templatetags.ui import STATUSES

BASE = settings.BASE_DIR
TEMPLATES = "\n".join(path.read_text() for path in sorted((BASE / "templates").rglob("*.html")))
SCRIPTS = "\n".join(path.read_text() for path in sorted((BASE / "static").glob("*.js")))
CODE = "\n".join(path.read_text() for path in sorted((BASE / "cluster").rglob("*.py")))
CSS = re.sub(r"/\*.*?\*/", "", (BASE / "static/app.css").read_text(), flags=re.DOTALL)
SYMBOLS = re.findall(r'<symbol id="([^"]+)"', (BASE / "static/icons.svg").read_text())
# What the parts of templates/ui are called with from a page, and so is in no class attribute as such.
MADE_OF_VALUES = ("chip-", "field-", "state-", "step-", "tone-")


def _named_icons() -> set[str]:
    by_pages = re.findall(r'{% icon (?:[\w.]+\|default:)?"([a-z0-9-]+)"', TEMPLATES)
    by_parts = re.findall(r'\bicon="([a-z0-9-]+)"', TEMPLATES)
    by_scripts = re.findall(r'"([a-z0-9-]+)"', " ".join(re.findall(r"\bicon\(\w+, (.+)\);", SCRIPTS)))
    by_shell = {icon for _, icon, _, _ in [*NAVIGATION, PEOPLE]} | set(
        re.findall(r'"icon": "([a-z0-9-]+)"', CODE)
    )
    return {*by_pages, *by_parts, *by_scripts, *by_shell}


def test_every_icon_that_is_named_is_drawn_and_no_other_is_kept() -> None:
    assert sorted(_named_icons()) == sorted(symbol for symbol in SYMBOLS if not symbol.startswith("state-"))


def test_every_status_has_a_symbol_and_no_other_is_kept() -> None:
    drawn = {symbol.removeprefix("state-") for symbol in SYMBOLS if symbol.startswith("state-")}
    assert drawn == {slugify(status) for status in STATUSES}
    written = re.findall(r'{% status "([a-z ]+)"', TEMPLATES)
    assert written and {*written, *Run.Status.values} < set(STATUSES)
    assert set(re.findall(r"\.state-([\w-]+)", CSS)) <= drawn


def test_every_class_of_the_style_sheet_is_used() -> None:
    classes = set(re.findall(r"\.([a-zA-Z_][\w-]*)", re.sub(r"url\([^)]*\)", "", CSS)))
    used = set(re.findall(r"[\w-]+", TEMPLATES + SCRIPTS + CODE))
    assert sorted(name for name in classes - used if not name.startswith(MADE_OF_VALUES)) == []


def test_help_that_is_a_list_stays_in_its_element() -> None:
    """A browser ends a paragraph where a list begins, which then looks like anything else."""
    drawn = FirstPasswordForm(User(username="uma"))["new_password1"].as_field_group()
    assert re.search(r'<div class="field-help" id="id_new_password1_helptext"><ul>.+</ul></div>', drawn)
