"""Forms keep what was typed and say what is wrong; pages say what is true, also when little is."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cluster import access, jobs
from cluster.actions import backends, directors
from cluster.models import ApiToken, Backend, Cluster, Director, Job, Run, VirtualService
from cluster.seen import mark_of
from tests.panel.conftest import ANN, FakeRedis, TalkingDirector, apply_draft, text_of

GOOD_SERVICE = {"address": "192.168.50.20", "port": "80", "protocol": "tcp", "scheduler": "rr", "name": ""}
GOOD_BACKEND = {"address": "192.168.50.12", "port": "80", "forwarding": "direct", "weight": "1", "name": ""}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"address": "192.168.50.300"}, "“192.168.50.300” is not an IP address"),
        ({"address": "fe80::1%eth0"}, "is not an IP address"),
        ({"address": "a" * 10_000}, "a…” is not an IP address"),
        ({"address": "::ffff:192.168.50.10"}, "Write 192.168.50.10 as the IPv4 address"),
        ({"address": "224.0.0.1"}, "not the address of one host"),
        ({"address": "0.0.0.0"}, "means “any address”"),
        ({"address": "fe80::1"}, "link-local"),
        ({"address": ""}, "required"),
        ({"port": "0"}, "every port"),
        ({"port": "65536"}, "between 1 and 65535"),
        ({"port": "http"}, "must be a whole number"),
        ({"protocol": "icmp"}, "Select a valid choice"),
        ({"scheduler": "none"}, "has a kernel module for"),
        ({"flags": ["4"]}, "One packet scheduling is for UDP"),
        ({"persistence_s": "0"}, "greater than or equal to 1"),
        ({"persistence_s": "9", "persistence_prefix": "33"}, "between 1 and 32"),
        ({"address": "192.168.50.10"}, "web has TCP 192.168.50.10:80 already"),
    ],
)
def test_a_bad_service_is_a_field_error_and_the_typed_values_stay(
    otto: Client, service: VirtualService, changed: dict[str, Any], said: str
) -> None:
    typed = GOOD_SERVICE | {"name": "typed by hand"} | changed
    response = otto.post(reverse("service-new", args=[service.cluster_id]), typed)
    page = text_of(response)
    assert response.status_code == 200 and said in page and 'value="typed by hand"' in page
    assert next(iter(response.context["form"].errors)) in changed
    assert VirtualService.objects.count() == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"address": "fd00:50::11"}, "is IPv6, but the service is IPv4"),
        ({"address": "127.0.0.1", "port": "8080", "forwarding": "masquerade"}, "is the director itself"),
        ({"address": "192.168.50.11"}, "has the backend 192.168.50.11:80 already"),
        ({"port": "8080"}, "Direct forwarding cannot change the port: use 80"),
        ({"upper": "5", "lower": "6"}, "must not be above the upper"),
        ({"forwarding": "tunnel", "tunnel": "gue"}, "GUE needs the port"),
        ({"port": "0"}, "every port"),
        ({"weight": "-1"}, "between 0 and 65535"),
        ({"weight": "65536"}, "between 0 and 65535"),
        ({"weight": "much"}, "must be a whole number"),
        ({"address": "192.168.50.10"}, "is the service itself"),
    ],
)
def test_a_bad_backend_is_a_field_error_and_the_typed_values_stay(
    otto: Client, backend: Backend, changed: dict[str, str], said: str
) -> None:
    typed = GOOD_BACKEND | {"name": "typed by hand"} | changed
    response = otto.post(reverse("backend-new", args=[backend.service_id]), typed)
    page = text_of(response)
    assert response.status_code == 200 and said in page and 'value="typed by hand"' in page
    assert Backend.objects.count() == 1


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("address", ["192.168.50.30", "fd00:50:0:0::30"])
def test_services_of_both_protocols_and_families_can_be_made(
    otto: Client, web: Cluster, protocol: str, address: str
) -> None:
    typed = GOOD_SERVICE | {"protocol": protocol, "address": address}
    assert otto.post(reverse("service-new", args=[web.pk]), typed).status_code == 302
    assert VirtualService.objects.get().address in ("192.168.50.30", "fd00:50::30")


def test_two_people_with_the_same_form_do_not_overwrite_each_other(otto: Client, backend: Backend) -> None:
    backends.set_weight(backend, seen_version=1, weight=7, by=ANN)
    typed = GOOD_BACKEND | {"address": "192.168.50.11", "weight": "3", "version": "1"}
    response = otto.post(reverse("backend-edit", args=[backend.pk]), typed)
    assert "ann has changed it since you opened this form" in text_of(response)
    assert 'value="3"' in text_of(response) and Backend.objects.get().weight == 7


def test_removing_wants_the_name_typed(ann: Client, service: VirtualService) -> None:
    url = reverse("service-remove", args=[service.pk])
    seen = {"seen": mark_of(service)}
    assert "exactly. Nothing was removed." in text_of(ann.post(url, seen | {"confirm": "yes"}))
    assert VirtualService.objects.exists()
    assert ann.post(url, seen | {"confirm": "192.168.50.10:80"}).status_code == 302
    assert not VirtualService.objects.exists()


def test_removing_a_service_of_a_cluster_that_has_just_gone_is_refused_in_words(
    ann: Client, service: VirtualService, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = access.get_service

    def somebody_is_faster(*args: Any, **kwargs: Any) -> VirtualService:
        seen = found(*args, **kwargs)
        Cluster.objects.all().delete()
        return seen

    monkeypatch.setattr(access, "get_service", somebody_is_faster)
    said = {"confirm": "192.168.50.10:80", "seen": mark_of(service)}
    page = ann.post(reverse("service-remove", args=[service.pk]), said)
    assert "Somebody has removed web meanwhile." in text_of(page)


@pytest.mark.parametrize("kind", ["service", "backend"])
def test_saving_what_somebody_has_just_removed_is_no_such_page(
    ann: Client, backend: Backend, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    row: Any = backend if kind == "backend" else backend.service
    found = getattr(access, f"get_{kind}")

    def somebody_is_faster(*args: Any, **kwargs: Any) -> Any:
        seen = found(*args, **kwargs)
        type(row).objects.all().delete()
        return seen

    monkeypatch.setattr(access, f"get_{kind}", somebody_is_faster)
    typed = {"version": row.version, "address": "192.168.50.11", "port": 80, "weight": 3}
    more = {"forwarding": "masquerade"} if kind == "backend" else {"protocol": "tcp", "scheduler": "rr"}
    assert ann.post(reverse(f"{kind}-edit", args=[row.pk]), typed | more).status_code == 404


def test_a_director_that_has_just_left_is_not_removed_twice(
    ann: Client, director: Director, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, found = reverse("director-release", args=[director.pk]), access.get_director

    def somebody_is_faster(*args: Any, **kwargs: Any) -> Director:
        seen = found(*args, **kwargs)
        Director.objects.update(cluster=None)
        return seen

    with monkeypatch.context() as patch:
        patch.setattr(access, "get_director", somebody_is_faster)
        page = ann.post(url, {"confirm": director.name, "reason": "a test"})
    assert "is not in this cluster any more." in text_of(page)
    assert ann.get(url).status_code == 302


PAGES = ["overview", "cluster-list", "director-list", "service-list", "job-list", "audit-list"]


@pytest.mark.parametrize("name", PAGES)
def test_pages_render_with_redis_down_and_say_so(ann: Client, run: Run, redis: FakeRedis, name: str) -> None:
    redis.is_up = False
    response = ann.get(reverse(name))
    assert response.status_code == 200 and "Redis does not answer." in text_of(response)


def test_everything_of_one_cluster_renders_with_redis_down(
    ann: Client, run: Run, redis: FakeRedis, service: VirtualService, director: Director
) -> None:
    redis.is_up = False
    for name, pk in [
        ("cluster-detail", director.cluster_id),
        ("cluster-review", director.cluster_id),
        ("live", director.cluster_id),
        ("service-detail", service.pk),
        ("director-detail", director.pk),
        ("job-detail", run.job_id),
    ]:
        assert "Redis does not answer." in text_of(ann.get(reverse(name, args=[pk])))


def test_what_is_applied_while_redis_is_down_is_not_lost(
    otto: Client, web: Cluster, backend: Backend, director: Director, redis: FakeRedis, sent: list[Any]
) -> None:
    redis.is_up = False
    seen = otto.get(reverse("cluster-review", args=[web.pk])).context["review"].fingerprint
    assert (
        otto.post(reverse("cluster-review", args=[web.pk]), {"seen": seen, "reason": "x"}).status_code == 302
    )
    redis.is_up = True
    Run.objects.update(queued_at=timezone.now() - timedelta(seconds=5))
    jobs.sweep()
    assert len(sent) == 1


def test_a_stand_in_kernel_is_named_on_every_page(
    ann: Client, director: Director, talker: TalkingDirector
) -> None:
    talker.hello(stand_in=True)
    for name in PAGES:
        assert "No IPVS kernel: director1 keeps its table in memory." in text_of(ann.get(reverse(name)))


def test_a_missing_panel_worker_is_said(ann: Client) -> None:
    assert "own worker does not run" in text_of(ann.get("/"))
    jobs.sweep()
    assert "own worker does not run" not in text_of(ann.get("/"))


def test_a_viewer_reads_that_he_only_looks(vera: Client, service: VirtualService) -> None:
    page = text_of(vera.get(reverse("service-detail", args=[service.pk])))
    assert "your role is viewer" in page and "This needs the permission “edit” in web" in page


def test_empty_pages_say_what_comes_next(ann: Client) -> None:
    assert "Create the first cluster" in text_of(ann.get("/"))
    assert "No director has announced itself" in text_of(ann.get(reverse("director-list")))
    assert "No job yet" in text_of(ann.get(reverse("job-list")))


def test_services_are_listed_by_cluster_address_and_port(vera: Client, web: Cluster) -> None:
    for port in (8080, 443, 8000):
        VirtualService.objects.create(cluster=web, protocol="tcp", address="192.0.2.1", port=port)
    listed = vera.get(reverse("service-list")).context["services"]
    assert [service.port for service in listed] == [443, 8000, 8080]


def test_a_cluster_whose_directors_have_left_is_not_called_empty(
    ann: Client, web: Cluster, backend: Backend, director: Director
) -> None:
    apply_draft(web)
    directors.release_director(director, by=ANN)
    page = text_of(ann.get(reverse("cluster-detail", args=[web.pk])))
    assert "no director</span>" in page and "empty</span>" not in page


def test_lists_take_the_same_queries_for_few_and_many(
    ann: Client, web: Cluster, backend: Backend, director: Director, django_assert_max_num_queries: Any
) -> None:
    for number in range(30):
        VirtualService.objects.create(cluster=web, protocol="udp", address="192.0.2.1", port=1000 + number)
    for number in range(5):
        Job.objects.create(kind="load-module", cluster=web, module=f"ip_vs_{number}", author_name="ann")
    for name in PAGES:
        with django_assert_max_num_queries(22):
            ann.get(reverse(name))


def test_every_answer_carries_the_security_headers(ann: Client) -> None:
    for path in ["/", "/nowhere/", "/sign-in/", "/audit/"]:
        response = ann.get(path)
        assert "default-src 'self'" in response["Content-Security-Policy"]
        assert "object-src 'none'" in response["Content-Security-Policy"]
        assert "unsafe" not in response["Content-Security-Policy"]
        assert response["X-Content-Type-Options"] == "nosniff"
        assert response["Cache-Control"] == "no-store" or "no-store" in response["Cache-Control"]
        assert response["X-Request-Id"]


def test_templates_hold_nothing_inline() -> None:
    from pathlib import Path

    for path in Path("templates").rglob("*.html"):
        text = path.read_text()
        for forbidden in ("style=", "onclick=", "hx-on", "javascript:", "<style"):
            assert forbidden not in text, f"{forbidden} in {path}"
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), f"inline script in {path}"
        assert not re.search(r"hx-trigger=\"[^\"]*\[", text), f"an eval filter in {path}"


def test_the_api_answers_a_token_with_what_its_user_may_see(
    ann: Client, mallory: Client, director: Director, service: VirtualService
) -> None:
    tokens = {}
    for name, client in (("ann", ann), ("mallory", mallory)):
        said = {"name": "script", "permissions": ["view"], "days": 7}
        page = text_of(client.post(reverse("token-new"), said))
        found = re.search(r"<code>([\w-]{40,})</code>", page)
        assert found
        tokens[name] = {"Authorization": f"Bearer {found[1]}"}
    assert not ApiToken.objects.filter(digest__in=[t["Authorization"].split()[1] for t in tokens.values()])
    stranger = Client()
    assert stranger.get(reverse("api-clusters")).status_code == 401
    assert stranger.get(reverse("api-clusters"), headers={"Authorization": "Bearer x"}).status_code == 401
    mine = stranger.get(reverse("api-clusters"), headers=tokens["ann"]).json()["clusters"]
    assert [(one["name"], one["services"]) for one in mine if one["name"] == "web"] == [("web", 1)]
    theirs = stranger.get(reverse("api-clusters"), headers=tokens["mallory"]).json()["clusters"]
    assert [one["name"] for one in theirs] == ["other"]
    url = reverse("api-cluster-live", args=[director.cluster_id])
    assert stranger.get(url, headers=tokens["ann"]).json()["redis_is_up"] is True
    assert stranger.get(url, headers=tokens["mallory"]).status_code == 404


def test_loading_a_module_makes_a_job_for_that_director(otto: Client, director: Director) -> None:
    url = reverse("director-load-module", args=[director.pk])
    response = otto.post(url, {"module": "ip_vs_sh"})
    assert response.status_code == 302 and Job.objects.get().title == "Load module ip_vs_sh"
    otto.post(url, {"module": "rootkit"})
    assert Job.objects.count() == 1
    assert "not among the modules" in text_of(otto.get(reverse("director-detail", args=[director.pk])))


def test_a_revision_reads_like_ipvsadm(
    vera: Client, web: Cluster, backend: Backend, director: Director
) -> None:
    apply_draft(web)
    page = text_of(vera.get(reverse("revision-detail", args=[web.pk, 1])))
    assert "-A -t 192.168.50.10:80 -s rr" in page


@pytest.mark.parametrize("odd", ["\x00", "%", "'", "a" * 5000])
def test_odd_searches_find_nothing_and_break_nothing(otto: Client, service: VirtualService, odd: str) -> None:
    for name in ("service-list", "audit-list"):
        asked = {"q": odd, "target": odd, "actor": odd, "action": odd, "before": odd}
        assert otto.get(reverse(name), {"q": odd, "before": odd, "after": odd}).status_code == 200
        assert otto.get(reverse(name), asked, follow=True).status_code == 200
    assert Client().post(reverse("login"), {"username": odd, "password": odd}).status_code == 422


def test_only_schedulers_that_every_director_can_load_are_offered(
    otto: Client, web: Cluster, director: Director
) -> None:
    url = reverse("service-new", args=[web.pk])
    page = otto.get(url).content.decode()
    assert '<option value="wrr"' in page and '<option value="mh"' not in page
    assert "Not on every director of this cluster: lc, wlc, mh" in page
    answer = otto.post(url, GOOD_SERVICE | {"scheduler": "mh"})
    assert "Not every director of this cluster has a kernel module for “mh”" in text_of(answer)
    assert not web.services.exists()


def test_a_scheduler_that_a_service_has_already_can_be_kept(
    otto: Client, web: Cluster, director: Director, service: VirtualService
) -> None:
    VirtualService.objects.update(scheduler="mh")
    url = reverse("service-edit", args=[service.pk])
    assert '<option value="mh" selected' in otto.get(url).content.decode()
    answer = otto.post(url, GOOD_SERVICE | {"scheduler": "mh", "version": service.version})
    assert answer.status_code == 302
