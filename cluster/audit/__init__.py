"""The audit log: written in one way (entries), walked and checked (chain), found in (search)."""

from cluster.audit.entries import PANEL, Actor, director_actor, is_reserved, record

__all__ = ["PANEL", "Actor", "director_actor", "is_reserved", "record"]
