"""The forms of drains and of what is done to many backends at once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django import forms
from django.http import QueryDict
from django.utils import timezone

from cluster.actions.problems import Rejected
from cluster.fields import ReasonForm, weight_field
from cluster.models import Drain

LONGEST_WAIT_MIN = 31 * 24 * 60


def moment_field(label: str, help_text: str) -> forms.DateTimeField:
    """A moment in UTC, as the whole panel says them."""
    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    return forms.DateTimeField(
        label=label,
        required=False,
        widget=widget,
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"],
        help_text=help_text,
        error_messages={"invalid": "Write the moment like 2026-03-29 04:00, in UTC."},
    )


class _EndForm(ReasonForm):
    """How a drain ends."""

    ends_at = moment_field(
        "Ends at (UTC)", "Then the backends come back by themselves. Empty: when you undrain."
    )
    cut_after_min = forms.IntegerField(
        label="Cut what is left after, minutes",
        required=False,
        min_value=1,
        max_value=LONGEST_WAIT_MIN,
        help_text="Counted from the beginning. Who is still connected then loses the backend. Empty: nobody"
        " is cut.",
    )

    def cut_at(self, begins_at: datetime) -> datetime | None:
        minutes = self.cleaned_data["cut_after_min"]
        return None if minutes is None else begins_at + timedelta(minutes=minutes)

    def add_problems(self, rejected: Rejected) -> None:
        """The action says when; the form asked after how long."""
        for problem in rejected.problems:
            field = "cut_after_min" if problem.field == "cut_at" else problem.field
            self.add_error(field if field in self.fields else None, problem.text)


class DrainForm(_EndForm):
    begins_at = moment_field("Begins at (UTC)", "Empty: now, on all directors.")
    may_refuse_clients = forms.BooleanField(
        label="Drain it although a service is left without a backend", required=False
    )
    field_order = ["begins_at", "ends_at", "cut_after_min", "reason", "ticket", "may_refuse_clients"]

    def said(self) -> dict[str, Any]:
        """The cleaned values as the action takes them."""
        begins = self.cleaned_data["begins_at"]
        return {
            "begins_at": begins,
            "ends_at": self.cleaned_data["ends_at"],
            "cut_at": self.cut_at(begins or timezone.now()),
            "may_refuse_clients": self.cleaned_data["may_refuse_clients"],
            **self.why,
        }


class DrainEndForm(_EndForm):
    version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    @classmethod
    def initial_of(cls, drain: Drain) -> dict[str, Any]:
        """What the form shows of a drain. What was cut by force had no deadline for it."""
        cut_at = None if drain.cut_by else drain.cut_at
        waits = round((cut_at - drain.begins_at).total_seconds() / 60) if cut_at else None
        return {"ends_at": drain.ends_at, "cut_after_min": waits, "version": drain.version}


class Seen(NamedTuple):
    """What the page of a ticked backend showed."""

    version: int
    weight: int


class BulkForm(ReasonForm):
    """What is to happen to the ticked backends. `chosen` says by their pks what was seen of them."""

    ACTIONS = [
        ("drain", "Drain now"),
        ("plan", "Drain in a window…"),
        ("undrain", "Undrain"),
        ("set-weight", "Set the weight in the draft"),
    ]
    MOST_IN_A_WINDOW = 200

    do = forms.ChoiceField(choices=ACTIONS)
    weight = weight_field()
    field_order = ["do", "weight"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["weight"].required = self["do"].value() == "set-weight"
        # The others change the draft, or lead to a page that asks.
        self.fields["reason"].required = self["do"].value() in ("drain", "undrain")

    @property
    def lacks_reason_alone(self) -> bool:
        """Whether all but the reason is as it should be, for what needs one."""
        return set(self.errors) == {"reason"} and self.fields["reason"].required

    @property
    def chosen(self) -> dict[int, Seen]:
        """The ticked backends, by their pks."""
        ticked = self.data.getlist("backend") if isinstance(self.data, QueryDict) else []
        return dict(filter(None, map(_pk_and_seen, ticked)))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        cleaned["chosen"] = self.chosen
        if not cleaned["chosen"]:
            self.add_error(None, "Tick at least one backend.")
        elif cleaned.get("do") == "plan" and len(cleaned["chosen"]) > self.MOST_IN_A_WINDOW:
            # They stand in the address of the next page.
            self.add_error(None, f"Plan at most {self.MOST_IN_A_WINDOW} backends at once, or drain hosts.")
        return cleaned


def _pk_and_seen(text: str) -> tuple[int, Seen] | None:
    parts = [int(part) for part in text.split(":") if part.isdecimal() and len(part) < 18]
    return (parts[0], Seen(parts[1], parts[2])) if len(parts) == 3 else None
