"""What all writers of texts share: lines that grow, and what was left out, in place, as a comment."""

from __future__ import annotations

from cluster.ipvs.formats.fidelity import Level, Note, Rendered
from cluster.ipvs.state import Tunnel, TunnelKind

_CHECKSUMS = {TunnelKind.IPIP: (0,), TunnelKind.GRE: (0, 1), TunnelKind.GUE: (0, 1, 2)}


class Writing:
    """A text in the making. What the format cannot say stands in it as a comment and among the notes."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._notes: list[Note] = []

    @property
    def is_empty(self) -> bool:
        return not self._lines

    def add(self, *lines: str) -> None:
        self._lines.extend(lines)

    def leave_out(self, what: str, why: str) -> None:
        """`what` names a service or a backend; `why` is half a sentence about the format."""
        text = "".join(mark if mark.isprintable() else "�" for mark in f"{what} is left out: {why}.")
        self._lines.append(f"# {text}")
        remedy = "Change it in the table, or program it by other means."
        self._notes.append(Note(len(self._lines), Level.LOST, text, remedy))

    def finished(self) -> Rendered:
        return Rendered("".join(f"{line}\n" for line in self._lines), tuple(self._notes))


def tunnel_has_words(tunnel: Tunnel) -> bool:
    """Whether ipvsadm and keepalived, which agree on it, can ask for this tunnel."""
    return (
        tunnel.flags in _CHECKSUMS.get(tunnel.kind, ())
        and (tunnel.kind is TunnelKind.GUE) == bool(tunnel.port)
        and 0 <= tunnel.port <= 65535
    )
