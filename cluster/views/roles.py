"""Groups, and the roles themselves: the built-in ones as a table, others made, edited and removed."""

from collections.abc import Sequence

from django.contrib import messages
from django.contrib.auth.models import Group, User
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from cluster import access
from cluster.actions import roles
from cluster.actions.problems import Changed, Rejected
from cluster.http import OperatorRequest, actor
from cluster.models import CustomRole
from cluster.people_forms import CustomRoleForm, GroupForm, MemberForm, RoleForm
from cluster.permissions import BUILT_IN, PERMISSIONS, closed, permissions_of
from cluster.three_way import opened
from cluster.views.people import noted


@require_GET
def group_list(request: OperatorRequest) -> HttpResponse:
    access.require(request, "audit", what="groups")
    groups = Group.objects.order_by("name").prefetch_related(
        "user_set", "role_bindings__cluster", "role_bindings__custom"
    )
    return render(request, "cluster/group_list.html", {"groups": groups})


@require_http_methods(["GET", "POST"])
def group_new(request: OperatorRequest) -> HttpResponse:
    access.require(request, "administer", what="new group")
    form = GroupForm(request.POST or None)
    if form.is_valid():
        try:
            group = roles.add_group(form.cleaned_data["name"], by=actor(request))
            messages.success(request, f"{group} is made. Give it roles and members.")
            return redirect("group-detail", group.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    context = {"form": form, "title": "Add group", "submit": "Add"}
    return render(request, "cluster/group_form.html", context)


@require_GET
def group_detail(request: OperatorRequest, pk: int) -> HttpResponse:
    access.require(request, "audit", what="a group")
    return _group_page(request, get_object_or_404(Group, pk=pk))


@require_http_methods(["GET", "POST"])
def group_remove(request: OperatorRequest, pk: int) -> HttpResponse:
    access.require(request, "administer", what="remove a group")
    group = get_object_or_404(Group, pk=pk)
    if request.method == "POST":
        try:
            with noted(request):
                roles.remove_group(group, by=actor(request))
            messages.success(request, f"The group {group} is removed.")
            return redirect("group-list")
        except Rejected as rejected:
            messages.error(request, str(rejected))
            return redirect("group-detail", pk)
    context = {"group": group, "members": group.user_set.order_by("username"), "bindings": _bindings(group)}
    return render(request, "cluster/group_remove.html", context)


@require_http_methods(["GET", "POST"])
def group_give_role(request: OperatorRequest, pk: int) -> HttpResponse:
    access.require(request, "administer", what="give a role to a group")
    group = get_object_or_404(Group, pk=pk)
    form = RoleForm(request.POST or None)
    if form.is_valid():
        try:
            with noted(request):
                roles.give_role(group, **form.cleaned_data, by=actor(request))
            messages.success(request, f"The members of {group} have the role from their next click on.")
            return redirect("group-detail", group.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    context = {"form": form, "group": group, "title": f"Role for {group}", "submit": "Give the role"}
    return render(request, "cluster/group_form.html", context)


@require_POST
def group_add_member(request: OperatorRequest, pk: int) -> HttpResponse:
    access.require(request, "administer", what="add a member")
    group = get_object_or_404(Group, pk=pk)
    form = MemberForm(request.POST, group=group)
    if form.is_valid():
        try:
            user = form.cleaned_data["person"]
            with noted(request):
                roles.add_member(group, user, by=actor(request))
            messages.success(request, f"{user} is a member of {group} from the next click on.")
            return redirect("group-detail", group.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    return _group_page(request, group, form)


@require_POST
def group_remove_member(request: OperatorRequest, pk: int, user_pk: int) -> HttpResponse:
    access.require(request, "administer", what="remove a member")
    group, user = get_object_or_404(Group, pk=pk), get_object_or_404(User, pk=user_pk)
    try:
        with noted(request):
            roles.remove_member(group, user, by=actor(request))
        messages.success(request, f"{user} is no longer a member of {group}.")
    except Rejected as rejected:
        messages.error(request, str(rejected))
    return redirect("group-detail", group.pk)


@require_GET
def role_list(request: OperatorRequest) -> HttpResponse:
    """Every role and every permission as one table."""
    access.require(request, "audit", what="roles")
    own = list(CustomRole.objects.prefetch_related("role_bindings"))
    columns = [*BUILT_IN.items(), *((role.name, permissions_of(role)) for role in own)]
    context = {
        "names": [name for name, _ in columns],
        "rows": [(name, words, [name in held for _, held in columns]) for name, words in PERMISSIONS.items()],
        "own": [(role, closed(permissions_of(role))) for role in own],
    }
    return render(request, "cluster/role_list.html", context)


@require_http_methods(["GET", "POST"])
def role_new(request: OperatorRequest) -> HttpResponse:
    access.require(request, "administer", what="new role")
    form = CustomRoleForm(request.POST or None)
    if form.is_valid():
        said = form.cleaned_data
        try:
            with noted(request):
                role = roles.add_role(
                    name=said["name"],
                    description=said["description"],
                    permissions=said["permissions"],
                    by=actor(request),
                )
            messages.success(request, f"The role {role} is made. Nobody has it yet.")
            return redirect("role-list")
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/role_form.html", {"form": form})


@require_http_methods(["GET", "POST"])
def role_edit(request: OperatorRequest, pk: int) -> HttpResponse:
    """First what the change would do, then the change: nobody's rights move unseen."""
    access.require(request, "administer", what="edit a role")
    role = get_object_or_404(CustomRole, pk=pk)
    before = permissions_of(role)
    initial = {"description": role.description, "permissions": closed(before), "version": role.version}
    shown = opened(request, role, lambda data: CustomRoleForm(data, role=role, initial=initial))
    form, context = shown.form, {"form": shown.form, "opened": shown, "role": role}
    if shown.may_save and form.is_valid():
        after = closed(form.cleaned_data["permissions"])
        seen = f"{role.version} {' '.join(after)}"
        if form.cleaned_data["seen"] == seen or set(after) == before:
            said = {"description": form.cleaned_data["description"], "permissions": after}
            try:
                with noted(request):
                    roles.edit_role(role, **said, seen_version=shown.seen_version, by=actor(request))
                messages.success(request, f"The role {role} is changed, from everybody's next click on.")
                return redirect("role-list")
            except Changed:
                return role_edit(request, pk)
            except Rejected as rejected:
                form.add_problems(rejected)
        else:
            context |= {"seen": seen, **_consequences(role, before, after)}
    return render(request, "cluster/role_form.html", context)


def _consequences(role: CustomRole, before: frozenset[str], after: Sequence[str]) -> dict[str, object]:
    return {
        "gains": [name for name in after if name not in before],
        "loses": [name for name in closed(before) if name not in after],
        "people": roles.people_with(role),
        "bindings": role.role_bindings.select_related("user", "group", "cluster", "custom"),
    }


@require_http_methods(["GET", "POST"])
def role_remove(request: OperatorRequest, pk: int) -> HttpResponse:
    access.require(request, "administer", what="remove a role")
    role = get_object_or_404(CustomRole, pk=pk)
    if request.method == "POST":
        try:
            with noted(request):
                roles.remove_role(role, by=actor(request))
            messages.success(request, f"The role {role} is removed.")
        except Rejected as rejected:
            messages.error(request, str(rejected))
        return redirect("role-list")
    context = {
        "role": role,
        "people": roles.people_with(role),
        "bindings": role.role_bindings.select_related("user", "group", "cluster", "custom"),
    }
    return render(request, "cluster/role_remove.html", context)


def _group_page(request: OperatorRequest, group: Group, form: MemberForm | None = None) -> HttpResponse:
    context = {
        "group": group,
        "members": group.user_set.order_by("username"),
        "bindings": _bindings(group),
        "form": form or MemberForm(group=group),
    }
    return render(request, "cluster/group_detail.html", context)


def _bindings(group: Group) -> object:
    return group.role_bindings.select_related("group", "cluster", "custom")
