"""Two people at one form: what it said when it was opened, what somebody else made of it, what is wanted.

The page of a form carries what it showed when it was opened. Where the row has changed since, nothing is
saved: the page comes back with three columns, and each field takes theirs or keeps mine with one click.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from django import forms
from django.http import HttpRequest, QueryDict

from cluster.fields import PanelForm

AnyForm = TypeVar("AnyForm", bound=PanelForm)
# By field, what a browser would send of it.
Values = dict[str, list[str]]
# Not of the row: its version, what else was looked at, and why it is changed.
_HIDDEN = ("version", "seen", "reason", "ticket")


@dataclass(frozen=True)
class FieldDifference:
    """A field that somebody changed, in words. `takes_theirs`: the form says now what they made of it;
    `is_contested`: both changed it."""

    name: str
    label: str
    opened: str
    theirs: str
    mine: str
    takes_theirs: bool
    is_contested: bool


@dataclass(frozen=True)
class Opened(Generic[AnyForm]):
    """A form as it is to be shown or saved. `opened` and `wanted` travel in the page; `differences` is empty
    unless somebody else changed what this form shows. `seen_version` is what the save may overwrite."""

    form: AnyForm
    seen_version: int
    may_save: bool
    opened: str
    wanted: str
    differences: list[FieldDifference]
    changed_by: str
    changed_at: datetime | None


def opened(request: HttpRequest, row: Any, make: Callable[[Any], AnyForm]) -> Opened[AnyForm]:
    """The form of a request about this row, which has version, changed_by and changed_at and was read just
    now. `make` builds the form from what was sent, or for None from the row.

    What somebody else changed comes into the form by itself where it was not touched here."""
    if request.method != "POST":
        form = make(None)
        return Opened(form, row.version, False, carried(row.version, _untouched(form)), "", [], "", None)
    return sent_back(request.POST, row, make)


def carried(version: int, values: Values) -> str:
    """What the page of a form carries: these values of its row, in this version."""
    return json.dumps({"version": version, "values": values})


def sent_back(posted: QueryDict, row: Any, make: Callable[[Any], AnyForm]) -> Opened[AnyForm]:
    """As `opened`, of what was sent."""
    before = _read(posted.get("opened"))
    seen, base = (before["version"], before["values"]) if before else (None, None)
    sent = make(posted)
    version = posted.get("version", "")
    theirs, mine = _untouched(sent), _sent(sent)
    text, data = str(posted.get("opened", "")), posted.copy()
    if version == str(row.version):
        wanted = _read(posted.get("wanted")) if seen != row.version else None
        if wanted is None:
            return Opened(sent, row.version, True, text, "", [], "", None)
        data, picked = _picked(data, theirs, wanted["values"])
        form = make(data)
        rows = _differences(form, base, theirs, wanted["values"])
        return _told(form, row, text, wanted["values"], rows, may_save=not picked)
    if base is not None and all(theirs[name] == base.get(name, theirs[name]) for name in theirs):
        # Somebody changed the row, and nothing that this form shows.
        return Opened(sent, row.version, True, text, "", [], "", None)
    data["version"] = str(row.version)
    for name in theirs:
        if base is not None and mine[name] == base.get(name, theirs[name]):
            data.setlist(name, theirs[name])
    form = make(data)
    rows = _differences(form, base, theirs, mine)
    # Where both want the same, there is nothing to choose.
    return _told(form, row, text, mine, rows, may_save=not rows)


def _told(
    form: AnyForm, row: Any, text: str, wanted: Values, rows: list[FieldDifference], *, may_save: bool
) -> Opened[AnyForm]:
    return Opened(form, row.version, may_save, text, carried(0, wanted), rows, row.changed_by, row.changed_at)


def _picked(data: QueryDict, theirs: Values, mine: Values) -> tuple[QueryDict, bool]:
    """What was sent with the one field that a click took or kept, and whether there was such a click."""
    for button, values in (("take", theirs), ("keep", mine)):
        name = data.get(button, "")
        if name in theirs:
            data.setlist(name, values.get(name, [""]))
            return data, True
    return data, False


def _differences(form: AnyForm, base: Values | None, theirs: Values, mine: Values) -> list[FieldDifference]:
    """Without a `base`, from a page that had none, every field that the two want otherwise is contested."""
    found, current = [], _sent(form)
    for name, their in theirs.items():
        my = mine.get(name, their)
        was = base.get(name, their) if base is not None else None
        if their == my or name not in form.fields:
            continue
        said, made, wanted = (_words(form, name, values) for values in (was or [], their, my))
        is_contested = was is None or (was != their and was != my)
        label, takes_theirs = str(form[name].label), current[name] == their
        found.append(FieldDifference(name, label, said, made, wanted, takes_theirs, is_contested))
    return found


def _untouched(form: PanelForm) -> Values:
    """What a browser would send of the form where nobody has typed anything: what the row says."""
    return {
        name: _as_sent(field, form.get_initial_for_field(field, name))
        for name, field in form.fields.items()
        if name not in _HIDDEN
    }


def _sent(form: PanelForm) -> Values:
    """What was sent for each field; of one that cannot be changed, what it shows."""
    values: Values = {}
    assert isinstance(form.data, QueryDict)
    for name, field in form.fields.items():
        if name in _HIDDEN:
            continue
        if field.disabled:
            values[name] = _as_sent(field, form.get_initial_for_field(field, name))
        else:
            values[name] = _plain(field, form.data.getlist(form.add_prefix(name)))
    return values


def _as_sent(field: forms.Field, value: Any) -> list[str]:
    if isinstance(field, forms.DateTimeField):
        value = field.widget.format_value(field.prepare_value(value))
    if isinstance(field.widget, forms.CheckboxInput):
        return ["on"] if value else []
    several = value if isinstance(value, list | tuple) else [value]
    return _plain(field, ["" if one is None else str(one) for one in several])


def _plain(field: forms.Field, sent: list[str]) -> list[str]:
    if isinstance(field.widget, forms.CheckboxInput):
        return ["on"] if any(sent) else []
    plain = [one.replace("\r\n", "\n").strip() for one in sent]
    if isinstance(field.widget, forms.CheckboxSelectMultiple):
        return sorted(filter(None, plain))
    return plain[-1:] or [""]


def _words(form: PanelForm, name: str, values: list[str]) -> str:
    field = form.fields[name]
    if isinstance(field.widget, forms.CheckboxInput):
        return "yes" if values else "no"
    known = {str(key): str(words) for key, words in getattr(field, "choices", [])}
    return ", ".join(filter(None, (known.get(value, value) for value in values)))


def _read(text: Any) -> dict[str, Any] | None:
    """What a page carried; None for whatever no page of ours did."""
    try:
        said = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("values"), dict):
        return None
    texts = all(
        isinstance(values, list) and all(isinstance(one, str) for one in values)
        for values in said["values"].values()
    )
    return said if texts and isinstance(said.get("version"), int) else None
