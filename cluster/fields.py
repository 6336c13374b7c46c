"""What all forms are made of: their looks, the way back of what an action rejected, and our own fields."""

from __future__ import annotations

from typing import Any

from django import forms
from django.forms.renderers import TemplatesSetting

from cluster.actions.problems import NEEDS_REASON, Rejected
from cluster.ipvs.rules import LARGEST_WEIGHT
from cluster.ipvs.state import canonical_address


class Renderer(TemplatesSetting):
    """Fields look as templates/ui/_field.html says."""

    field_template_name = "ui/_field.html"


class PanelForm(forms.Form):
    """Gives widgets their classes, and takes what an action rejected as field errors."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            widget = field.widget
            if isinstance(widget, forms.CheckboxInput | forms.CheckboxSelectMultiple | forms.RadioSelect):
                css = "form-check-input"
            else:
                css = "form-select" if isinstance(widget, forms.Select) else "form-control"
            widget.attrs["class"] = f"{widget.attrs.get('class', '')} {css}".strip()

    def add_problems(self, rejected: Rejected) -> None:
        for problem in rejected.problems:
            self.add_error(problem.field if problem.field in self.fields else None, problem.text)


class ReasonForm(PanelForm):
    """Why, and where it was planned: in every form of what reaches the directors."""

    reason = forms.CharField(
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text="Why; for the audit log and for whoever reads it at night.",
        error_messages={"required": NEEDS_REASON},
    )
    ticket = forms.CharField(
        max_length=64,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "class": "mono"}),
        help_text="What it is called where your team plans its work.",
    )

    @property
    def why(self) -> dict[str, str]:
        """As the actions take it."""
        return {name: self.cleaned_data[name] for name in ("reason", "ticket")}


class AddressField(forms.CharField):
    """An IPv4 or IPv6 address in its canonical form."""

    def __init__(self, **kwargs: Any) -> None:
        attrs = {"class": "mono", "autocomplete": "off", "spellcheck": "false"}
        super().__init__(max_length=64, widget=forms.TextInput(attrs), **kwargs)

    def to_python(self, value: Any) -> str:
        text = super().to_python(value)
        if not text:
            return ""
        try:
            if text.lower().startswith("::ffff:") and "." in text:
                raise forms.ValidationError(f"Write {text[7:]} as the IPv4 address that it is.")
            return canonical_address(text)
        except ValueError:
            shown = text if len(text) <= 64 else text[:60] + "…"
            raise forms.ValidationError(
                f"“{shown}” is not an IP address. Write it like 192.168.50.10 or fd00:50::10."
            ) from None


def port_field(*, lowest: int = 1, **kwargs: Any) -> forms.IntegerField:
    """A port; with `lowest` 0, every port or the client's as well."""
    message = "The port must be between 1 and 65535."
    return forms.IntegerField(
        min_value=lowest,
        max_value=65535,
        error_messages={
            "invalid": "The port must be a whole number.",
            "min_value": message,
            "max_value": message,
        },
        **kwargs,
    )


def weight_field() -> forms.IntegerField:
    """A weight, as the kernel and the rules take it."""
    message = f"The weight must be between 0 and {LARGEST_WEIGHT}."
    return forms.IntegerField(
        min_value=0,
        max_value=LARGEST_WEIGHT,
        initial=1,
        help_text="Share of new connections under a weighted scheduler. 0 takes no new connections.",
        error_messages={
            "invalid": "The weight must be a whole number.",
            "min_value": message,
            "max_value": message,
        },
    )
