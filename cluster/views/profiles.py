"""Weight profiles of a cluster: list, dry run, new, edit, remove, use now, stop using."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from cluster import access, desired
from cluster.actions import profiles
from cluster.actions.problems import Changed, Rejected
from cluster.dry_run import dry_run
from cluster.fields import ReasonForm
from cluster.http import OperatorRequest, actor
from cluster.ipvs.traffic.effective import next_switch, profile_at
from cluster.ipvs.traffic.policy import Profile
from cluster.models import Cluster, WeightProfile
from cluster.profile_forms import ProfileForm, hours_words
from cluster.three_way import opened
from cluster.views.asking import asked_again


@dataclass(frozen=True)
class Shown:
    """A profile as the list shows it."""

    row: WeightProfile
    state: str
    hours: list[str]
    backends: int


@require_GET
def profile_list(request: OperatorRequest, cluster_pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, cluster_pk, needs="view")
    values, now = {row: desired.profile_value(row) for row in cluster.profiles.all()}, time.time()
    holds, switch = profile_at(values.values(), now), next_switch(values.values(), now)
    context = {
        "cluster": cluster,
        "profiles": [_shown(row, value, holds) for row, value in values.items()],
        "holds": holds,
        "switch_at": datetime.fromtimestamp(switch[0], UTC) if switch else None,
        "switch_to": switch[1] if switch else None,
    }
    return render(request, "cluster/profile_list.html", context)


@require_GET
def profile_detail(request: OperatorRequest, pk: int) -> HttpResponse:
    row = access.get_profile(request, pk, needs="view")
    value = desired.profile_value(row)
    context = {
        "cluster": row.cluster,
        "profile": row,
        "hours": list(map(hours_words, value.hours)),
        "runs": dry_run(row.cluster, value),
    }
    return render(request, "cluster/profile_detail.html", context)


@require_http_methods(["GET", "POST"])
def profile_new(request: OperatorRequest, cluster_pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, cluster_pk, needs="operate")

    def save(form: ProfileForm, _: int) -> WeightProfile:
        return profiles.add_profile(cluster, form.said(), **form.why, by=actor(request))

    return _form_page(request, cluster, None, save)


@require_http_methods(["GET", "POST"])
def profile_edit(request: OperatorRequest, pk: int) -> HttpResponse:
    row = access.get_profile(request, pk, needs="operate")

    def save(form: ProfileForm, seen_version: int) -> WeightProfile:
        profiles.edit_profile(row, form.said(), seen_version=seen_version, **form.why, by=actor(request))
        return row

    try:
        return _form_page(request, row.cluster, row, save)
    except Changed:
        return profile_edit(request, pk)


@require_http_methods(["GET", "POST"])
def profile_remove(request: OperatorRequest, pk: int) -> HttpResponse:
    return _asked(request, pk, profiles.remove_profile, "remove", "The profile {} is removed.")


@require_http_methods(["GET", "POST"])
def profile_use(request: OperatorRequest, pk: int) -> HttpResponse:
    return _asked(request, pk, profiles.use_profile, "use", "{} is in use until somebody stops it.")


@require_http_methods(["GET", "POST"])
def profile_stop(request: OperatorRequest, pk: int) -> HttpResponse:
    return _asked(request, pk, profiles.stop_profile, "stop", "{} goes by its hours again.")


def _asked(request: OperatorRequest, pk: int, act: Callable[..., None], verb: str, text: str) -> HttpResponse:
    """Done, once there is a reason, to the profile that the page showed; else the page that asks."""
    row = access.get_profile(request, pk, needs="operate")
    form, again = ReasonForm(request.POST or None), asked_again(request, row)
    if form.is_valid() and not again.is_changed:
        try:
            act(row, seen=again.sent, **form.why, by=actor(request))
            messages.success(request, text.format(row))
            return redirect("profile-list", row.cluster_id)
        except Changed:
            return _asked(request, pk, act, verb, text)
        except Rejected as rejected:
            form.add_problems(rejected)
    context = {"form": form, "again": again, "profile": row, "cluster": row.cluster}
    if verb == "use":
        context["runs"] = dry_run(row.cluster, replace(desired.profile_value(row), pinned=True))
    return render(request, f"cluster/profile_{verb}.html", context)


def _form_page(
    request: OperatorRequest,
    cluster: Cluster,
    row: WeightProfile | None,
    save: Callable[[ProfileForm, int], WeightProfile],
) -> HttpResponse:
    value = desired.profile_value(row) if row else None
    initial = {"version": row.version, "position": row.position} if row else {}

    def make(data: Any) -> ProfileForm:
        return ProfileForm(data, cluster=cluster, profile=value, initial=initial)

    shown = opened(request, row, make) if row else None
    form = shown.form if shown else make(request.POST or None)
    runs = None
    is_valid = form.is_valid() and (shown is None or shown.may_save)
    if "find-now" in request.POST or "fill" in request.POST:
        if form.can_go_on and (typed := form.typed(fill="fill" in request.POST)) is not None:
            form = ProfileForm(cluster=cluster, profile=value, initial=typed)
    elif is_valid:
        if "show" in request.POST:
            runs = dry_run(cluster, _as_said(form))
        elif saved := _saved(request, form, save, shown.seen_version if shown else 0):
            return redirect("profile-list", saved.cluster_id)
    context = {"form": form, "cluster": cluster, "profile": row, "runs": runs, "opened": shown}
    return render(request, "cluster/profile_form.html", context)


def _saved(
    request: OperatorRequest,
    form: ProfileForm,
    save: Callable[[ProfileForm, int], WeightProfile],
    seen_version: int,
) -> WeightProfile | None:
    try:
        saved = save(form, seen_version)
    except Changed:
        raise
    except Rejected as rejected:
        form.add_problems(rejected)
        return None
    messages.success(request, f"The profile {saved} is saved and on its way to the directors.")
    return saved


def _as_said(form: ProfileForm) -> Profile:
    said = form.said()
    unsaved = WeightProfile(pk=0, name=said.name, weights=said.weights, hours=said.hours)
    return replace(desired.profile_value(unsaved), pinned=True)


def _shown(row: WeightProfile, value: Profile, holds: Profile | None) -> Shown:
    state = "pinned" if row.pinned else "in use" if value == holds else "waiting"
    return Shown(row, state, list(map(hours_words, value.hours)), len(value.weights))
