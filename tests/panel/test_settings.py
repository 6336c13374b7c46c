"""Every setting that IPVS has for a service or a backend can be given in a form, and edited again."""

from __future__ import annotations

from django.test import Client
from django.urls import reverse

from cluster.desired import draft_table
from cluster.ipvs.formats.ipvsadm import save
from cluster.models import Backend, Cluster, VirtualService
from tests.panel.test_pages import GOOD_BACKEND, GOOD_SERVICE, text_of


def test_every_setting_of_a_service_can_be_given_and_edited(otto: Client, web: Cluster) -> None:
    typed = GOOD_SERVICE | {"protocol": "udp", "flags": ["4", "16"]}
    typed |= {"persistence_s": "360", "persistence_prefix": "24"}
    assert otto.post(reverse("service-new", args=[web.pk]), typed).status_code == 302
    service = VirtualService.objects.get()
    assert service.features == ["persistent 360 s by /24", "one packet", "flag-2"]
    page = otto.get(reverse("service-edit", args=[service.pk]))
    assert page.context["form"].more_is_open and 'value="360"' in text_of(page)
    typed |= {"version": "1", "persistence_s": "", "persistence_prefix": "", "flags": []}
    assert otto.post(reverse("service-edit", args=[service.pk]), typed).status_code == 302
    service.refresh_from_db()
    assert service.features == []


def test_a_firewall_mark_needs_no_address(otto: Client, web: Cluster) -> None:
    typed = {"protocol": "firewall-mark", "mark": "7", "family": "6", "scheduler": "rr"}
    assert otto.post(reverse("service-new", args=[web.pk]), typed).status_code == 302
    service = VirtualService.objects.get()
    assert str(service) == "firewall mark 7 IPv6"
    assert save(draft_table(web)) == ["-A -f 7 -6 -s rr"]
    assert "Give the mark" in text_of(otto.post(reverse("service-new", args=[web.pk]), typed | {"mark": ""}))
    assert "already" in text_of(otto.post(reverse("service-new", args=[web.pk]), typed))
    assert otto.get(reverse("service-edit", args=[service.pk])).status_code == 200


def test_a_tunnel_and_thresholds_can_be_given(otto: Client, service: VirtualService) -> None:
    typed = GOOD_BACKEND | {"forwarding": "tunnel", "tunnel": "gue", "tunnel_port": "6080", "upper": "100"}
    assert otto.post(reverse("backend-new", args=[service.pk]), typed).status_code == 302
    backend = Backend.objects.get()
    assert backend.features == ["GUE port 6080", "up to 100 connections"]
    words = save(draft_table(service.cluster))[1].split()
    assert {"-i", "--tun-type", "gue", "--tun-port", "6080", "--tun-nocsum", "-x", "100"} < set(words)
    assert otto.get(reverse("backend-edit", args=[backend.pk])).context["form"].more_is_open
