"""Names for revisions. A revision itself never changes."""

from __future__ import annotations

from django.db import transaction

from cluster import audit
from cluster.actions.problems import Rejected, lock_cluster
from cluster.audit import Actor
from cluster.ipvs.rules import Problem
from cluster.models import Revision, RevisionTag


@transaction.atomic
def tag(revision: Revision, *, name: str, by: Actor) -> RevisionTag:
    """Give the revision a name. Rejected where another revision of the cluster has it."""
    cluster = lock_cluster(revision.cluster)
    taken = RevisionTag.objects.filter(cluster=cluster, name=name).select_related("revision").first()
    if taken is not None:
        text = f"Revision {taken.revision.number} is tagged {name} already. Remove that tag first."
        raise Rejected(Problem("name", text))
    made = RevisionTag.objects.create(cluster=cluster, revision=revision, name=name, author_name=by.name)
    audit.record("revision.tag", revision, by=by, cluster=cluster, after={"tag": name})
    return made


@transaction.atomic
def untag(revision: Revision, *, name: str, by: Actor) -> None:
    """Take a name off the revision. Rejected where somebody else has already."""
    cluster = lock_cluster(revision.cluster)
    if not revision.tags.filter(name=name).delete()[0]:
        raise Rejected(Problem("", f"Revision {revision.number} has no tag {name} any more."))
    audit.record("revision.untag", revision, by=by, cluster=cluster, before={"tag": name})
