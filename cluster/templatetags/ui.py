"""The smallest parts of a page, which a list has hundreds of: an icon, a status, a moment. In every template
without `{% load %}`. A template that is included for each would take ten times as long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import slugify
from django.utils.timesince import timesince

register = template.Library()
# In minutes. How long a month was depends on when it was.
_SHORTEST_MONTH: Final = 28 * 24 * 60
_ANY_DAY: Final = datetime(2000, 1, 1, tzinfo=UTC)

# Each has a symbol state-<status> in icons.svg and a colour .state-<status> in app.css.
_KNOWN = (
    # of runs
    "queued, sent, running, applied, partial, refused, failed, unknown, superseded, cancelled, waiting, held",
    "reverted",
    # of directors and clusters, of modules, of backends, of drains
    "online, away, in sync, pending, drift, draft",
    "loaded, loadable, missing",
    "up, unchecked, returning, down, kept, removed, sorry, draining, cut",
    "planned, drained, ended",
    # of anything
    "ok, disabled, done, denied, warning",
)
# The words of each, where a page says no other.
STATUSES: Final = {one: one for some in _KNOWN for one in some.split(", ")} | {
    "applied": "verified",
    "waiting": "waiting for director",
    "held": "waits for the first",
}


@register.simple_tag
@lru_cache(maxsize=256)
def icon(name: str) -> SafeString:
    """The symbol `name` of static/icons.svg. Decoration only: say it in words beside it."""
    return format_html(
        '<svg class="icon" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        static("icons.svg"),
        name,
    )


@register.simple_tag
@lru_cache(maxsize=1024)
def status(status: str, label: str = "", pill: bool = False) -> SafeString:
    """One of STATUSES as icon, word and colour. `label`: other words; `pill`: on a tinted background, in
    headings."""
    symbol = f"state-{slugify(status)}"
    words = label or STATUSES.get(status, status)
    look = "state " + symbol + (" pill" if pill else "")
    return format_html('<span class="{}">{}{}</span>', look, icon(symbol), words)


@register.simple_tag
def time_ago(at: datetime | None, empty: str = "never") -> SafeString:
    """A moment, said relatively; the title has it in UTC, and app.js adds local time. `empty` is what to say
    without one."""
    if not at:
        return format_html('<span class="nothing">{}</span>', empty)
    moment = at.astimezone(UTC).isoformat(" ", "seconds")[:19]
    # Digits and Django's own words: there is nothing to escape, and that takes half of it.
    return SafeString(
        f'<time datetime="{moment.replace(" ", "T")}Z" data-relative title="{moment} UTC">'
        f"{_age(at)} ago</time>"
    )


def _age(at: datetime) -> str:
    """Django's words for it, which say no more than minutes."""
    minutes = int((datetime.now(UTC) - at).total_seconds() // 60)
    return _minutes(minutes) if 0 <= minutes < _SHORTEST_MONTH else timesince(at)


@lru_cache(maxsize=1024)
def _minutes(minutes: int) -> str:
    return timesince(_ANY_DAY, _ANY_DAY + timedelta(minutes=minutes))
