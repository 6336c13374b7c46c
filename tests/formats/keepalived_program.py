"""keepalived itself as a witness: what it says of a file. `lab/setup.sh dev` installs it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PROGRAM = shutil.which("keepalived", path="/usr/sbin:/sbin:/usr/bin:/bin")


def complaints(text: str, folder: Path, *, config_id: str = "test") -> list[str]:
    """The lines that `keepalived --config-test` says of this text; none where it is pleased. Nothing is
    started and no kernel is touched."""
    if PROGRAM is None:
        raise AssertionError("keepalived is not installed. Run: lab/setup.sh dev")
    file = folder / "keepalived.conf"
    file.write_text(text)
    command = [PROGRAM, "--config-test", "--config-id", config_id, "--use-file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    lines = done.stderr.splitlines()
    assert done.returncode == 0 or lines, f"keepalived ended with {done.returncode} and said nothing"
    # Who may run scripts depends on the machine's users, not on the text.
    return [line for line in lines if not line.startswith(("SECURITY VIOLATION", "WARNING - default user"))]
