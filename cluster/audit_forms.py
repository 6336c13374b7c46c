"""The forms of the audit log: one that writes a search, one that keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms

from cluster.audit.search import LONGEST, Search, Term
from cluster.fields import PanelForm

_RESULTS = ["done", "refused", "failed", "partial", "unknown"]
_WHEN = [("", "Any time"), ("1h", "Last hour"), ("24h", "Last 24 hours"), ("7d", "Last 7 days")]
_WHEN += [("30d", "Last 30 days"), ("range", "From, until")]
_TEXT = {"autocomplete": "off", "spellcheck": "false"}


class FilterForm(PanelForm):
    """Writes the same words that can be typed; what it has no field for stays as it was typed."""

    hides_optional = True

    actor = forms.CharField(
        max_length=100,
        required=False,
        help_text="A user name, panel, or director lb1.",
        widget=forms.TextInput(_TEXT),
    )
    action = forms.CharField(
        max_length=60,
        required=False,
        help_text="Such as service.edit, or service.* for all that begins so.",
        widget=forms.TextInput(_TEXT),
    )
    object = forms.CharField(
        max_length=100,
        required=False,
        help_text="Part of its text, or its kind and number: service/12.",
        widget=forms.TextInput(_TEXT),
    )
    cluster = forms.ChoiceField(required=False)
    result = forms.ChoiceField(
        required=False, choices=[("", "Every result"), *((name, name) for name in _RESULTS)]
    )
    when = forms.ChoiceField(required=False, choices=_WHEN)
    since = forms.CharField(
        max_length=19, required=False, label="From", widget=forms.DateTimeInput({"type": "datetime-local"})
    )
    until = forms.CharField(
        max_length=19, required=False, widget=forms.DateTimeInput({"type": "datetime-local"})
    )

    def __init__(self, *args: Any, clusters: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["cluster"].choices = [("", "Every cluster"), *((name, name) for name in clusters)]  # type: ignore[attr-defined]

    @classmethod
    def showing(cls, search: Search, *, clusters: Sequence[str]) -> FilterForm:
        """The form as it would have written this search, as far as it has fields for it."""
        said = {name: search.said(name) for name in ("actor", "action", "object", "cluster", "result")}
        if said["cluster"] and said["cluster"] not in clusters:
            clusters = [*clusters, said["cluster"]]
        created = search.said("created")
        if created in dict(_WHEN):
            said["when"] = created
        elif created:
            said |= {"when": "range", "since": _minute(search.since), "until": _minute(search.until)}
        return cls(initial=said, clusters=clusters)

    def written(self, search: Search) -> str:
        """The search with this form's words in place of those that it showed."""
        names, terms = [], []
        for name in ("actor", "action", "object", "cluster", "result"):
            value = str(self.data.get(name, "")).replace('"', "").strip()[:100]
            # Two values, or one with a minus, were not shown: an empty field leaves them alone.
            if value or search.said(name):
                names.append(name)
            if value:
                terms.append(Term(name, value))
        if created := self._created():
            terms.append(Term("created", created))
        return search.with_terms([*names, "created"], terms)

    def _created(self) -> str:
        when, since, until = (str(self.data.get(name, "")).strip() for name in ("when", "since", "until"))
        if when != "range":
            return when[:30]
        return f"{since[:30] or '*'}..{until[:30] or '*'}" if since or until else ""


class SearchForm(PanelForm):
    """A name for a search."""

    name = forms.CharField(max_length=64, label="Name", widget=forms.TextInput({"autocomplete": "off"}))
    query = forms.CharField(max_length=LONGEST, required=False, widget=forms.HiddenInput)


def _minute(moment: Any) -> str:
    return f"{moment:%Y-%m-%dT%H:%M}" if moment else ""
