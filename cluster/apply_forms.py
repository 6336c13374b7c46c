"""The forms of how an apply goes out, and of what a cluster's applies begin with."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms

from cluster.actions.changes import How
from cluster.actions.clusters import Conditions
from cluster.drain_forms import moment_field
from cluster.fields import PanelForm
from cluster.models import Cluster

LONGEST_TRIAL_MIN = 24 * 60


def _percent_field(label: str, help_text: str) -> forms.IntegerField:
    return forms.IntegerField(label=label, required=False, min_value=0, max_value=99, help_text=help_text)


class ConditionsForm(PanelForm):
    """When a revision goes back by itself."""

    confirm_min = forms.IntegerField(
        label="To be confirmed within, minutes",
        required=False,
        min_value=1,
        max_value=LONGEST_TRIAL_MIN,
        help_text="If nobody does, the directors go back by themselves, panel reachable or not. Empty: no"
        " confirmation is needed.",
    )
    backends_percent = _percent_field(
        "Backends may fall by at most, %",
        "Where those in service fall further below what a director had before, it goes back within seconds."
        " Those that this apply removes count.",
    )
    connections_percent = _percent_field(
        "Connections may fall by at most, %",
        "The same for open connections. Mind that traffic falls by itself at night.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        limits = [
            name for name in ("backends_percent", "connections_percent") if cleaned.get(name) is not None
        ]
        if limits and cleaned.get("confirm_min") is None and "confirm_min" not in self.errors:
            text = "A limit holds until the revision is confirmed. Say within how many minutes that must be."
            self.add_error("confirm_min", text)
        return cleaned


class ClusterConditionsForm(ConditionsForm):
    """What a cluster's applies begin with."""

    version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    @classmethod
    def initial_of(cls, cluster: Cluster) -> dict[str, Any]:
        """What the form shows of a cluster."""
        return {name: getattr(cluster, name) for name in (*ConditionsForm.base_fields, "version")}

    def said(self) -> Conditions:
        """The cleaned values as the action takes them."""
        return Conditions(**{name: self.cleaned_data[name] for name in ConditionsForm.base_fields})


class HowForm(ConditionsForm):
    """How one apply goes out."""

    first = forms.ChoiceField(
        label="One director first",
        required=False,
        help_text="The others follow when it is applied there, and confirmed where that is asked for.",
    )
    begins_at = moment_field("Not before (UTC)", "Empty: now.")
    ends_at = moment_field("Not after (UTC)", "The end of the window. Empty: an hour after the beginning.")

    def __init__(self, *args: Any, cluster: Cluster, **kwargs: Any) -> None:
        initial = {name: getattr(cluster, name) for name in ConditionsForm.base_fields}
        super().__init__(*args, initial=initial, **kwargs)
        names = list(cluster.directors.values_list("name", flat=True))
        first = self.fields["first"]
        assert isinstance(first, forms.ChoiceField)
        first.choices = [("", "All at once"), *((name, name) for name in names)]
        if len(names) < 2:
            del self.fields["first"]

    @property
    def how(self) -> How:
        """What was asked for."""
        said = {name: self.cleaned_data[name] for name in ConditionsForm.base_fields}
        return How(**said, first=self.cleaned_data.get("first", ""))

    @property
    def is_open(self) -> bool:
        """Whether anything stands in it, or is wrong with it, that a page must not hide."""
        return bool(self.errors) or any(self[name].value() for name in self.fields)

    @property
    def window(self) -> dict[str, datetime | None]:
        """When it is to go out; both empty for now."""
        return {name: self.cleaned_data[name] for name in ("begins_at", "ends_at")}

    @property
    def is_later(self) -> bool:
        return any(self.window.values())
