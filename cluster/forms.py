"""Forms: they clean and convert. Rules are judged by the actions, and come back as field errors."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm, SetPasswordForm, UsernameField
from django.db.models import QuerySet

from cluster.actions import backends, clusters, services
from cluster.fields import AddressField, PanelForm, ReasonForm, port_field, weight_field
from cluster.ipvs.formats import kinds
from cluster.models import Backend, Cluster, VirtualService


class ClusterForm(PanelForm):
    name = forms.CharField(max_length=64, help_text="What your team calls it, such as web or dns.")
    description = forms.CharField(max_length=200, required=False)
    approvals = forms.TypedChoiceField(
        label="Who has to approve a change",
        choices=Cluster.APPROVALS,
        coerce=int,
        initial=0,
        widget=forms.RadioSelect,
        help_text="Before it is applied. Never who edited the draft or asked. In an emergency an"
        " administrator sets this to nobody, which is written into the audit log. Drains and profiles need"
        " no approval.",
    )
    ticket_url = forms.CharField(
        label="Where a ticket is read",
        max_length=200,
        required=False,
        widget=forms.TextInput(attrs={"class": "mono", "autocomplete": "off", "spellcheck": "false"}),
        help_text="Such as https://tickets.example.net/browse/{ticket}. Empty: tickets are not linked.",
    )

    reason = forms.CharField(
        label="Reason",
        max_length=200,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text="Needed where fewer people than before have to approve. Kept in the audit log.",
    )
    version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    @classmethod
    def initial_of(cls, cluster: Cluster) -> dict[str, Any]:
        """What an edit form shows of a cluster."""
        return {name: getattr(cluster, name) for name in (*clusters.NAMES, "version")}

    def said(self) -> dict[str, Any]:
        """The cleaned values as the actions take them."""
        return {name: self.cleaned_data[name] for name in clusters.NAMES}

    def clean_ticket_url(self) -> str:
        said = str(self.cleaned_data["ticket_url"])
        if said and (not re.match(r"https?://[^/\s{}]+/", said) or said.count("{ticket}") != 1):
            raise forms.ValidationError(
                "Begin with https:// and a host, and write {ticket} once where the ticket's name belongs."
            )
        if re.search(r"[\s\"'<>\\]", said):
            raise forms.ValidationError("An address has no blanks, quotes or angle brackets.")
        return said


class ServiceForm(PanelForm):
    name = forms.CharField(
        max_length=64, required=False, help_text="For people; the kernel knows only the address."
    )
    protocol = forms.ChoiceField(choices=VirtualService.PROTOCOLS, initial="tcp")
    address = AddressField(
        label="Virtual address",
        help_text="The address that clients use, on an interface of the active director.",
    )
    port = port_field(lowest=0, help_text="0: every port.")
    mark = forms.IntegerField(
        label="Firewall mark",
        required=False,
        min_value=1,
        max_value=0xFFFFFFFF,
        help_text="Packets that iptables has marked with this number, instead of an address.",
    )
    family = forms.ChoiceField(
        label="Family of the mark", choices=[("4", "IPv4"), ("6", "IPv6")], initial="4", required=False
    )
    scheduler = forms.ChoiceField(
        choices=VirtualService.SCHEDULER_CHOICES,
        initial="rr",
        help_text="How the next backend is chosen.",
        error_messages={
            "invalid_choice": "Not every director of this cluster has a kernel module for “%(value)s”. Choose"
            " one of the list, or install the module there."
        },
    )
    persistence_s = forms.IntegerField(
        label="Persistence, seconds",
        required=False,
        min_value=1,
        max_value=31 * 86400,
        help_text="A client stays with its backend until this long after its last connection. Empty: off.",
    )
    persistence_prefix = forms.IntegerField(
        label="Clients share by prefix",
        required=False,
        min_value=1,
        max_value=128,
        help_text="24 keeps a whole /24 on one backend. Empty: each client alone.",
    )
    persistence_engine = forms.ChoiceField(
        label="Persistence by", required=False, choices=[("", "client address"), ("sip", "SIP call id")]
    )
    flags = forms.TypedMultipleChoiceField(
        label="Options",
        required=False,
        coerce=int,
        choices=[
            (4, "One packet: schedule each UDP packet anew"),
            (8, "flag-1: with sh and mh, fall back to another backend when the chosen one has weight 0"),
            (16, "flag-2: with sh and mh, hash the client's port as well"),
            (32, "flag-3"),
        ],
        widget=forms.CheckboxSelectMultiple,
    )
    version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    MORE = ("mark", "family", "persistence_s", "persistence_prefix", "persistence_engine", "flags")

    def __init__(self, *args: Any, cluster: Cluster, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        scheduler = self.fields["scheduler"]
        assert isinstance(scheduler, forms.ChoiceField)
        # What a service has already can be kept; the review tells where it does not work.
        offered = cluster.schedulers | {str(self.initial.get("scheduler", ""))}
        scheduler.choices = [choice for choice in VirtualService.SCHEDULER_CHOICES if choice[0] in offered]
        if missing := [name for name, _ in VirtualService.SCHEDULER_CHOICES if name not in offered]:
            scheduler.help_text += f" Not on every director of this cluster: {', '.join(missing)}."
        if self["protocol"].value() == "firewall-mark":
            self.fields["address"].required = self.fields["port"].required = False

    @classmethod
    def initial_of(cls, service: VirtualService) -> dict[str, Any]:
        """What an edit form shows of a service."""
        shown = {name: getattr(service, name) for name in (*services.NAMES, "version")}
        shown["flags"] = [bit for bit in (4, 8, 16, 32) if service.flags & bit]
        if service.is_marked:
            shown |= {"family": "6" if ":" in service.address else "4", "address": "", "port": None}
        return shown | ({} if service.mark else {"mark": None})

    @property
    def more_is_open(self) -> bool:
        """Whether the folded part holds something that is set or wrong."""
        shown = any(self[name].value() not in (None, "", [], "4") for name in self.MORE)
        return shown or any(name in self.errors for name in self.MORE)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("protocol") == "firewall-mark":
            if not cleaned.get("mark") and "mark" not in self.errors:
                self.add_error("mark", "Give the mark that iptables sets, from 1 on.")
            cleaned |= {"address": "::" if cleaned.get("family") == "6" else "0.0.0.0", "port": 0}
        else:
            cleaned["mark"] = 0
            longest = 128 if ":" in str(cleaned.get("address")) else 32
            if (cleaned.get("persistence_prefix") or 0) > longest:
                self.add_error("persistence_prefix", f"The prefix must be between 1 and {longest} here.")
        cleaned["flags"] = sum(cleaned.get("flags") or [])
        return cleaned

    def said(self) -> services.ServiceFields:
        """The cleaned values as the actions take them."""
        return services.ServiceFields(**{name: self.cleaned_data[name] for name in services.NAMES})


class BackendForm(PanelForm):
    name = forms.CharField(max_length=64, required=False, help_text="For people, such as the host's name.")
    address = AddressField(help_text="The backend's own address, reachable from the directors.")
    port = port_field(
        lowest=0,
        help_text="Only masquerade can use another port than the service. For a firewall mark or a service of"
        " every port, 0 keeps the client's.",
    )
    forwarding = forms.ChoiceField(
        choices=Backend.FORWARDINGS,
        initial="masquerade",
        widget=forms.RadioSelect,
        help_text="Masquerade: the director is the backend's gateway. Direct routing: the backend holds the"
        " virtual address on its loopback, with ARP suppressed, and answers the client itself. Tunnel: the"
        " same, through other networks.",
    )
    weight = weight_field()
    upper = forms.IntegerField(
        label="Upper threshold",
        required=False,
        min_value=0,
        max_value=0x7FFFFFFF,
        help_text="No new connections from this many on. 0: no limit.",
    )
    lower = forms.IntegerField(
        label="Lower threshold",
        required=False,
        min_value=0,
        max_value=0x7FFFFFFF,
        help_text="New ones again below this many. 0: below three quarters of the upper.",
    )
    tunnel = forms.ChoiceField(label="Encapsulation", choices=Backend.TUNNELS, initial="ipip", required=False)
    tunnel_port = forms.IntegerField(
        label="GUE port", required=False, min_value=0, max_value=65535, help_text="For GUE alone."
    )
    tunnel_checksum = forms.TypedChoiceField(
        label="Checksum of GUE and GRE", choices=Backend.CHECKSUMS, coerce=int, initial=0, required=False
    )
    version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    MORE = ("upper", "lower", "tunnel", "tunnel_port", "tunnel_checksum")

    @classmethod
    def initial_of(cls, backend: Backend) -> dict[str, Any]:
        """What an edit form shows of a backend."""
        return {name: getattr(backend, name) for name in (*backends.NAMES, "version")}

    @property
    def more_is_open(self) -> bool:
        """Whether the folded part holds something that is set or wrong."""
        shown = any(str(self[name].value() or "0") not in ("0", "ipip") for name in self.MORE)
        return (
            shown or any(name in self.errors for name in self.MORE) or self["forwarding"].value() == "tunnel"
        )

    def said(self) -> backends.BackendFields:
        """The cleaned values as the actions take them; nothing typed means none."""
        empty = {"upper": 0, "lower": 0, "tunnel": "ipip", "tunnel_port": 0, "tunnel_checksum": 0}
        given: dict[str, Any] = {name: self.cleaned_data[name] for name in backends.NAMES}
        given |= {name: value for name, value in empty.items() if given[name] in (None, "")}
        return backends.BackendFields(**given)


class WeightForm(PanelForm):
    weight = weight_field()
    version = forms.IntegerField(widget=forms.HiddenInput)

    @classmethod
    def initial_of(cls, backend: Backend) -> dict[str, Any]:
        """What the form shows of a backend."""
        return {"weight": backend.weight, "version": backend.version}


class ApplyForm(ReasonForm):
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


class ReleaseForm(ConfirmForm, ReasonForm):
    """A director leaves."""


class EnrolForm(ReasonForm):
    cluster = forms.ModelChoiceField(Cluster.objects.none(), empty_label="Choose a cluster")
    fingerprint = forms.CharField(max_length=64, widget=forms.HiddenInput)

    def __init__(self, *args: Any, clusters: QuerySet[Cluster], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["cluster"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = clusters


class SignInForm(AuthenticationForm):
    """Django's, which does not look at the length; what counts failures could not store a longer name."""

    username = UsernameField(
        max_length=150, error_messages={"max_length": "No user name has more than 150 letters."}
    )
    error_messages = AuthenticationForm.error_messages | {
        "invalid_login": "No account has this user name and password. Small and capital letters differ."
    }


class OwnPasswordForm(PasswordChangeForm):
    """Django's, in the panel's clothes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs["class"] = "form-control"


class FirstPasswordForm(SetPasswordForm):  # type: ignore[type-arg]  # generic in its stubs alone
    """Django's, in the panel's clothes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs["class"] = "form-control"


class ImportForm(PanelForm):
    KINDS = [("guess", "Recognise it"), *((kind, one.title) for kind, one in kinds.FORMATS.items())]

    kind = forms.ChoiceField(label="Format", choices=KINDS, initial="guess")
    text = forms.CharField(
        label="Text",
        required=False,
        max_length=900_000,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 14, "class": "mono", "spellcheck": "false"}),
        help_text="For example the output of ipvsadm-save -n, or keepalived.conf.",
    )
    file = forms.FileField(label="Or a file", required=False)
    replace = forms.BooleanField(
        label="Remove services of the draft that it does not name",
        required=False,
    )
    seen = forms.CharField(max_length=64, required=False, widget=forms.HiddenInput)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if given := cleaned.get("file"):
            if given.size > 900_000:
                self.add_error("file", "The file is larger than 900 kB.")
            else:
                try:
                    cleaned["text"] = given.read().decode()
                except UnicodeDecodeError:
                    self.add_error("file", "The file is not UTF-8 text.")
        elif not cleaned.get("text", "").strip():
            self.add_error("text", "Paste a text or choose a file.")
        if cleaned.get("kind") == "guess" and not self.errors:
            cleaned["kind"] = kinds.guess(cleaned["text"])
            if cleaned["kind"] is None:
                self.add_error("kind", "The format was not recognised. Choose it.")
        return cleaned


class AdoptForm(PanelForm):
    services = forms.CharField(widget=forms.MultipleHiddenInput, required=False)
    seen = forms.CharField(max_length=64, widget=forms.HiddenInput)

    def clean_services(self) -> list[str]:
        """The ticked checkboxes; which of them exist is for the table to say."""
        assert hasattr(self.data, "getlist")
        ticked = [str(value) for value in self.data.getlist("services")]
        if not ticked:
            self.add_error(None, "Tick at least one service.")
        return ticked
