"""The forms of change control beside Apply: an answer to a change request, a tag for a revision."""

from __future__ import annotations

from django import forms

from cluster.fields import PanelForm


class TagForm(PanelForm):
    name = forms.RegexField(
        r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=64,
        label="Tag",
        widget=forms.TextInput(attrs={"autocomplete": "off", "class": "mono"}),
        help_text="Such as before-the-move. One revision of the cluster has it at a time.",
        error_messages={"invalid": "Use letters, digits and . _ - only, and begin with a letter or a digit."},
    )


class AnswerForm(PanelForm):
    """What somebody says to a change request."""

    sentence = forms.CharField(
        label="In a sentence",
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text="What you looked at, or what is wrong. Kept with the request and in the audit log.",
        error_messages={"required": "Say in a sentence what you looked at, or what is wrong."},
    )
