"""Records: what operators want, what was ordered, what happened."""

from cluster.models.access import ApiToken, Role, RoleBinding
from cluster.models.audit import AuditCheckpoint, AuditEntry, AuditHead, AuditSearch
from cluster.models.inventory import Backend, Cluster, Director, VirtualService
from cluster.models.job import Job, Run, Sweep
from cluster.models.revision import Revision
from cluster.models.traffic import Drain, WeightProfile

__all__ = [
    "ApiToken",
    "AuditCheckpoint",
    "AuditEntry",
    "AuditHead",
    "AuditSearch",
    "Backend",
    "Cluster",
    "Director",
    "Drain",
    "Job",
    "Revision",
    "Role",
    "RoleBinding",
    "Run",
    "Sweep",
    "VirtualService",
    "WeightProfile",
]
