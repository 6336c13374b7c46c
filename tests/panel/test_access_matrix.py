"""Every URL, every role, in one's own cluster and in somebody else's."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import get_resolver, reverse

from cluster.actions import drains
from cluster.ipvs.traffic.policy import Target
from cluster.models import AuditEntry, Backend, Director, Job, Run, VirtualService, WeightProfile
from tests.panel.conftest import ANN

# name -> (method, arguments, who may). V: viewer and above, O: operator and above, C: administrator of the
# cluster, A: administrator of everything. "all": whoever is signed in.
MATRIX = {
    "overview": ("get", [], "all"),
    "cluster-list": ("get", [], "all"),
    "cluster-table": ("get", [], "all"),
    "cluster-directors": ("get", ["cluster"], "V"),
    "cluster-new": ("get", [], "A"),
    "cluster-detail": ("get", ["cluster"], "V"),
    "cluster-edit": ("get", ["cluster"], "C"),
    "cluster-remove": ("get", ["cluster"], "C"),
    "cluster-review": ("get", ["cluster"], "V"),
    "cluster-review POST": ("post", ["cluster"], "O"),
    "live": ("get", ["cluster"], "V"),
    "live-table": ("get", ["cluster"], "V"),
    "cluster-bulk": ("post", ["cluster"], "O"),
    "drain-list": ("get", ["cluster"], "V"),
    "drain-new": ("get", ["cluster"], "O"),
    "drain-detail": ("get", ["drain"], "V"),
    "drain-live": ("get", ["drain"], "V"),
    "drain-edit": ("get", ["drain"], "O"),
    "drain-cut": ("get", ["drain"], "O"),
    "drain-undrain": ("post", ["drain"], "O"),
    "revision-list": ("get", ["cluster"], "V"),
    "revision-detail": ("get", ["cluster", "revision"], "V"),
    "cluster-import": ("get", ["cluster"], "O"),
    "service-new": ("get", ["cluster"], "O"),
    "service-list": ("get", [], "all"),
    "service-detail": ("get", ["service"], "V"),
    "service-edit": ("get", ["service"], "O"),
    "service-remove": ("get", ["service"], "O"),
    "service-health": ("get", ["service"], "O"),
    "service-try": ("post", ["service"], "O"),
    "backend-health": ("get", ["backend"], "O"),
    "backend-new": ("get", ["service"], "O"),
    "backend-edit": ("get", ["backend"], "O"),
    "backend-set-weight": ("post", ["backend"], "O"),
    "backend-remove": ("get", ["backend"], "O"),
    "profile-list": ("get", ["cluster"], "V"),
    "profile-new": ("get", ["cluster"], "O"),
    "profile-detail": ("get", ["profile"], "V"),
    "profile-edit": ("get", ["profile"], "O"),
    "profile-remove": ("get", ["profile"], "O"),
    "profile-use": ("post", ["profile"], "O"),
    "profile-stop": ("post", ["profile"], "O"),
    "director-list": ("get", [], "all"),
    "director-table": ("get", [], "all"),
    "director-detail": ("get", ["director"], "V"),
    "director-facts": ("get", ["director"], "V"),
    "director-enrol": ("get", ["director"], "A"),
    "director-release": ("get", ["director"], "C"),
    "director-adopt": ("get", ["director"], "O"),
    "director-load-module": ("post", ["director"], "O"),
    "job-list": ("get", [], "all"),
    "job-detail": ("get", ["job"], "V"),
    "job-live": ("get", ["job"], "V"),
    "job-again": ("post", ["job"], "O"),
    "audit-list": ("get", [], "all"),
    "audit-detail": ("get", ["audit"], "V"),
    "audit-form": ("get", [], "all"),
    "audit-export": ("post", [], "all"),
    "audit-save-search": ("post", [], "all"),
    "audit-remove-search": ("post", ["token"], "all"),
    "person-list": ("get", [], "A"),
    "person-new": ("get", [], "A"),
    "person-set-role": ("get", ["user"], "A"),
    "person-set-active": ("post", ["user"], "A"),
    "person-reset-password": ("get", ["user"], "A"),
    "person-reset-password POST": ("post", ["user"], "A"),
    "account": ("get", [], "all"),
    "token-new": ("post", [], "all"),
    "token-revoke": ("post", ["token"], "all"),
    "logout": ("post", [], "all"),
}
PUBLIC = {"login", "healthz"}
WITH_TOKEN = {"api-clusters", "api-cluster-live"}
ALLOWED = {"ann": "VOAC", "otto": "VO", "vera": "V", "mallory": "", "nobody": ""}


@pytest.fixture
def numbers(run: Run, backend: Backend, service: VirtualService, director: Director) -> dict[str, int]:
    entry = AuditEntry.objects.filter(cluster="web").first()
    assert entry is not None
    target = Target(address=backend.address)
    drain = drains.drain(
        service.cluster,
        [target],
        begins_at=None,
        ends_at=None,
        cut_at=None,
        reason="",
        by=ANN,
        may_refuse_clients=True,
    )
    return {
        "cluster": service.cluster_id,
        "drain": drain.pk,
        "service": service.pk,
        "backend": backend.pk,
        "director": director.pk,
        "job": run.job_id,
        "revision": 1,
        "profile": WeightProfile.objects.create(cluster=service.cluster, name="night").pk,
        "audit": entry.sequence,
        "user": 10_000,
        "token": 10_000,
    }


def test_every_url_is_in_the_matrix() -> None:
    names = set(get_resolver().reverse_dict.keys())
    assert {name for name in names if isinstance(name, str)} == (
        {name.split()[0] for name in MATRIX} | PUBLIC | WITH_TOKEN
    )


@pytest.mark.parametrize("who", ALLOWED)
@pytest.mark.parametrize("name", MATRIX)
def test_a_page_opens_for_whom_it_should_alone(
    name: str, who: str, numbers: dict[str, int], request: pytest.FixtureRequest
) -> None:
    client: Client = request.getfixturevalue(who)
    method, needed, allowed = MATRIX[name]
    url = reverse(name.split()[0], args=[numbers[noun] for noun in needed])
    status = getattr(client, method)(url).status_code
    if allowed == "all" or allowed in ALLOWED[who]:
        # 404 is right where the matrix names a person who does not exist: the right was there.
        assert status in (200, 286, 302) or (needed == ["user"] and status == 404)
    else:
        assert status in (403, 404)
        if who in ("mallory", "nobody") and needed and needed != ["user"] and allowed != "A":
            assert status == 404, "what is not yours must not even be seen to exist"


@pytest.mark.parametrize("name", [name for name in MATRIX if name.split()[0] not in PUBLIC])
def test_a_stranger_is_sent_to_the_sign_in_page(name: str, numbers: dict[str, int]) -> None:
    method, needed, _ = MATRIX[name]
    response = getattr(Client(), method)(reverse(name.split()[0], args=[numbers[noun] for noun in needed]))
    assert response.status_code == 302 and response["Location"].startswith("/sign-in/")


def test_a_fragment_answers_a_stranger_with_a_redirect_of_the_whole_page(job: Job) -> None:
    response = Client().get(reverse("job-live", args=[job.pk]), headers={"HX-Request": "true"})
    assert response.status_code == 401 and response["HX-Redirect"].startswith("/sign-in/")


def test_a_refusal_says_which_role_is_needed_and_is_written_down(vera: Client, job: Job) -> None:
    response = vera.post(reverse("cluster-review", args=[job.cluster_id]), {"seen": "x"})
    assert response.status_code == 403
    assert "needs the role operator" in response.content.decode()
    entry = AuditEntry.objects.first()
    assert entry and (entry.actor, entry.action, entry.result) == ("vera", "access.refused", "refused")


@pytest.mark.parametrize("name", [name for name, (method, _, _) in MATRIX.items() if method == "get"])
def test_no_get_changes_anything(name: str, numbers: dict[str, int], ann: Client) -> None:
    before = (AuditEntry.objects.count(), Job.objects.count(), Backend.objects.get().weight)
    ann.get(reverse(name.split()[0], args=[numbers[noun] for noun in MATRIX[name][1]]))
    assert (AuditEntry.objects.count(), Job.objects.count(), Backend.objects.get().weight) == before


def test_a_revoked_role_is_gone_at_the_next_click(vera: Client, service: VirtualService) -> None:
    url = reverse("service-detail", args=[service.pk])
    assert vera.get(url).status_code == 200
    from django.contrib.auth.models import User

    User.objects.get(username="vera").role_bindings.all().delete()
    assert vera.get(url).status_code == 404
