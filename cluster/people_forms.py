"""The forms of people, service accounts, groups, roles and API tokens."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import Group, User

from cluster.actions.tokens import MOST_DAYS
from cluster.fields import PanelForm
from cluster.models import Cluster, CustomRole, Role
from cluster.permissions import PERMISSIONS, AnyRole, grants_of

USERNAME = r"^[A-Za-z0-9._@-]+$"
_BAD_NAME = "Use letters, digits and . _ @ - only."


class RoleForm(PanelForm):
    """Which role, and where."""

    role = forms.ChoiceField(initial=Role.VIEWER)
    cluster = forms.ModelChoiceField(
        Cluster.objects.order_by("name"),
        required=False,
        empty_label="All clusters",
        help_text="Where the role counts. Clusters and people are administered from “All clusters”.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.own = {f"custom-{role.pk}": role for role in CustomRole.objects.all()}
        field = self.fields["role"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [*Role.choices, *((key, role.name) for key, role in self.own.items())]

    def clean_role(self) -> AnyRole:
        chosen: str = self.cleaned_data["role"]
        return self.own.get(chosen, chosen)


class PersonForm(RoleForm):
    username = forms.RegexField(
        USERNAME, max_length=150, label="User name", error_messages={"invalid": _BAD_NAME}
    )
    field_order = ["username", "role", "cluster"]


class ResetForm(PanelForm):
    forget_second_factor = forms.BooleanField(
        label="Forget the second factor as well",
        required=False,
        help_text="For whoever has lost app or key, and the recovery codes too. Make sure that it is them.",
    )


class ServiceAccountForm(PanelForm):
    username = forms.RegexField(
        USERNAME,
        max_length=150,
        label="Name",
        help_text="What the program is called in the audit log, such as deploy-bot.",
        error_messages={"invalid": _BAD_NAME},
    )
    purpose = forms.CharField(max_length=200, help_text="What it is for, and who answers for it.")


class GroupForm(PanelForm):
    name = forms.CharField(
        max_length=100, help_text="Such as night shift, or the name it has in your directory."
    )


class MemberForm(PanelForm):
    person = forms.ModelChoiceField(User.objects.none(), empty_label="Choose")

    def __init__(self, *args: Any, group: Group, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["person"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = User.objects.exclude(groups=group).order_by("username")


class _PermissionsForm(PanelForm):
    permissions = forms.MultipleChoiceField(
        choices=[(name, f"{name}: {words}") for name, words in PERMISSIONS.items()],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one permission."},
    )


class CustomRoleForm(_PermissionsForm):
    """`seen` is what the page has shown the consequences of, by the version that they begin at."""

    name = forms.CharField(max_length=32, help_text="It stays; make another role for another name.")
    description = forms.CharField(max_length=200, required=False)
    seen = forms.CharField(required=False, widget=forms.HiddenInput)
    version = forms.IntegerField(required=False, widget=forms.HiddenInput)
    field_order = ["name", "description", "permissions", "seen", "version"]

    def __init__(self, *args: Any, role: CustomRole | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["permissions"].help_text = "Every role holds “view”, and “administer” holds “audit”."
        if role is not None:
            del self.fields["name"]


class TokenForm(_PermissionsForm):
    name = forms.CharField(
        max_length=64, label="Token name", help_text="What will use it, such as nightly-report."
    )
    cluster = forms.ModelChoiceField(
        Cluster.objects.none(),
        required=False,
        empty_label="All clusters",
        help_text="It reaches no further, whatever else its owner may see.",
    )
    days = forms.IntegerField(
        label="Lasts, days",
        initial=90,
        min_value=1,
        max_value=MOST_DAYS,
        help_text=f"At most {MOST_DAYS}. Make a new token before the old one ends.",
    )
    field_order = ["name", "permissions", "cluster", "days"]

    def __init__(self, *args: Any, owner: User, **kwargs: Any) -> None:
        kwargs.setdefault("initial", {"permissions": ["view"]})
        super().__init__(*args, **kwargs)
        given = grants_of(owner).given
        held = frozenset[str]().union(*(one.permissions for one in given))
        places = {one.cluster_id for one in given}
        permissions, cluster = self.fields["permissions"], self.fields["cluster"]
        permissions.help_text = f"Never more than {owner} can at the time: what a role loses, this does."
        permissions.help_text += " The API only reads so far, which needs no more than “view”."
        assert isinstance(permissions, forms.MultipleChoiceField)
        assert isinstance(cluster, forms.ModelChoiceField)
        permissions.choices = [
            (name, f"{name}: {words}") for name, words in PERMISSIONS.items() if name in held
        ]
        everywhere = None in places
        clusters = Cluster.objects.order_by("name")
        cluster.queryset = clusters if everywhere else clusters.filter(pk__in=[one for one in places if one])
        if not everywhere:
            cluster.empty_label = "All clusters of its owner"
