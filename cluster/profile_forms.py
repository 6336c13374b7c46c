"""The form of a weight profile: weights of any number of backends, and some rows of hours."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from django import forms

from cluster.actions.profiles import ProfileFields, tables
from cluster.fields import ReasonForm
from cluster.ipvs.rules import LARGEST_WEIGHT
from cluster.ipvs.state import Backend, Service
from cluster.ipvs.traffic.document import profile_to_document
from cluster.ipvs.traffic.policy import Hours, Place, Profile
from cluster.ipvs.traffic.profile_rules import LONGEST_NAME, MOST_HOURS, hours_problems
from cluster.models import Cluster

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SPARE_ROWS = 2
# Of backends, with a field each: far below the 1,000 fields that Django takes.
MOST_SHOWN = 200
MOST_PERCENT = 1000
MOST_WEIGHTS = 20_000
# Each takes 19 letters at most.
LONGEST_KEPT = 20 * MOST_WEIGHTS
DAMAGED = "The weights of the backends that are not shown were damaged on the way. Open the form again."
# Buttons that send nothing to the directors.
_WITHOUT_REASON = ("find-now", "fill", "show")
_PARTS = ("days", "begins", "ends", "zone")


class ProfileForm(ReasonForm):
    """Some backends have a field each: those that are looked for, MOST_SHOWN at most, because Django takes no
    form with thousands of fields. The weights of all others go along in `kept`."""

    name = forms.CharField(max_length=LONGEST_NAME, help_text="Such as business hours, sale or night.")
    position = forms.IntegerField(
        label="Number",
        min_value=0,
        max_value=1000,
        initial=0,
        help_text="Of two profiles in their hours, that with the lower number counts.",
    )
    find = forms.CharField(
        label="Backends",
        required=False,
        max_length=100,
        widget=forms.TextInput({"placeholder": "all", "autocomplete": "off", "spellcheck": "false"}),
        help_text="Parts of the service's or backend's address, such as 192.168.50.10:80.",
    )
    only_set = forms.BooleanField(label="Only those with a weight in this profile", required=False)
    set_to = forms.CharField(
        label="Set all of them to",
        required=False,
        max_length=6,
        widget=forms.TextInput({"placeholder": "such as 50%", "autocomplete": "off"}),
        help_text="A weight, or percent of the table's. Empty: as in the table.",
    )
    kept = forms.CharField(required=False, max_length=LONGEST_KEPT, widget=forms.HiddenInput)
    version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    def __init__(self, data: Any = None, *, cluster: Cluster, profile: Profile | None, **kwargs: Any) -> None:
        self.services = list(tables(cluster)[0])
        self.profile = profile
        self.known = {
            weight_name((service.key, backend.key)): (service, backend)
            for service in self.services
            for backend in service.backends
        }
        initial = (_initial(profile) if profile else {}) | kwargs.pop("initial", {})
        # Of thousands, an operator who edits a profile wants to see those that it is about.
        initial.setdefault("only_set", bool(profile and profile.weights and len(self.known) > MOST_SHOWN))
        weights = {
            name: weight for name, weight in _read(initial.get("kept", "")).items() if name in self.known
        }
        self.found = self._find(initial, weights)
        # A form that comes back has the fields that it went out with.
        self.shown = [name for name in self.known if name in data] if data else self.found[:MOST_SHOWN]
        super().__init__(data, initial=initial | weights, **kwargs)
        # To look for others, or at what it would change, needs none yet.
        self.fields["reason"].required = not any(name in (data or {}) for name in _WITHOUT_REASON)
        rows = (len(profile.hours) if profile else 0) + SPARE_ROWS
        # Also the rows of a page that was opened when the profile had more.
        rows += sum(f"begins-{row}" in (data or {}) for row in range(rows, MOST_HOURS))
        self.rows = range(min(MOST_HOURS, rows))
        self.fields |= {name: _weight(*self.known[name]) for name in self.shown}
        for row in self.rows:
            self.fields |= _hours_fields(row)

    @property
    def weight_rows(self) -> list[tuple[Service, list[tuple[Backend, forms.BoundField]]]]:
        """Each service that has a backend shown, with these and their fields."""
        rows: dict[int, tuple[Service, list[tuple[Backend, forms.BoundField]]]] = {}
        for name in self.shown:
            service, backend = self.known[name]
            rows.setdefault(id(service), (service, []))[1].append((backend, self[name]))
        return list(rows.values())

    @property
    def hours_rows(self) -> list[list[forms.BoundField]]:
        return [[self[f"{part}-{row}"] for part in _PARTS] for row in self.rows]

    def clean_kept(self) -> dict[str, int]:
        try:
            return _read(self.cleaned_data["kept"])
        except ValueError:
            raise forms.ValidationError(DAMAGED) from None

    def clean_set_to(self) -> str:
        said = str(self.cleaned_data["set_to"]).replace(" ", "")
        number, most = said.removesuffix("%"), MOST_PERCENT if said.endswith("%") else LARGEST_WEIGHT
        if said and not (number.isascii() and number.isdigit() and int(number) <= most):
            raise forms.ValidationError(
                f"Write a weight of at most {LARGEST_WEIGHT}, or percent of at most {MOST_PERCENT}%."
            )
        return said

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "kept" in self.errors:
            # Of a hidden field nobody would see it.
            self.add_error(None, DAMAGED)
        for row in self.rows:
            hours = self._hours(row)
            for problem in hours_problems(hours) if hours else ():
                self.add_error(f"{problem.field}-{row}", problem.text)
        return cleaned

    @property
    def can_go_on(self) -> bool:
        """Whether others can be shown or set: a name or hours may still be missing."""
        return not self.errors.keys() & {"__all__", "find", "set_to", *self.shown}

    def said(self) -> ProfileFields:
        """The cleaned values as the actions take them. Weights of backends that are in the table no more
        stay."""
        places = {name: (service.key, backend.key) for name, (service, backend) in self.known.items()}
        weights = dict(self.profile.weights) if self.profile else {}
        weights = {place: weight for place, weight in weights.items() if weight_name(place) not in places}
        weights |= {places[name]: weight for name, weight in self._weights().items() if name in places}
        hours = tuple(found for row in self.rows if (found := self._hours(row)))
        document = profile_to_document(Profile(0, self.cleaned_data["name"], weights, hours))
        return ProfileFields(
            document["name"], document["weights"], document.get("hours", []), self.cleaned_data["position"]
        )

    def typed(self, *, fill: bool = False) -> dict[str, Any] | None:
        """What was typed, for a form that shows the backends that are looked for now; with `fill` all of them
        set as was asked, also those that there is no room to show. None, with an error, where these are more
        than a profile can have."""
        typed = {name: self[name].value() for name in self.fields if name not in self.known}
        weights, to = self._weights(), self.cleaned_data["set_to"]
        for name in self._find(typed, weights) if fill else ():
            weights.pop(name, None)
            if to:
                weights[name] = _set_to(to, self.known[name][1])
        if len(weights) > MOST_WEIGHTS:
            text = f"A profile has weights for {MOST_WEIGHTS} backends at most, and this would be"
            self.add_error("set_to", f"{text} {len(weights)}. Look for fewer, or make a second profile.")
            return None
        return typed | {"kept": _written(weights)}

    def _weights(self) -> dict[str, int]:
        """By field, those of this form and those that went along."""
        weights = {**self.cleaned_data["kept"], **{name: self.cleaned_data[name] for name in self.shown}}
        return {name: weight for name, weight in weights.items() if weight is not None}

    def _find(self, asked: Mapping[str, Any], weights: Mapping[str, int]) -> list[str]:
        words = str(asked.get("find") or "").lower().split()
        return [
            name
            for name, (service, backend) in self.known.items()
            if (not asked.get("only_set") or name in weights)
            and (not words or all(word in f"{service.key} {backend.key}".lower() for word in words))
        ]

    def _hours(self, row: int) -> Hours | None:
        """The hours of a row; None for an empty one. Days are chosen last, so a zone alone says nothing."""
        days, begins, ends, zone = (self.cleaned_data.get(f"{part}-{row}") for part in _PARTS)
        if not days and not begins and not ends:
            return None
        return Hours(tuple(days or ()), begins or "", ends or "", zone or "UTC")


def weight_name(place: Place) -> str:
    """The name of a backend's field, which stays the same when others come and go."""
    return f"weight-{sha256(f'{place[0]} {place[1]}'.encode()).hexdigest()[:12]}"


def _written(weights: Mapping[str, int]) -> str:
    """Weights by field in one short text."""
    return " ".join(f"{name.removeprefix('weight-')}={weight}" for name, weight in weights.items())


def _read(text: str) -> dict[str, int]:
    """What `_written` wrote; ValueError for anything else."""
    weights = {}
    for entry in text.split():
        name, _, weight = entry.partition("=")
        if not weight.isascii() or not 0 <= int(weight) <= LARGEST_WEIGHT:
            raise ValueError(entry)
        weights[f"weight-{name}"] = int(weight)
    return weights


def _set_to(said: str, backend: Backend) -> int:
    """A weight, or so many percent of the backend's own."""
    if not said.endswith("%"):
        return int(said)
    percent = int(said.removesuffix("%"))
    # Little is not nothing: at 0 a backend gets no new connections at all.
    least = int(backend.weight > 0 and percent > 0)
    return max(least, min(LARGEST_WEIGHT, backend.weight * percent // 100))


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
    shown["kept"] = _written({weight_name(place): weight for place, weight in profile.weights.items()})
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
