"""A director's own settings: one JSON file that its administrator writes and no message changes."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.wire.envelope import SigningKey

KERNELS = ("netlink", "memory")

_REQUIRED = ("director", "broker", "state_dir", "panel_public_key")
_OPTIONAL = {
    "modprobe": "/sbin/modprobe",
    "modules": "/lib/modules",
    "kernel": "netlink",
    "rehearsal": "on",
    "scripts": "/etc/lvsadmin/checks",
}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_BROKERS = ("redis://", "rediss://", "redis+socket://")


class ConfigError(Exception):
    """The settings can't be used; the text has a sentence for each thing to mend."""


@dataclass(frozen=True, slots=True)
class Config:
    """`director` is the id that the panel knows; `panel_public_key` the only key whose orders count;
    `modules` is where the kernel's modules are, with a folder for each release; `rehearsal` is `on` for a
    namespace of the worker's own, `off`, or the path of a sibling's socket; `scripts` is where the scripts of
    health checks are."""

    director: str
    broker: str
    state_dir: Path
    panel_public_key: str
    modprobe: str
    modules: Path
    kernel: str
    rehearsal: str = "on"
    scripts: Path = Path("/etc/lvsadmin/checks")

    def signing_key(self) -> SigningKey:
        """The director's own key, made at the first call. ConfigError where it can't be."""
        path = self.state_dir / "director.key"
        try:
            self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            return SigningKey.load_or_create(path)
        except (OSError, ValueError) as error:
            raise ConfigError(f"The director's key {path} cannot be read or made: {error}.") from error


def load(path: Path) -> Config:
    """Read and check the file. ConfigError, with a sentence for each mistake."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The settings file {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"The settings file {path} is not JSON: {error}.") from error
    if not isinstance(document, dict):
        raise ConfigError(f"The settings file {path} must hold one JSON object.")
    if problems := _problems(document):
        raise ConfigError(" ".join(problems))
    values = _OPTIONAL | document
    return Config(
        director=values["director"],
        broker=values["broker"],
        state_dir=Path(values["state_dir"]),
        panel_public_key=values["panel_public_key"],
        modprobe=values["modprobe"],
        modules=Path(values["modules"]),
        kernel=values["kernel"],
        rehearsal=values["rehearsal"],
        scripts=Path(values["scripts"]),
    )


def _problems(document: dict[str, Any]) -> list[str]:
    said = [f"The setting “{name}” is missing." for name in _REQUIRED if name not in document]
    unknown = sorted(set(document) - set(_REQUIRED) - set(_OPTIONAL))
    said += [f"The setting “{name}” is not known." for name in unknown]
    wrong = [name for name in document if name not in unknown and not isinstance(document[name], str)]
    said += [f"The setting “{name}” must be text." for name in wrong]
    if said:
        return said
    values = _OPTIONAL | document
    if not _NAME.fullmatch(values["director"]):
        said.append("The setting “director” must be 1 to 32 small letters, digits or dashes.")
    if not values["broker"].startswith(_BROKERS):
        said.append(f"The setting “broker” must begin with one of {', '.join(_BROKERS)}.")
    if values["kernel"] not in KERNELS:
        said.append(f"The setting “kernel” must be one of {', '.join(KERNELS)}.")
    for name in ("state_dir", "modprobe", "modules", "scripts"):
        if not values[name].startswith("/"):
            said.append(f"The setting “{name}” must be a path from the root.")
    if values["rehearsal"] not in ("on", "off") and not values["rehearsal"].startswith("/"):
        said.append("The setting “rehearsal” must be on, off, or the path of the sibling's socket.")
    if not _is_key(values["panel_public_key"]):
        said.append("The setting “panel_public_key” must be the 44 letters that the panel shows.")
    return said


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 32
    except ValueError:
        return False
