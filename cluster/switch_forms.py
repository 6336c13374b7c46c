"""The forms that say which switches of the kernel a cluster's directors are to have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms

from cluster.fields import PanelForm
from cluster.forms import ClusterForm
from cluster.ipvs import tuning
from cluster.ipvs.impact import EXPIRE_NODEST
from cluster.ipvs.tuning import KNOWN, OF_DRAINS, Known
from cluster.models import Cluster
from cluster.review import sysctls_of

LEAVE = "leave as it is"
# A switch of so few values is chosen; any other is typed.
MOST_CHOICES = 4


class NewClusterForm(ClusterForm):
    """A cluster with the one switch that nearly every one wants set."""

    expire_nodest_conn = forms.ChoiceField(
        label="A client whose backend is drained, removed or dead",
        choices=[
            ("1", "gets another backend at its next connection: set net.ipv4.vs.expire_nodest_conn to 1"),
            ("leave", "is treated as each director does now: leave the switch as it is"),
        ],
        initial="1",
        widget=forms.RadioSelect,
        help_text="With direct routing and tunnels a director sees no answers, and remembers closed"
        " connections for up to two minutes. By the kernel's default, 0, a client that connects again from"
        " the same port in that time still goes to the old backend, and its request is lost. It can be"
        " changed later, with all other switches.",
    )

    def said(self) -> dict[str, Any]:
        """What the action takes."""
        is_to_be_set = self.cleaned_data[EXPIRE_NODEST] == "1"
        return {
            "name": self.cleaned_data["name"],
            "description": self.cleaned_data["description"],
            "switches": {EXPIRE_NODEST: "1"} if is_to_be_set else {},
        }


@dataclass(frozen=True)
class SwitchRow:
    """A switch on the page: its field, what is known of it, and which directors have which value now."""

    field: forms.BoundField
    known: Known
    held: list[tuple[str, list[str]]]


class SwitchesForm(PanelForm):
    """A field for each switch that is known, empty for one that is left as it is."""

    version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, cluster: Cluster, **kwargs: Any) -> None:
        wanted: Mapping[str, str] = cluster.switches
        super().__init__(*args, initial={**wanted, "version": cluster.version}, **kwargs)
        self.wanted = wanted
        self._held = {one.name: sysctls_of(one) for one in cluster.directors.all()}
        for name, known in KNOWN.items():
            self.fields[name] = _field(name, known)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name, text in tuning.switch_problems(self._said(cleaned)).items():
            self.add_error(name, text)
        return cleaned

    def said(self) -> dict[str, str]:
        """The switches that are to be set, by name. What the panel does not know, because a newer one set it,
        stays as it was."""
        strange = {name: value for name, value in self.wanted.items() if name not in KNOWN}
        return strange | self._said(self.cleaned_data)

    @property
    def of_drains(self) -> list[SwitchRow]:
        return list(self._rows(name for name in OF_DRAINS))

    @property
    def others(self) -> list[SwitchRow]:
        return list(self._rows(name for name in KNOWN if name not in OF_DRAINS))

    @property
    def others_are_open(self) -> bool:
        """Whether somebody should see them at once: one is set, or is wrong."""
        return any(row.field.value() or row.field.errors for row in self.others)

    @staticmethod
    def _said(cleaned: Mapping[str, Any]) -> dict[str, str]:
        return {name: tuning.canonical_value(cleaned[name]) for name in KNOWN if cleaned.get(name)}

    def _rows(self, names: Iterator[str]) -> Iterator[SwitchRow]:
        for name in names:
            held: dict[str, list[str]] = {}
            for director, sysctls in self._held.items():
                if name in sysctls:
                    held.setdefault(sysctls[name], []).append(director)
            yield SwitchRow(self[name], KNOWN[name], sorted(held.items()))


def _field(name: str, known: Known) -> forms.Field:
    if known.numbers == 1 and known.most - known.least < MOST_CHOICES:
        values = [str(value) for value in range(known.least, known.most + 1)]
        choices = [("", LEAVE), *((value, value) for value in values)]
        wrong = {"invalid_choice": f"{name} must be a whole number from {known.least} to {known.most}."}
        widget = forms.Select(attrs={"class": "form-select"})
        return forms.ChoiceField(
            label=name, choices=choices, required=False, error_messages=wrong, widget=widget
        )
    attrs = {"class": "form-control", "placeholder": LEAVE, "autocomplete": "off", "spellcheck": "false"}
    return forms.CharField(
        label=name, required=False, max_length=tuning.LONGEST_VALUE, widget=forms.TextInput(attrs=attrs)
    )
