"""The forms of health policies: a check with the fields of every kind, and what else a policy says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar

from django import forms

from cluster.actions.policies import NEEDS_ADMINISTRATOR
from cluster.fields import AddressField, PanelForm, port_field
from cluster.ipvs import state
from cluster.ipvs.traffic.checks import LONGEST_TEXT, Check, CheckKind
from cluster.ipvs.traffic.loads import percent_in
from cluster.ipvs.traffic.policy import LoadRule, LoadSource, OnFailure, Policy

_KINDS = {
    CheckKind.TCP: "TCP: it accepts a connection",
    CheckKind.TLS: "TLS: it completes a handshake",
    CheckKind.HTTP: "HTTP: it answers a request",
    CheckKind.HTTPS: "HTTPS: it answers a request over TLS",
    CheckKind.UDP: "UDP: it answers a packet",
    CheckKind.DNS: "DNS: it answers a query",
    CheckKind.SMTP: "SMTP: it greets",
    CheckKind.PING: "Ping: the host answers",
    CheckKind.SCRIPT: "Script: a program on the directors decides",
}
_TLS = ("server_name", "verify", "expiry_days")
_HTTP = ("method", "path", "host", "statuses", "contains", "pattern", "most_bytes")
# The fields that belong to some kinds alone.
_OF_KIND: dict[CheckKind, tuple[str, ...]] = {
    CheckKind.TLS: _TLS,
    CheckKind.HTTP: _HTTP,
    CheckKind.HTTPS: (*_TLS, *_HTTP),
    CheckKind.UDP: ("payload", "expects"),
    CheckKind.DNS: ("query", "record", "answer"),
    CheckKind.SMTP: ("helo",),
    CheckKind.SCRIPT: ("script", "arguments"),
}
_OF_SOME_KIND = frozenset(name for names in _OF_KIND.values() for name in names)
_DEFAULTS = Check()
LONGEST_TRY = 10_000


def _text(**kwargs: Any) -> forms.CharField:
    attrs = {"class": "mono", "autocomplete": "off", "spellcheck": "false"}
    return forms.CharField(
        required=False, strip=False, max_length=LONGEST_TEXT, widget=forms.TextInput(attrs), **kwargs
    )


def _seconds(**kwargs: Any) -> forms.FloatField:
    widget = forms.NumberInput(attrs={"step": "any", "min": "0"})
    return forms.FloatField(required=False, widget=widget, **kwargs)


def _count(**kwargs: Any) -> forms.IntegerField:
    return forms.IntegerField(required=False, widget=forms.NumberInput(attrs={"min": "0"}), **kwargs)


class CheckForm(PanelForm):
    """A check. A field that is left empty is at its default, and so is one that the kind does not have."""

    kind = forms.ChoiceField(
        label="Check", required=False, widget=forms.Select(attrs={"data-choice-of-parts": ""})
    )
    port = port_field(lowest=0, required=False, help_text="Empty: the backend's own.")
    address = AddressField(
        label="Another address", required=False, help_text="Empty: the backend's own, which is what is meant."
    )
    through_service = forms.BooleanField(
        required=False,
        label="Through the service's address, as clients come",
        help_text="For direct routing and tunnels: notices a backend that lacks the virtual address.",
    )
    interval_s = _seconds(label="Every (seconds)")
    timeout_s = _seconds(label="Timeout (seconds)")
    retry_s = _seconds(label="After a failure (seconds)", help_text="Until the next try. 0: as usual.")
    fall = _count(label="Failures until down")
    rise = _count(label="Successes until up")
    server_name = _text(label="Server name", help_text="Sent as SNI, and what a certificate is verified for.")
    verify = forms.BooleanField(required=False, label="Verify the certificate")
    expiry_days = _count(label="Days to expiry", help_text="A certificate that ends sooner fails. 0: any.")
    method = forms.ChoiceField(required=False, choices=[(word, word) for word in ("GET", "HEAD", "OPTIONS")])
    path = _text(label="Path")
    host = _text(label="Host", help_text="The Host header. Empty: the address.")
    statuses = _text(
        label="Statuses that are well", help_text="Such as 200-299,301. No redirect is followed."
    )
    contains = _text(label="Body contains")
    pattern = _text(label="Body matches", help_text="A regular expression of Python.")
    most_bytes = _count(label="Read at most (bytes)")
    payload = _text(label="Send", help_text=r"May have \xNN, \r, \n and \t.")
    expects = _text(
        label="Answer begins with", help_text="Empty: any answer or none; a refusal alone is a failure."
    )
    query = _text(label="Ask for", help_text="A name, such as www.example.org.")
    record = forms.ChoiceField(
        required=False, choices=[(word, word) for word in ("A", "AAAA", "CNAME", "MX", "NS", "SOA", "TXT")]
    )
    answer = _text(label="Answer", help_text="Must be among those that come. Empty: any.")
    helo = _text(label="Say EHLO with", help_text="Empty: the director's own name.")
    script = _text(
        label="Script",
        help_text="A file in the directors' script directory; only a director knows whether it is there: try"
        " it. It ends with 0 where the backend is up.",
    )
    arguments = forms.CharField(
        label="Arguments",
        required=False,
        max_length=20 * LONGEST_TEXT,
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono", "spellcheck": "false"}),
        help_text="One a line. They reach the script as they are, through no shell.",
    )
    version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    NO_CHECK: ClassVar[tuple[str, str]] = ("", "None")
    # Of all fields: to say it at each would be noise.
    hides_optional = True

    def __init__(self, *args: Any, is_administrator: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        kind = self.fields["kind"]
        assert isinstance(kind, forms.ChoiceField)
        kind.choices = [self.NO_CHECK, *((str(word), text) for word, text in _KINDS.items())]
        if not is_administrator:
            self.fields["address"].disabled = True
            self.fields["address"].help_text = NEEDS_ADMINISTRATOR.split(",")[0] + "."

    @staticmethod
    def initial_of_check(check: Check | None) -> dict[str, Any]:
        """What the form shows of a check, or of none."""
        shown = {f.name: getattr(check or _DEFAULTS, f.name) for f in fields(Check)}
        shown |= {"kind": str(check.kind) if check else "", "port": shown["port"] or None}
        # 5.0 is written 5.
        shown |= {name: f"{shown[name]:g}" for name in ("interval_s", "timeout_s", "retry_s")}
        return shown | {"arguments": "\n".join(shown["arguments"])}

    @property
    def chosen_kind(self) -> str:
        """The kind that is shown as chosen; anything else that was posted is none."""
        kind = str(self["kind"].value() or "")
        return kind if kind in list(CheckKind) else ""

    def said_check(self) -> Check | None:
        """The cleaned values as a check."""
        if not self.cleaned_data.get("kind"):
            return None
        kind = CheckKind(self.cleaned_data["kind"])
        foreign = _OF_SOME_KIND - set(_OF_KIND.get(kind, ()))
        given: dict[str, Any] = {"kind": kind}
        for f in fields(Check):
            value = self.cleaned_data.get(f.name)
            if f.name != "kind" and f.name not in foreign and value not in (None, ""):
                given[f.name] = value
        if "arguments" in given:
            given["arguments"] = tuple(str(given["arguments"]).splitlines())
        return Check(**given)


class PolicyForm(CheckForm):
    """How a service treats its backends: its check, and what follows from it."""

    on_failure = forms.ChoiceField(
        label="A backend that is down",
        choices=[
            (str(OnFailure.WEIGHT), "gets weight 0: no new connections, open ones go on"),
            (str(OnFailure.REMOVE), "is taken out: its open connections end"),
        ],
        widget=forms.RadioSelect,
    )
    most_out_percent = _count(
        label="Taken out at most (percent)",
        help_text="Of the service's backends. When more fail at once it is rather the check, the network or"
        " the director.",
    )
    ramp_s = _count(
        label="Slow start (seconds)", help_text="One that comes back gets its weight bit by bit. 0: at once."
    )
    flap_changes = _count(
        label="Held down after changes", help_text="Up and down so often in the time beside. 0: never."
    )
    flap_window_s = _count(label="Within (seconds)")
    asks_others = forms.BooleanField(
        required=False,
        label="Directors vote",
        help_text="A backend is down where more than half of the directors that say something say so. Else"
        " each director trusts its own checks.",
    )
    sorry_address = AddressField(
        label="Sorry server",
        required=False,
        help_text="Serves while no backend can, for instance a page that says so.",
    )
    sorry_port = port_field(lowest=0, required=False)
    sorry_forwarding = forms.ChoiceField(
        label="Forwarding",
        required=False,
        choices=[("masquerade", "Masquerade (NAT)"), ("direct", "Direct routing"), ("tunnel", "Tunnel")],
    )
    load_source = forms.ChoiceField(
        label="Weights",
        required=False,
        choices=[
            ("", "No: weights stay as they are set"),
            (str(LoadSource.AGENT), "As an agent on each backend says: up, drain or 75%"),
            (str(LoadSource.CONNECTIONS), "By connections per weight, as the director counts them"),
        ],
    )
    load_port = port_field(lowest=0, required=False, label="Agent's port")
    load_path = _text(label="Agent's path")
    load_interval_s = _seconds(label="Every (seconds)")
    load_least_percent = _count(label="Least (percent of the weight)")
    load_most_percent = _count(label="Most (percent of the weight)")
    load_tried = forms.CharField(
        label="Try other answers",
        required=False,
        max_length=LONGEST_TRY,
        widget=forms.Textarea(attrs={"rows": 2, "class": "mono", "spellcheck": "false"}),
        help_text="For the button below alone, never saved. One a line: a backend and what its agent would"
        " say, such as 192.168.50.12:80 25%.",
    )

    NO_CHECK = ("", "None: every backend counts as up")
    _PLAIN = ("most_out_percent", "ramp_s", "flap_changes", "flap_window_s")
    _SORRY = ("sorry_address", "sorry_port", "sorry_forwarding")
    _LOAD = ("load_port", "load_path", "load_interval_s", "load_least_percent", "load_most_percent")

    def __init__(
        self,
        *args: Any,
        before: Policy,
        service: state.Service,
        names: Mapping[str, state.BackendKey],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, initial=kwargs.pop("initial", {}) | self.initial_of(before), **kwargs)
        self.before, self.service, self.names = before, service, names

    @classmethod
    def initial_of(cls, policy: Policy) -> dict[str, Any]:
        """What the form shows of a policy."""
        shown = cls.initial_of_check(policy.check)
        shown |= {name: getattr(policy, name) for name in (*cls._PLAIN, "asks_others")}
        load = policy.load or LoadRule()
        shown |= {name: getattr(load, name.removeprefix("load_")) for name in cls._LOAD}
        shown |= {"load_port": load.port or None, "load_interval_s": f"{load.interval_s:g}"}
        shown |= {
            "on_failure": str(policy.on_failure),
            "load_source": str(policy.load.source) if policy.load else "",
        }
        if policy.sorry:
            shown |= {"sorry_address": policy.sorry.address, "sorry_port": policy.sorry.port}
            shown |= {"sorry_forwarding": policy.sorry.forwarding.word}
        return shown

    @property
    def sorry_is_open(self) -> bool:
        """Whether the folded part holds something that is set or wrong."""
        return bool(self["sorry_address"].value()) or any(name in self.errors for name in self._SORRY)

    @property
    def load_is_open(self) -> bool:
        names = (*self._LOAD, "load_tried")
        return bool(self["load_source"].value()) or any(name in self.errors for name in names)

    def clean_load_tried(self) -> dict[state.BackendKey, int]:
        """Answers of agents in percent. A backend goes by its name, its address and port, or its address
        where no other has the same."""
        keys = [backend.key for backend in self.service.backends]
        addresses = Counter(key.address for key in keys)
        known = {key.address: key for key in keys if addresses[key.address] == 1}
        known |= {str(key): key for key in keys} | dict(self.names)
        said: dict[state.BackendKey, int] = {}
        if self.cleaned_data["load_tried"] and self.cleaned_data.get("load_source") == LoadSource.CONNECTIONS:
            raise forms.ValidationError("Connections are counted, no agent is asked. Leave this empty.")
        for line in filter(None, map(str.strip, self.cleaned_data["load_tried"].splitlines())):
            name, _, answer = line.rpartition(" ")
            shown, percent = line[:60], percent_in(answer)
            if name.strip() not in known:
                raise forms.ValidationError(
                    f"“{shown}” names no backend of this service. Write its address and port or its name, a"
                    " space, and the answer."
                )
            if percent is None:
                raise forms.ValidationError(f"“{shown}” has no answer of an agent: up, drain or 75%.")
            said[known[name.strip()]] = percent
        return said

    def said(self) -> Policy:
        """The cleaned values laid over the policy before, so that nothing is lost that no field shows."""
        said, defaults = self.cleaned_data, Policy()
        plain = {name: getattr(defaults, name) if said[name] is None else said[name] for name in self._PLAIN}
        return replace(
            self.before,
            **plain,
            check=self.said_check(),
            on_failure=OnFailure(said["on_failure"]),
            asks_others=said["asks_others"],
            sorry=self._said_sorry(),
            load=self._said_load(),
        )

    def _said_sorry(self) -> state.Backend | None:
        said = self.cleaned_data
        if not said["sorry_address"]:
            return None
        forwarding = state.Forwarding.from_word(said["sorry_forwarding"] or "masquerade")
        port = self.service.key.port if said["sorry_port"] is None else said["sorry_port"]
        before = self.before.sorry or state.Backend(said["sorry_address"], port)
        tunnel = (before.tunnel or state.Tunnel()) if forwarding is state.Forwarding.TUNNEL else None
        return before._replace(address=said["sorry_address"], port=port, forwarding=forwarding, tunnel=tunnel)

    def _said_load(self) -> LoadRule | None:
        said = self.cleaned_data
        if not said["load_source"]:
            return None
        given: dict[str, Any] = {name.removeprefix("load_"): said[name] for name in self._LOAD}
        given = {name: value for name, value in given.items() if value not in (None, "")}
        return LoadRule(LoadSource(said["load_source"]), **given)


class OverrideForm(CheckForm):
    """A backend's own check, or the service's."""

    NO_CHECK = ("", "The service's")
