"""Forms: they clean and convert. Rules are judged by the actions, and come back as field errors."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.forms import PasswordChangeForm
from django.db.models import QuerySet
from django.forms.renderers import TemplatesSetting

from cluster.actions.problems import Rejected
from cluster.ipvs.rules import LARGEST_WEIGHT
from cluster.ipvs.state import canonical_address
from cluster.models import Backend, Cluster, Role, VirtualService


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
            return canonical_address(text)
        except ValueError:
            raise forms.ValidationError(
                f"“{text}” is not an IP address. Write it like 192.168.50.10 or fd00:50::10."
            ) from None


def _port(label: str = "Port", **kwargs: Any) -> forms.IntegerField:
    message = "The port must be between 1 and 65535."
    return forms.IntegerField(
        label=label,
        min_value=1,
        max_value=65535,
        error_messages={
            "invalid": "The port must be a whole number.",
            "min_value": message,
            "max_value": message,
        },
        **kwargs,
    )


def _weight() -> forms.IntegerField:
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


class ClusterForm(PanelForm):
    name = forms.CharField(max_length=64, help_text="What your team calls it, such as web or dns.")
    description = forms.CharField(max_length=200, required=False)


class ServiceForm(PanelForm):
    name = forms.CharField(
        max_length=64, required=False, help_text="For people; the kernel knows only the address."
    )
    protocol = forms.ChoiceField(choices=VirtualService.PROTOCOLS, initial="tcp")
    address = AddressField(
        label="Virtual address",
        help_text="The address that clients use, on an interface of the active director.",
    )
    port = _port()
    scheduler = forms.ChoiceField(
        choices=VirtualService.SCHEDULER_CHOICES,
        initial="rr",
        help_text="How the next backend is chosen. The review tells where the kernel module is missing.",
    )
    version = forms.IntegerField(widget=forms.HiddenInput, required=False)


class BackendForm(PanelForm):
    name = forms.CharField(max_length=64, required=False, help_text="For people, such as the host's name.")
    address = AddressField(help_text="The backend's own address, reachable from the directors.")
    port = _port(help_text="Direct routing cannot change it; masquerade can.")
    forwarding = forms.ChoiceField(
        choices=Backend.FORWARDINGS,
        initial="masquerade",
        widget=forms.RadioSelect,
        help_text="Masquerade: the director is the backend's gateway. Direct routing: the backend holds the"
        " virtual address on its loopback, with ARP suppressed, and answers the client itself.",
    )
    weight = _weight()
    version = forms.IntegerField(widget=forms.HiddenInput, required=False)


class WeightForm(PanelForm):
    weight = _weight()
    version = forms.IntegerField(widget=forms.HiddenInput)


class ApplyForm(PanelForm):
    reason = forms.CharField(
        max_length=200,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text="Why; for the audit log and for whoever reads it at night.",
    )
    seen = forms.CharField(max_length=64, widget=forms.HiddenInput)


class ConfirmForm(PanelForm):
    """A removal that wants the name typed."""

    confirm = forms.CharField(max_length=200)

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected

    def clean_confirm(self) -> str:
        typed = str(self.cleaned_data["confirm"])
        if typed.strip() != self.expected:
            raise forms.ValidationError(f"Type {self.expected} exactly. Nothing was removed.")
        return typed


class EnrolForm(PanelForm):
    cluster = forms.ModelChoiceField(Cluster.objects.none(), empty_label="Choose a cluster")
    fingerprint = forms.CharField(max_length=64, widget=forms.HiddenInput)

    def __init__(self, *args: Any, clusters: QuerySet[Cluster], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["cluster"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = clusters


class RoleForm(PanelForm):
    role = forms.ChoiceField(choices=Role.choices, initial=Role.VIEWER)
    cluster = forms.ModelChoiceField(
        Cluster.objects.all(),
        required=False,
        empty_label="All clusters",
        help_text="Where the role counts. Clusters and people are administered from “All clusters”.",
    )


class PersonForm(RoleForm):
    username = forms.RegexField(
        r"^[A-Za-z0-9._@-]+$",
        max_length=150,
        label="User name",
        error_messages={"invalid": "Use letters, digits and . _ @ - only."},
    )
    field_order = ["username", "role", "cluster"]


class TokenForm(PanelForm):
    name = forms.CharField(
        max_length=64, label="Token name", help_text="What will use it, such as nightly-report."
    )


class OwnPasswordForm(PasswordChangeForm):
    """Django's, in the panel's clothes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs["class"] = "form-control"
