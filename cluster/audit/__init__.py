"""The audit log: written in one way (entries), walked and checked (chain), found in (search)."""

from cluster.audit.entries import PANEL, Actor, director_actor, entry, is_reserved, record, record_all

__all__ = ["PANEL", "Actor", "director_actor", "entry", "is_reserved", "record", "record_all"]
