"""Records: what operators want, what was ordered, what happened."""

from cluster.models.access import ApiToken, CustomRole, Role, RoleBinding, ServiceAccount
from cluster.models.audit import AuditCheckpoint, AuditEntry, AuditHead, AuditSearch
from cluster.models.change import Answer, ChangeRequest
from cluster.models.drift import Drift
from cluster.models.inventory import Backend, Cluster, Director, VirtualService
from cluster.models.job import Job, Run, Sweep
from cluster.models.one_time_link import OneTimeLink
from cluster.models.revision import Revision, RevisionTag
from cluster.models.rollout import PlannedApply, Rollout
from cluster.models.traffic import Drain, WeightProfile

__all__ = [
    "Answer",
    "ApiToken",
    "AuditCheckpoint",
    "AuditEntry",
    "AuditHead",
    "AuditSearch",
    "Backend",
    "ChangeRequest",
    "Cluster",
    "CustomRole",
    "Director",
    "Drain",
    "Drift",
    "Job",
    "OneTimeLink",
    "PlannedApply",
    "Revision",
    "RevisionTag",
    "Role",
    "RoleBinding",
    "Rollout",
    "Run",
    "ServiceAccount",
    "Sweep",
    "VirtualService",
    "WeightProfile",
]
