"""Searches of the audit log that people keep for themselves."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction

from cluster import audit
from cluster.actions.problems import Rejected
from cluster.audit import Actor, search
from cluster.ipvs.rules import Problem
from cluster.models import AuditSearch

MOST = 50


@transaction.atomic
def save_search(user: User, *, name: str, query: str, by: Actor) -> AuditSearch:
    """Keep a search under a name; one of the same name is replaced. Rejected where it cannot be understood,
    or where somebody keeps very many."""
    if problems := search.parse(query).problems:
        raise Rejected(*(Problem("query", text) for text in problems))
    others = user.audit_searches.exclude(name=name)
    if others.count() >= MOST:
        raise Rejected(Problem("name", f"You keep {MOST} searches already. Remove one first."))
    kept, _ = AuditSearch.objects.update_or_create(user=user, name=name, defaults={"query": query})
    audit.record("audit.save-search", kept, by=by, after={"query": query})
    return kept


@transaction.atomic
def remove_search(user: User, pk: int, *, by: Actor) -> None:
    """Forget a search of this user; one that is gone already needs no second end."""
    kept = AuditSearch.objects.filter(user=user, pk=pk).first()
    if kept is not None:
        AuditSearch.objects.filter(pk=pk).delete()
        audit.record("audit.remove-search", kept, by=by, before={"query": kept.query})
