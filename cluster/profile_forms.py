"""The form of a weight profile: a weight for each backend, and some rows of hours."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from django import forms

from cluster.actions.profiles import ProfileFields, tables
from cluster.fields import PanelForm
from cluster.ipvs.rules import LARGEST_WEIGHT
from cluster.ipvs.state import Backend, Service
from cluster.ipvs.traffic.document import profile_to_document
from cluster.ipvs.traffic.policy import Hours, Place, Profile
from cluster.ipvs.traffic.profile_rules import LONGEST_NAME, MOST_HOURS, hours_problems
from cluster.models import Cluster

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SPARE_ROWS = 2
_PARTS = ("days", "begins", "ends", "zone")


class ProfileForm(PanelForm):
    name = forms.CharField(max_length=LONGEST_NAME, help_text="Such as business hours, sale or night.")
    position = forms.IntegerField(
        label="Number",
        min_value=0,
        max_value=1000,
        initial=0,
        help_text="Of two profiles in their hours, that with the lower number counts.",
    )
    percent = forms.IntegerField(
        label="All weights, percent of the table",
        required=False,
        min_value=0,
        max_value=1000,
        widget=forms.NumberInput(attrs={"placeholder": "such as 50"}),
    )
    version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    def __init__(self, data: Any = None, *, cluster: Cluster, profile: Profile | None, **kwargs: Any) -> None:
        initial = (_initial(profile) if profile else {}) | kwargs.pop("initial", {})
        super().__init__(data, initial=initial, **kwargs)
        self.services = list(tables(cluster)[0])
        self.profile = profile
        rows = (len(profile.hours) if profile else 0) + SPARE_ROWS
        # Also the rows of a page that was opened when the profile had more.
        rows += sum(f"begins-{row}" in (data or {}) for row in range(rows, MOST_HOURS))
        self.rows = range(min(MOST_HOURS, rows))
        for service in self.services:
            for backend in service.backends:
                self.fields[weight_name((service.key, backend.key))] = _weight(service, backend)
        for row in self.rows:
            self.fields |= _hours_fields(row)

    @property
    def weight_rows(self) -> list[tuple[Service, list[tuple[Backend, forms.BoundField]]]]:
        """Each service with its backends and their fields."""
        return [
            (
                service,
                [(backend, self[weight_name((service.key, backend.key))]) for backend in service.backends],
            )
            for service in self.services
        ]

    @property
    def hours_rows(self) -> list[list[forms.BoundField]]:
        return [[self[f"{part}-{row}"] for part in _PARTS] for row in self.rows]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for row in self.rows:
            hours = self._hours(row)
            for problem in hours_problems(hours) if hours else ():
                self.add_error(f"{problem.field}-{row}", problem.text)
        return cleaned

    def said(self) -> ProfileFields:
        """The cleaned values as the actions take them. Weights of backends that are not on the page stay."""
        shown = {
            (service.key, backend.key): self.cleaned_data.get(weight_name((service.key, backend.key)))
            for service in self.services
            for backend in service.backends
        }
        kept = self.profile.weights if self.profile else {}
        weights = {place: weight for place, weight in kept.items() if place not in shown}
        weights |= {place: weight for place, weight in shown.items() if weight is not None}
        hours = tuple(found for row in self.rows if (found := self._hours(row)))
        document = profile_to_document(Profile(0, self.cleaned_data["name"], weights, hours))
        return ProfileFields(
            document["name"], document["weights"], document.get("hours", []), self.cleaned_data["position"]
        )

    def filled(self) -> dict[str, Any]:
        """What was typed, with each weight as so many percent of the table's."""
        typed = {name: self[name].value() for name in self.fields}
        percent = self.cleaned_data.get("percent")
        if percent is not None:
            for service in self.services:
                for backend in service.backends:
                    weight = min(LARGEST_WEIGHT, backend.weight * percent // 100)
                    # Little is not nothing: at 0 a backend gets no new connections at all.
                    least = int(backend.weight > 0 and percent > 0)
                    typed[weight_name((service.key, backend.key))] = max(least, weight)
        return typed

    def _hours(self, row: int) -> Hours | None:
        """The hours of a row; None for an empty one. Days are chosen last, so a zone alone says nothing."""
        days, begins, ends, zone = (self.cleaned_data.get(f"{part}-{row}") for part in _PARTS)
        if not days and not begins and not ends:
            return None
        return Hours(tuple(days or ()), begins or "", ends or "", zone or "UTC")


def weight_name(place: Place) -> str:
    """The name of a backend's field, which stays the same when others come and go."""
    return f"weight-{crc32(f'{place[0]} {place[1]}'.encode()):08x}"


def _weight(service: Service, backend: Backend) -> forms.IntegerField:
    label = f"Weight of {backend.key} in {service.key}"
    attrs = {"aria-label": label, "placeholder": str(backend.weight), "class": "form-control"}
    return forms.IntegerField(
        label=label,
        required=False,
        min_value=0,
        max_value=LARGEST_WEIGHT,
        widget=forms.NumberInput(attrs),
    )


def _hours_fields(row: int) -> dict[str, forms.Field]:
    text = {"class": "form-control", "autocomplete": "off"}
    clock = forms.TextInput({**text, "placeholder": "08:00"})
    days = forms.CheckboxSelectMultiple({"class": "form-check-input"})
    return {
        f"days-{row}": forms.TypedMultipleChoiceField(
            label="Days", required=False, coerce=int, choices=list(enumerate(DAYS)), widget=days
        ),
        f"begins-{row}": forms.CharField(label="From", required=False, max_length=5, widget=clock),
        f"ends-{row}": forms.CharField(label="To", required=False, max_length=5, widget=clock),
        f"zone-{row}": forms.CharField(
            label="Time zone",
            required=False,
            max_length=64,
            widget=forms.TextInput({**text, "placeholder": "UTC"}),
        ),
    }


def _initial(profile: Profile) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": profile.name}
    shown |= {weight_name(place): weight for place, weight in profile.weights.items()}
    for row, hours in enumerate(profile.hours):
        shown |= {f"{part}-{row}": getattr(hours, part) for part in _PARTS}
    return shown


def hours_words(hours: Hours) -> str:
    """`Mon-Fri 08:00 to 18:00 Europe/Berlin`."""
    days = sorted(hours.days)
    in_row = len(days) > 2 and days == list(range(days[0], days[-1] + 1))
    said = f"{DAYS[days[0]]}-{DAYS[days[-1]]}" if in_row else ", ".join(DAYS[day] for day in days)
    clock = "all day" if hours.begins == hours.ends else f"{hours.begins} to {hours.ends}"
    return f"{'Every day' if len(days) == 7 else said} {clock} {hours.zone}"
