"""A service's health policy: said in a form, refused with a sentence, reviewed in words, tried."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from cluster import desired
from cluster.actions import backends, policies
from cluster.actions.problems import Rejected
from cluster.ipvs import state
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.policy import LoadRule, OnFailure, Policy
from cluster.models import AuditEntry, Backend, Cluster, Director, Job, Revision, VirtualService
from cluster.overview import cluster_state
from cluster.policy_forms import PolicyForm
from tests.panel.conftest import ANN, TalkingDirector

HTTP = Check(CheckKind.HTTP, path="/health", port=8080)


def _text(response: Any) -> str:
    return re.sub(r"\s+", " ", response.content.decode().replace("&#x27;", "'"))


def _set(service: VirtualService, policy: Policy, *, is_administrator: bool = False) -> None:
    seen = VirtualService.objects.get(pk=service.pk).version
    policies.set_policy(service, policy, seen_version=seen, is_administrator=is_administrator, by=ANN)


def _policy(service: VirtualService) -> Policy:
    return desired.policy_value(VirtualService.objects.get(pk=service.pk))


def _posted(service: VirtualService, **changes: Any) -> dict[str, Any]:
    """What a browser posts of the form as it is shown, with some fields changed."""
    row = VirtualService.objects.get(pk=service.pk)
    shown = PolicyForm.initial_of(desired.policy_value(row)) | {"version": row.version}
    given = shown | changes
    return {name: value for name, value in given.items() if value is not None and value is not False}


def _post(client: Client, service: VirtualService, **changes: Any) -> Any:
    return client.post(reverse("service-health", args=[service.pk]), _posted(service, **changes))


def test_an_operator_sets_a_policy_and_reads_it_in_words(otto: Client, backend: Backend) -> None:
    service = backend.service
    page = reverse("service-detail", args=[service.pk])
    assert "No health check" in _text(otto.get(page))
    saved = _post(
        otto, service, kind="http", path="/health", port=8080, on_failure="remove", ramp_s=30, fall=2
    )
    assert saved.status_code == 302
    assert _policy(service) == Policy(
        Check(CheckKind.HTTP, path="/health", port=8080, fall=2), on_failure=OnFailure.REMOVE, ramp_s=30
    )
    shown = _text(otto.get(page))
    assert "HTTP port 8080, GET /health, status 200-299, every 5 s" in shown
    assert "taken out: open connections end" in shown and "over 30 s after it came back" in shown
    entry = AuditEntry.objects.first()
    assert entry and (entry.action, entry.actor) == ("service.set-policy", "otto")
    assert (
        entry.after
        and "GET /health" in entry.after["Health check"]
        and "Health check" not in (entry.before or {})
    )


@pytest.mark.parametrize(
    ("field", "said", "sentence"),
    [
        ("fall", {"fall": 0}, "The count is 1 to 100."),
        ("timeout_s", {"timeout_s": "0.01"}, "The timeout is 0.1 to 300 s."),
        ("pattern", {"kind": "http", "pattern": "("}, "This is no regular expression"),
        ("statuses", {"kind": "http", "statuses": "ok"}, "Write statuses as 200-299,301"),
        ("script", {"kind": "script", "script": "../evil"}, "without a path"),
        ("most_out_percent", {"most_out_percent": 0}, "The share is 1 to 100 percent."),
        ("ramp_s", {"ramp_s": 999999}, "The slow start lasts 0 to 3600 s"),
        ("flap_changes", {"flap_changes": 1}, "The changes are 2 to 100"),
        ("sorry_address", {"sorry_address": "192.168.50.11"}, "is a backend of this service already"),
        ("sorry_address", {"sorry_address": "127.0.0.1"}, "is the director itself"),
        (
            "sorry_port",
            {"sorry_address": "192.168.50.99", "sorry_port": 81, "sorry_forwarding": "direct"},
            "cannot change the port",
        ),
        ("load_port", {"load_source": "agent"}, "Give the port of the agent"),
        (
            "load_least_percent",
            {"load_source": "connections", "load_least_percent": 80, "load_most_percent": 50},
            "not above the most",
        ),
        ("through_service", {"through_service": "on"}, "Only backends with direct routing or a tunnel"),
    ],
)
def test_what_is_unusable_is_said_at_its_field_and_what_was_typed_stays(
    field: str, said: dict[str, Any], sentence: str, otto: Client, backend: Backend
) -> None:
    answer = _post(otto, backend.service, **({"kind": "tcp", "interval_s": "7.25"} | said))
    assert answer.status_code == 200
    assert sentence in " ".join(answer.context["form"].errors[field])
    assert 'value="7.25"' in answer.content.decode()
    assert _policy(backend.service) == Policy()


def test_a_check_of_a_service_without_a_port_must_name_one(web: Cluster) -> None:
    marked = VirtualService.objects.create(
        cluster=web, protocol="firewall-mark", address="0.0.0.0", port=0, mark=7
    )
    with pytest.raises(Rejected, match="Say which port to check"):
        _set(marked, Policy(Check()))
    _set(marked, Policy(Check(port=80)))
    _set(marked, Policy(Check(CheckKind.PING)))


def test_another_address_than_the_backends_needs_an_administrator(
    otto: Client, ann: Client, backend: Backend
) -> None:
    service = backend.service
    page = otto.get(reverse("service-health", args=[service.pk]))
    assert page.context["form"]["address"].field.disabled and "needs the role administrator" in _text(page)
    # What a browser posts into a disabled field counts for nothing, and the action does not let it by either.
    assert _post(otto, service, kind="tcp", address="192.0.2.99").status_code == 302
    assert _policy(service).check == Check()
    with pytest.raises(Rejected, match="needs the role administrator"):
        _set(service, Policy(Check(address="192.0.2.99")))
    assert _post(ann, service, kind="tcp", address="192.0.2.99").status_code == 302
    # The operator may go on with the rest of the policy, and not send the check to another port there.
    assert _post(otto, service, ramp_s=10).status_code == 302
    assert _policy(service) == Policy(Check(address="192.0.2.99"), ramp_s=10)
    refused = _post(otto, service, port=22)
    assert "needs the role administrator" in " ".join(refused.context["form"].errors["address"])


def test_a_backends_own_check_replaces_the_services_until_it_is_taken_back(
    otto: Client, backend: Backend
) -> None:
    _set(backend.service, Policy(HTTP))
    url = reverse("backend-health", args=[backend.pk])
    assert "GET /health" in _text(otto.get(url))
    version = Backend.objects.get(pk=backend.pk).version
    assert otto.post(url, {"kind": "ping", "interval_s": "9", "version": version}).status_code == 302
    own = Check(CheckKind.PING, interval_s=9)
    assert _policy(backend.service).overrides == {desired.backend_value(backend).key: own}
    assert "own check" in _text(otto.get(reverse("service-detail", args=[backend.service_id])))
    # Saving the service's policy leaves it alone.
    _post(otto, backend.service, ramp_s=5)
    assert _policy(backend.service).overrides
    stale = otto.post(url, {"kind": "", "version": version})
    assert "has changed it since you opened this form" in _text(stale)
    assert otto.post(url, {"kind": "", "version": version + 1}).status_code == 302
    assert not _policy(backend.service).overrides
    assert [e.action for e in AuditEntry.objects.all()[:3]].count("backend.set-check") == 2


def test_saving_loses_nothing_that_the_form_does_not_show(otto: Client, backend: Backend) -> None:
    service = backend.service
    service.policy = {
        "check": {"kind": "http", "path": "/a", "of_a_newer_panel": 1},
        "sorry": {"address": "192.168.50.99", "port": 80, "forwarding": "masquerade", "weight": 5},
        "also_newer": [1],
    }
    service.save()
    assert _post(otto, service, fall=5).status_code == 302
    now = VirtualService.objects.get(pk=service.pk).policy
    assert now["also_newer"] == [1] and now["check"]["of_a_newer_panel"] == 1
    assert now["check"]["path"] == "/a" and now["check"]["fall"] == 5 and now["sorry"]["weight"] == 5


def test_fields_of_another_kind_are_not_kept_unseen(otto: Client, backend: Backend) -> None:
    _set(backend.service, Policy(HTTP))
    _post(otto, backend.service, kind="tcp")
    assert _policy(backend.service).check == Check(port=8080)


def test_what_is_unusual_is_warned_of_and_saved(otto: Client, backend: Backend) -> None:
    _post(otto, backend.service, kind="tcp", timeout_s=5, interval_s=5, fall=1)
    page = _text(otto.get(reverse("service-detail", args=[backend.service_id])))
    assert "is not below the interval" in page and "One failure takes a backend out" in page
    _post(otto, backend.service, kind="", sorry_address="192.168.50.99", sorry_port=80)
    page = _text(otto.get(reverse("service-detail", args=[backend.service_id])))
    assert "Without a check no backend is ever down" in page


def test_the_review_shows_the_policy_before_and_after_and_apply_carries_it(
    otto: Client, job: Job, web: Cluster, service: VirtualService
) -> None:
    assert not cluster_state(web).draft_is_ahead
    _set(service, Policy(HTTP, ramp_s=30))
    assert cluster_state(web).draft_is_ahead
    url = reverse("cluster-review", args=[web.pk])
    page = otto.get(url)
    (changed,) = page.context["review"].policies
    assert changed.service == "TCP 192.168.50.10:80"
    assert ("Slow start", "", "over 30 s after it came back") in changed.rows
    assert "Health policies" in _text(page)
    assert otto.post(url, {"seen": page.context["review"].fingerprint, "reason": "checks"}).status_code == 302
    revision = Revision.objects.first()
    assert revision and revision.number == 2
    assert revision.traffic["policies"][0]["check"]["path"] == "/health"
    assert not cluster_state(web).draft_is_ahead
    shown = _text(otto.get(reverse("revision-detail", args=[web.pk, 2])))
    assert "Health of TCP 192.168.50.10:80" in shown and "GET /health" in shown
    _set(service, Policy())
    rows = otto.get(url).context["review"].policies[0].rows
    assert ("Slow start", "over 30 s after it came back", "") in rows


def test_a_policy_that_changed_after_the_review_is_not_applied_unseen(
    otto: Client, job: Job, web: Cluster, service: VirtualService
) -> None:
    url = reverse("cluster-review", args=[web.pk])
    seen = otto.get(url).context["review"].fingerprint
    _set(service, Policy(HTTP))
    assert "The draft has changed since you opened this review" in _text(
        otto.post(url, {"seen": seen, "reason": "checks"})
    )
    assert Revision.objects.count() == 1


def test_a_policy_that_a_later_edit_broke_blocks_the_apply(
    otto: Client, director: Director, backend: Backend, web: Cluster
) -> None:
    sorry = state.Backend("192.168.50.99", 80)
    _set(backend.service, Policy(HTTP, sorry=sorry))
    backends.add_backend(backend.service, backends.BackendFields("192.168.50.99", 80), by=ANN)
    page = otto.get(reverse("cluster-review", args=[web.pk]))
    assert "192.168.50.99:80 is a backend of this service already" in _text(page)
    answer = otto.post(
        page.request["PATH_INFO"], {"seen": page.context["review"].fingerprint, "reason": "checks"}
    )
    assert answer.status_code == 200 and not Revision.objects.exists()


def _try(client: Client, service: VirtualService) -> Any:
    return client.post(reverse("service-try", args=[service.pk]))


def test_try_now_asks_each_director_and_shows_their_answers(
    otto: Client, job: Job, director: Director, talker: TalkingDirector, backend: Backend
) -> None:
    _set(backend.service, Policy(HTTP))
    applied = job.runs.get()
    queued = _try(otto, backend.service)
    tried = Job.objects.first()
    assert (
        tried
        and tried.kind == Job.Kind.PROBE
        and queued["Location"] == reverse("job-detail", args=[tried.pk])
    )
    applied.refresh_from_db()
    assert applied.status != "superseded"
    run = tried.runs.get()
    talker.finish(
        run,
        text="By director1's try 0 of 1 backends are up.",
        answers=[
            {
                "target": "192.168.50.11:80 of TCP 192.168.50.10:80",
                "up": False,
                "reason": "HTTP status 503",
                "took_ms": 3.24,
                "text": "<b>Service Unavailable",
            }
        ],
    )
    page = _text(otto.get(reverse("job-detail", args=[tried.pk])))
    for said in ("HTTP status 503", "down", "3.2", "&lt;b&gt;Service Unavailable", "answered"):
        assert said in page
    assert "verified" not in page.lower()


def test_the_order_of_a_try_has_the_check_and_the_backends_without_their_own(
    otto: Client, director: Director, backend: Backend
) -> None:
    _set(backend.service, Policy(HTTP))
    other = backends.add_backend(backend.service, backends.BackendFields("192.168.50.12", 80), by=ANN)
    policies.set_override(other, Check(), seen_version=other.version, is_administrator=False, by=ANN)
    _try(otto, backend.service)
    job = Job.objects.get()
    assert job.probe == {
        "check": {"kind": "http", "path": "/health", "port": 8080},
        "targets": [
            {
                "service": {"protocol": "tcp", "address": "192.168.50.10", "port": 80},
                "address": "192.168.50.11",
                "port": 80,
            }
        ],
    }


def test_what_is_typed_can_be_tried_before_it_is_saved(
    otto: Client, director: Director, backend: Backend
) -> None:
    answer = _post(otto, backend.service, kind="tcp", port=8081, **{"try": "1"})
    assert answer.status_code == 200 and 'value="8081"' in answer.content.decode()
    job = Job.objects.get()
    assert job.probe["check"] == {"port": 8081} and f"/jobs/{job.pk}/" in answer.content.decode()
    assert _policy(backend.service) == Policy()
    assert "There is no check to try" in _text(_post(otto, backend.service, kind="", **{"try": "1"}))
    own = otto.post(reverse("backend-health", args=[backend.pk]), {"kind": "smtp", "try": "1"})
    assert own.status_code == 200 and Job.objects.count() == 2


def test_a_try_is_not_repeated_past_the_form_that_judges_it(
    director: Director, backend: Backend, talker: TalkingDirector, otto: Client
) -> None:
    policies.try_check(backend.service, Check(address="10.9.9.9"), [backend], by=ANN, is_administrator=True)
    run = Job.objects.get().runs.get()
    talker.finish(run, "failed")
    page = _text(otto.get(reverse("job-detail", args=[run.job_id])))
    assert "Try again" not in page
    otto.post(reverse("job-again", args=[run.job_id]))
    assert Job.objects.count() == 1


def test_a_try_that_cannot_be_is_refused_with_a_sentence(otto: Client, backend: Backend) -> None:
    _set(backend.service, Policy(HTTP))
    answer = otto.post(reverse("service-try", args=[backend.service_id]), follow=True)
    assert "has no director that could try it" in _text(answer)


def test_an_operator_cannot_try_another_address(director: Director, backend: Backend) -> None:
    elsewhere = Check(address="192.0.2.99")
    with pytest.raises(Rejected, match="needs the role administrator"):
        policies.try_check(backend.service, elsewhere, [backend], is_administrator=False, by=ANN)
    policies.try_check(backend.service, elsewhere, [backend], is_administrator=True, by=ANN)
    # What an administrator has saved, directors check all the time.
    _set(backend.service, Policy(elsewhere), is_administrator=True)
    policies.try_check(backend.service, elsewhere, [backend], is_administrator=False, by=ANN)


def test_every_field_of_the_form_reaches_the_policy_and_comes_back(otto: Client, backend: Backend) -> None:
    whole = Policy(
        Check(
            CheckKind.HTTPS,
            2.5,
            1.5,
            3,
            4,
            1.0,
            8443,
            "",
            False,
            "a.example",
            True,
            14,
            "HEAD",
            "/x",
            "b.example",
            "200,301-302",
            "",
            "",
            1000,
        ),
        on_failure=OnFailure.REMOVE,
        most_out_percent=50,
        ramp_s=30,
        flap_changes=4,
        flap_window_s=60,
        sorry=state.Backend("192.168.50.99", 8080),
        load=LoadRule(port=9000, path="/load", most_percent=150),
        asks_others=True,
    )
    _set(backend.service, whole)
    assert _post(otto, backend.service).status_code == 302
    assert _policy(backend.service) == whole
