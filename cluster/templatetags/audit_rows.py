"""The rows of the audit log's list. As a template they took as long as all the rest of the page."""

from __future__ import annotations

from collections.abc import Iterable

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from cluster.audit.pages import Row
from cluster.templatetags.ui import status, time_ago

register = template.Library()

# An entry's page lies below the list's.
_ROW = """<tr>
  <td class="num"><a href="{0}/">{0}</a></td>
  <td>{1}</td>
  <td>{2}</td>
  <td class="mono">{3}</td>
  <td class="main cut"><a href="{0}/">{4}</a>{5}</td>
  <td>{6}</td>
  <td>{7}</td>
</tr>
"""


@register.simple_tag
def audit_rows(entries: Iterable[Row]) -> SafeString:
    """A table row for each entry, for the page of the list itself: the links are relative to it."""
    return format_html_join("", _ROW, map(_cells, entries))


def _cells(entry: Row) -> tuple[object, ...]:
    reason = format_html('<span class="sub cut">{}</span>', entry["reason"]) if entry["reason"] else ""
    result = status("denied", "refused") if entry["result"] == "refused" else status(entry["result"])
    return (
        *(entry["sequence"], time_ago(entry["at"]), entry["actor"], entry["action"]),
        *(entry["target"] or "(nothing)", reason, entry["cluster"], result),
    )
