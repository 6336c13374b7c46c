"""A file or a running director comes into the draft only after somebody has looked at it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from cluster.actions.imports import import_table
from cluster.actions.problems import Rejected
from cluster.desired import draft_table, policy_value
from cluster.ipvs.formats.document import fingerprint, to_document
from cluster.ipvs.formats.ipvsadm import save
from cluster.ipvs.state import (
    Backend,
    Forwarding,
    Persistence,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
    Table,
    Tunnel,
    TunnelKind,
)
from cluster.ipvs.traffic.checks import Check
from cluster.ipvs.traffic.policy import Policy
from cluster.models import AuditEntry, Cluster, Director, VirtualService
from cluster.models import Backend as BackendRow
from tests.panel.conftest import ANN, TalkingDirector

SAVED = """-A -t 192.168.50.10:80 -s wrr
-a -t 192.168.50.10:80 -r 192.168.50.11:80 -m -w 3
-a -t 192.168.50.10:80 -r 192.168.50.12:80 -m -w 1
-A -u [fd00:50::10]:53 -s rr -p 300
-a -u [fd00:50::10]:53 -r [fd00:50::11]:53 -g -w 1
-A -f 7 -s sh
"""
FULL = Table(
    (
        Service(
            ServiceKey(Protocol.UDP, "192.168.50.10", 53),
            "mh",
            ServiceFlags.ONE_PACKET | ServiceFlags.SCHEDULER_1,
            Persistence(300, 0xFFFFFF00, "sip"),
            (
                Backend("192.168.50.11", 53, weight=5, upper=100, lower=50),
                Backend(
                    "192.168.50.12", 53, Forwarding.TUNNEL, tunnel=Tunnel(TunnelKind.GUE, 6080, 1), weight=0
                ),
            ),
        ),
        Service(ServiceKey(Protocol.SCTP, "fd00:50::10", 80), "rr", persistence=Persistence(60, 64)),
        Service(ServiceKey(Protocol.FIREWALL_MARK, "::", 0, 9), "lc"),
    )
)


def _text(response: Any) -> str:
    return re.sub(r"\s+", " ", response.content.decode().replace("&#x27;", "'"))


def _import(cluster: Cluster, table: Table, *, replace: bool = False) -> None:
    seen = fingerprint(draft_table(Cluster.objects.get(pk=cluster.pk)))
    import_table(cluster, table, replace=replace, seen=seen, source="test", by=ANN)


def test_every_setting_survives_the_way_into_rows_and_back(web: Cluster) -> None:
    _import(web, FULL)
    assert draft_table(Cluster.objects.get(pk=web.pk)) == FULL


def test_an_import_merges_and_keeps_names(web: Cluster, service: VirtualService) -> None:
    _import(web, FULL)
    assert VirtualService.objects.get(pk=service.pk).name == "shop"
    assert VirtualService.objects.count() == 4
    _import(web, FULL, replace=True)
    assert VirtualService.objects.count() == 3


def test_an_import_leaves_an_entry_of_the_whole_with_before_and_after(
    web: Cluster, service: VirtualService
) -> None:
    _import(web, FULL)
    entry = AuditEntry.objects.first()
    assert entry is not None and entry.before and entry.after
    assert (entry.target, entry.object_kind) == ("test", "cluster")
    assert entry.before["table"] == ["-A -t 192.168.50.10:80 -s rr"] and len(entry.after["table"]) == 6


@pytest.mark.parametrize(
    ("service", "said"),
    [
        (Service(ServiceKey(Protocol(50), "192.0.2.1", 80)), "protocol"),
        (
            Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), persistence=Persistence(9, 0xFF00FF00)),
            "has holes",
        ),
        (
            Service(
                ServiceKey(Protocol.TCP, "192.0.2.1", 80),
                backends=(Backend("192.0.2.2", 80, Forwarding(7)),),
            ),
            "forwarding",
        ),
        (Service(ServiceKey(Protocol.TCP, "224.0.0.1", 80)), "not the address of one host"),
    ],
)
def test_what_the_panel_cannot_hold_is_refused_and_nothing_is_written(
    web: Cluster, service: Service, said: str
) -> None:
    with pytest.raises(Rejected, match=said):
        _import(web, Table((*FULL.services, service)))
    assert not VirtualService.objects.exists()


def test_a_draft_that_changed_meanwhile_is_not_overwritten(web: Cluster, service: VirtualService) -> None:
    with pytest.raises(Rejected, match="has changed since you looked"):
        import_table(web, FULL, replace=True, seen="0" * 64, source="test", by=ANN)


def test_pasted_lines_are_shown_first_and_taken_then(otto: Client, web: Cluster) -> None:
    url = reverse("cluster-import", args=[web.pk])
    looked = otto.post(url, {"kind": "ipvsadm", "text": SAVED})
    assert "Add service TCP 192.168.50.10:80, scheduler wrr." in _text(looked)
    assert not VirtualService.objects.exists()
    again = {"kind": "ipvsadm", "text": looked.context["text"], "seen": looked.context["seen"], "take": "1"}
    assert otto.post(url, again)["Location"] == reverse("cluster-review", args=[web.pk])
    table = draft_table(Cluster.objects.get(pk=web.pk))
    assert sorted(save(table)) == sorted(SAVED.strip().splitlines())


def test_lines_that_are_wrong_are_named_and_nothing_is_taken(otto: Client, web: Cluster) -> None:
    url = reverse("cluster-import", args=[web.pk])
    text = SAVED + "-a -t 192.168.50.99:80 -r 192.168.50.11:80 -m -w 1\nnonsense\n"
    looked = otto.post(url, {"kind": "ipvsadm", "text": text})
    assert looked.context["parsed"].errors and "nonsense" in _text(looked)
    otto.post(url, {"kind": "ipvsadm", "text": text, "seen": looked.context["seen"], "take": "1"})
    assert not VirtualService.objects.exists()


def test_a_file_can_be_uploaded_and_odd_files_get_a_sentence(otto: Client, web: Cluster) -> None:
    url = reverse("cluster-import", args=[web.pk])
    good = SimpleUploadedFile("table.json", json.dumps(to_document(FULL)).encode())
    assert len(otto.post(url, {"kind": "json", "file": good}).context["parsed"].table) == 3
    binary = SimpleUploadedFile("x", b"\xff\xfe\x00")
    assert "not UTF-8" in _text(otto.post(url, {"kind": "json", "file": binary}))
    large = SimpleUploadedFile("x", b"#" * 900_001)
    assert "larger than 900 kB" in _text(otto.post(url, {"kind": "json", "file": large}))
    assert "Paste a text" in _text(otto.post(url, {"kind": "json", "text": " "}))
    for text in ("{}", "[]", "null", "{", '{"version": 1, "services": [1]}', "[" * 100_000, "9" * 5000):
        assert otto.post(url, {"kind": "json", "text": text}).context["parsed"].errors


ONE = {"protocol": "tcp", "address": "192.0.2.1", "port": 80, "scheduler": "rr"}
PART = {"address": "192.0.2.2", "port": 80, "forwarding": "masquerade", "weight": 1}


@pytest.mark.parametrize(
    ("services", "said"),
    [
        ([ONE | {"backends": []}] * 2, "TCP 192.0.2.1:80 is there already."),
        ([ONE | {"backends": [PART, PART]}], "192.0.2.2:80 is there already."),
        ([ONE | {"backends": [PART | {"weight": 10**30}]}], "Weight is not a whole number between"),
        ([ONE | {"backends": [PART | {"upper": float("inf")}]}], "Infinity is not JSON."),
        ([ONE | {"backends": [PART | {"weight": float("nan")}]}], "NaN is not JSON."),
        ([ONE | {"backends": [PART | {"port": -1}]}], "Port is not a whole number"),
        ([ONE | {"backends": [], "scheduler": "x" * 500_000}], "Scheduler is not a name"),
        ([ONE | {"backends": [], "flags": 2**31}], "the panel does not know all of its flags, 0x80000000."),
        ([ONE | {"backends": [PART | {"upper": 2**32 - 1}]}], "it has a threshold above 2147483647."),
        (
            [ONE | {"backends": [], "persistence": {"timeout_s": 2**32 - 1, "netmask": 1, "engine": ""}}],
            "Persistence lasts from 1 to 2678400 seconds",
        ),
        (
            [
                ONE
                | {
                    "backends": [
                        PART | {"forwarding": "tunnel", "tunnel": {"kind": "gre", "port": 0, "flags": 9}}
                    ]
                }
            ],
            "A tunnel has no checksum, a checksum, or remote checksum offload.",
        ),
    ],
)
def test_a_json_table_that_cannot_be_is_refused_in_words_and_nothing_is_written(
    otto: Client, web: Cluster, services: list[Any], said: str
) -> None:
    url = reverse("cluster-import", args=[web.pk])
    typed = {"kind": "json", "text": json.dumps({"version": 1, "services": services})}
    looked = otto.post(url, typed)
    taken = otto.post(url, typed | {"seen": looked.context["seen"], "take": "1"})
    assert taken.status_code == 200 and said in _text(taken)
    assert "Nothing is taken while there are errors" in _text(taken) or taken.context["form"].errors
    assert taken.context["form"].errors or "the draft says all this already" not in _text(taken)
    assert not VirtualService.objects.exists()


KEEPALIVED = """virtual_server 192.168.50.10 80 {
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    sorry_server 192.168.50.9 80
    real_server 192.168.50.11 80 {
        TCP_CHECK {
        }
    }
}
"""


def test_the_format_is_recognised_and_checks_become_a_policy(otto: Client, web: Cluster) -> None:
    url = reverse("cluster-import", args=[web.pk])
    looked = otto.post(url, {"kind": "guess", "text": KEEPALIVED})
    assert "Add service TCP 192.168.50.10:80, scheduler rr." in _text(looked)
    assert "Health of TCP 192.168.50.10:80" in _text(looked) and "192.168.50.9:80, masquerade" in _text(
        looked
    )
    again = {"kind": "guess", "text": KEEPALIVED, "seen": looked.context["seen"], "take": "1"}
    assert otto.post(url, again)["Location"] == reverse("cluster-review", args=[web.pk])
    policy = policy_value(VirtualService.objects.get())
    assert policy.check == Check(interval_s=60, timeout_s=5, rise=1, fall=2, retry_s=1)
    assert policy.sorry == Backend("192.168.50.9", 80) and policy.on_failure == "remove"
    assert "the draft says all this already" in _text(otto.post(url, {"kind": "guess", "text": KEEPALIVED}))
    entry = AuditEntry.objects.first()
    assert entry is not None and "keepalived.conf, 1 service" in str(vars(entry))
    assert "was not recognised" in _text(otto.post(url, {"kind": "guess", "text": "hello"}))


def test_what_no_policy_can_say_is_named_by_its_line_and_other_settings_stay(
    otto: Client, web: Cluster, service: VirtualService
) -> None:
    VirtualService.objects.filter(pk=service.pk).update(policy={"ramp_s": 30})
    text = KEEPALIVED.replace("TCP_CHECK {", "TCP_CHECK {\n connect_ip 192.0.2.99").replace(".9 80", ".11 80")
    url = reverse("cluster-import", args=[web.pk])
    looked = otto.post(url, {"kind": "keepalived", "text": text})
    assert "says connect_ip, for which there is no equal" in _text(looked)
    assert "The sorry server 192.168.50.11:80 cannot be one here." in _text(looked)
    again = {"kind": "keepalived", "text": text, "seen": looked.context["seen"], "take": "1"}
    assert otto.post(url, again).status_code == 302
    assert policy_value(VirtualService.objects.get()) == Policy(ramp_s=30)


def test_what_runs_on_a_director_can_be_adopted(
    otto: Client, director: Director, backend: BackendRow, talker: TalkingDirector
) -> None:
    counters = {"owned": False, "totals": {}, "rates": {}}
    services = [service | counters for service in to_document(FULL)["services"]]
    for service in services:
        service["backends"] = [part | {"active": 0, "inactive": 0} for part in service["backends"]]
    talker.frame(services=services)
    url = reverse("director-adopt", args=[director.pk])
    page = otto.get(url)
    assert "UDP 192.168.50.10:53" in _text(page)
    form = {"seen": page.context["seen"], "services": ["UDP 192.168.50.10:53", "firewall mark 9 IPv6"]}
    assert "Tick at least one service." in _text(otto.post(url, {"seen": form["seen"]}))
    assert otto.post(url, form).status_code == 302
    keys = {str(key) for key in draft_table(Cluster.objects.get(pk=director.cluster_id)).keys}
    assert keys == {"TCP 192.168.50.10:80", *form["services"]}
    page = otto.get(reverse("cluster-review", args=[director.cluster_id]))
    (part,) = page.context["review"].directors
    assert set(form["services"]) <= set(part.adopted)
    assert not any("UDP 192.168.50.10:53" in step.text for step in part.steps) and not part.conflicts
    assert "is in this kernel just as the draft wants it" in _text(page)
    assert "Adopt" in _text(otto.get(reverse("director-detail", args=[director.pk])))


def test_timeouts_and_daemons_of_a_text_are_said_to_be_left_behind_and_the_rest_is_taken(
    otto: Client, web: Cluster
) -> None:
    url = reverse("cluster-import", args=[web.pk])
    asked = {"kind": "ipvsadm", "text": f"--set 900 120 300\n{SAVED}"}
    looked = otto.post(url, asked)
    assert "not taken The text sets timeouts or sync daemons" in re.sub("<[^>]+>", "", _text(looked))
    assert "is in the table" not in _text(looked)
    taken = otto.post(url, asked | {"seen": looked.context["seen"], "take": "1"})
    assert taken["Location"] == reverse("cluster-review", args=[web.pk])
    assert "sets timeouts" not in _text(otto.post(url, asked | {"text": SAVED}))
