"""Records: what operators want, what was ordered, what happened."""

from cluster.models.access import ApiToken, Role, RoleBinding
from cluster.models.audit import AuditEntry, AuditHead
from cluster.models.drift import Drift
from cluster.models.inventory import Backend, Cluster, Director, VirtualService
from cluster.models.job import Job, Run, Sweep
from cluster.models.revision import Revision
from cluster.models.rollout import PlannedApply, Rollout
from cluster.models.traffic import Drain, WeightProfile

__all__ = [
    "ApiToken",
    "AuditEntry",
    "AuditHead",
    "Backend",
    "Cluster",
    "Director",
    "Drain",
    "Drift",
    "Job",
    "PlannedApply",
    "Revision",
    "Role",
    "RoleBinding",
    "Rollout",
    "Run",
    "Sweep",
    "VirtualService",
    "WeightProfile",
]
