"""The rows of the audit log's list. As a template they took as long as all the rest of the page."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from html import escape

from django import template
from django.utils.safestring import SafeString

from cluster.audit.pages import Row
from cluster.templatetags.ui import status, time_ago

register = template.Library()
# The same few actors, actions and clusters stand in most rows.
_escaped = lru_cache(maxsize=1024)(escape)


@register.simple_tag
def audit_rows(entries: Iterable[Row]) -> SafeString:
    """A table row for each entry, for the page of the list itself: the links are relative to it."""
    return SafeString("".join(map(_row, entries)))


def _row(entry: Row) -> str:
    """All that comes from an entry as text goes through `_escaped`."""
    number, reason = int(entry["sequence"]), _escaped(entry["reason"])
    more = f'<span class="sub cut">{reason}</span>' if reason else ""
    result = status("denied", "refused") if entry["result"] == "refused" else status(entry["result"])
    # An entry's page lies below the list's.
    return f"""<tr>
  <td class="num"><a href="{number}/">{number}</a></td>
  <td>{time_ago(entry["at"])}</td>
  <td>{_escaped(entry["actor"])}</td>
  <td class="mono">{_escaped(entry["action"])}</td>
  <td class="main cut"><a href="{number}/">{_escaped(entry["target"]) or "(nothing)"}</a>{more}</td>
  <td>{_escaped(entry["cluster"])}</td>
  <td>{result}</td>
</tr>
"""
