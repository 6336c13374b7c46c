"""API tokens and service accounts: never more than their owner, not for ever, and named in the log."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from cluster import access
from cluster.actions import one_time_links, people, roles, tokens
from cluster.actions.problems import Rejected
from cluster.models import ApiToken, AuditEntry, Cluster, CustomRole, Role
from cluster.views.api import with_token
from tests.panel.conftest import ANN, text_of
from tests.panel.test_roles import acting, user_with


def asked(text: str, name: str = "api-clusters", *args: Any) -> Any:
    return Client().get(reverse(name, args=args), headers={"Authorization": f"Bearer {text}"})


def names(text: str) -> list[str]:
    return [one["name"] for one in asked(text).json()["clusters"]]


def test_a_token_does_no_more_than_its_part_of_what_its_owner_can(web: Cluster, other: Cluster) -> None:
    owner = user_with("owner", Role.OPERATOR)
    everywhere = tokens.create_token(owner, name="all", by=acting(owner))
    in_web = tokens.create_token(owner, name="web", cluster=web, by=acting(owner))
    assert (names(everywhere), names(in_web)) == (["other", "web"], ["web"])
    assert asked(in_web, "api-cluster-live", other.pk).status_code == 404
    without_view = tokens.create_token(owner, name="apply", permissions=["apply"], by=acting(owner))
    assert names(without_view) == []
    # What is taken from the owner is gone from the token at its next request.
    owner.role_bindings.update(cluster=other)
    assert (names(everywhere), names(in_web)) == (["other"], [])
    people.set_active(owner, active=False, by=ANN)
    assert asked(everywhere).status_code == 401


def test_a_token_cannot_be_made_wider_than_its_owner_or_its_maker(web: Cluster, other: Cluster) -> None:
    owner = user_with("owner", Role.VIEWER, web)
    by = acting(owner)
    with pytest.raises(Rejected, match="owner does not have this anywhere: apply"):
        tokens.create_token(owner, name="t", permissions=["view", "apply"], by=by)
    with pytest.raises(Rejected, match="does not have this in other: view"):
        tokens.create_token(owner, name="t", cluster=other, by=by)
    program = tokens.add_service_account(username="bot", purpose="deploys", by=ANN)
    roles.give_role(program, role=Role.OPERATOR, cluster=None, by=ANN)
    own = CustomRole.objects.create(name="keeper", permissions=["view", "administer", "audit"])
    keeper = user_with("keeper", own)
    with pytest.raises(Rejected, match="which you do not have"):
        tokens.create_token(program, name="t", permissions=["apply"], by=acting(keeper))
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize("days", [0, -1, tokens.MOST_DAYS + 1])
def test_a_token_ends(days: int, web: Cluster) -> None:
    owner = user_with("owner", Role.VIEWER)
    with pytest.raises(Rejected, match="lasts from 1 to 365 days"):
        tokens.create_token(owner, name="t", days=days, by=acting(owner))
    text = tokens.create_token(owner, name="t", days=1, by=acting(owner))
    assert asked(text).status_code == 200
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    answer = asked(text)
    assert answer.status_code == 401 and answer.json()["error"]["code"] == "no-valid-token"


def test_a_token_is_kept_as_a_digest_and_shown_once(ann: Client) -> None:
    said = {"name": "nightly", "permissions": ["view"], "days": 30}
    found = re.search(r"<code>(lvsa_[\w-]{40,})</code>", text_of(ann.post(reverse("token-new"), said)))
    assert found
    token = ApiToken.objects.get()
    assert found[1] not in str(vars(token)) and token.digest == tokens.token_digest(found[1])
    assert token.expires_at - timezone.now() < timedelta(days=30, seconds=1)
    page = text_of(ann.get(reverse("account")))
    assert "nightly" in page and found[1] not in page and "never" in page
    assert asked(found[1]).status_code == 200
    token.refresh_from_db()
    assert token.used_at
    ann.post(reverse("token-revoke", args=[token.pk]))
    assert asked(found[1]).status_code == 401


def test_the_form_says_what_is_wrong_with_a_token(ann: Client) -> None:
    page = text_of(ann.post(reverse("token-new"), {"name": "t", "days": 366}))
    assert "less than or equal to 365" in page and "Choose at least one permission" in page
    assert not ApiToken.objects.exists()


def test_nobody_signs_in_with_a_service_account(ann: Client, web: Cluster) -> None:
    said = {"username": "deploy-bot", "purpose": "Nightly report; netops answers for it."}
    page = text_of(ann.post(reverse("service-account-new"), said, follow=True))
    assert "netops answers" in page
    program = User.objects.get(username="deploy-bot")
    assert not program.has_usable_password()
    answer = Client().post(reverse("login"), {"username": "deploy-bot", "password": program.password})
    assert answer.status_code == 422
    with pytest.raises(Rejected, match="nobody signs in with it"):
        one_time_links.reset_password(program, by=ANN)
    ann.post(reverse("person-give-role", args=[program.pk]), {"role": "viewer", "cluster": web.pk})
    said = {"name": "report", "permissions": ["view"], "days": 90}
    page = text_of(ann.post(reverse("person-token-new", args=[program.pk]), said))
    found = re.search(r"<code>(lvsa_[\w-]{40,})</code>", page)
    assert found and names(found[1]) == ["web"]
    assert "report" in text_of(ann.get(reverse("person-detail", args=[program.pk])))
    ann.post(reverse("person-token-revoke", args=[program.pk, program.api_tokens.get().pk]))
    assert asked(found[1]).status_code == 401
    # People make their own tokens; an administrator can't make one that acts as them.
    person = User.objects.create_user("somebody")
    assert ann.post(reverse("person-token-new", args=[person.pk]), said).status_code == 404


def test_a_service_account_is_no_administrator_to_fall_back_on(db: None) -> None:
    only = user_with("only", Role.ADMINISTRATOR)
    program = tokens.add_service_account(username="bot", purpose="x", by=ANN)
    roles.give_role(program, role=Role.ADMINISTRATOR, cluster=None, by=ANN)
    with pytest.raises(Rejected, match="the last administrator"):
        people.set_active(only, active=False, by=ANN)


def test_the_log_names_the_token(web: Cluster) -> None:
    owner = user_with("owner", Role.OPERATOR, web)
    text = tokens.create_token(owner, name="nightly", cluster=web, by=acting(owner))
    made = AuditEntry.objects.first()
    assert made and made.after and made.after["permissions"] == ["view"] and made.cluster == "web"

    @with_token
    def write(request: Any) -> HttpResponse:
        access.require(request, "apply", web, what="apply by a program")
        return HttpResponse()

    request = RequestFactory().get("/", headers={"Authorization": f"Bearer {text}"})
    answer = write(request)
    assert answer.status_code == 403 and "“apply”" in json.loads(answer.content)["error"]["text"]
    entry = AuditEntry.objects.first()
    assert entry and (entry.actor, entry.result) == ("owner", "refused")
    assert entry.reason.startswith("By the token nightly. This needs")


def test_an_unknown_address_of_the_api_is_json_as_well(ann: Client) -> None:
    owner = User.objects.get(username="ann")
    text = tokens.create_token(owner, name="t", by=ANN)
    for answer in (asked(text, "api-nowhere", "no/such/"), asked(text, "api-cluster-live", 999)):
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "not-found"


def test_tokens_from_before_get_an_end_and_open_jobs_their_author(tmp_path: Path) -> None:
    """The migration, on a database of its own."""

    def migrate(*target: str) -> None:
        command = [sys.executable, "manage.py", "migrate", "-v0", *target]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LVSADMIN_PG")}
        where = {"LVSADMIN_DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "lvsadmin.settings"}
        subprocess.run(command, check=True, cwd=settings.BASE_DIR, env=kept | where, timeout=60)

    migrate("auth")
    migrate("cluster", "0004_traffic")
    with closing(sqlite3.connect(tmp_path / "panel.sqlite3")) as database, database:
        database.executescript("""
            insert into auth_user (id, username, password, is_active, is_staff, is_superuser, first_name,
                last_name, email, date_joined) values (7, 'otto', '', 1, 0, 0, '', '', '', '2026-01-01');
            insert into cluster_apitoken (user_id, name, digest, created) values (7, 't', 'x', '2026-01-01');
            insert into cluster_cluster (id, uuid, name, description, created)
                values (1, '11111111111111111111111111111111', 'web', '', '2026-01-01');
            insert into cluster_job (id, kind, cluster_id, module, author_name, reason, created, probe)
                values (1, 'probe', 1, '', 'otto', '', '2026-01-01', '{}'),
                       (2, 'probe', 1, '', 'otto', '', '2026-01-01', '{}');
            insert into cluster_run (job_id, uuid, director_name, status, sends, queued_at, report)
                values (1, '1', 'd', 'sent', 1, '2026-01-01', '{}'),
                       (2, '2', 'd', 'applied', 1, '2026-01-01', '{}');
        """)
    migrate()
    with closing(sqlite3.connect(tmp_path / "panel.sqlite3")) as database:
        (ends, permissions) = database.execute(
            "select expires_at, permissions from cluster_apitoken"
        ).fetchone()
        assert permissions == '["view"]'
        left = datetime.fromisoformat(ends).replace(tzinfo=UTC) - timezone.now()
        assert timedelta(days=89) < left < timedelta(days=91)
        authors = database.execute("select author_id, needs from cluster_job order by id").fetchall()
        assert authors == [(7, "apply"), (None, "apply")]
