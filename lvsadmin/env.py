"""Settings from the environment. Each can also come from the file that NAME_FILE names."""

import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def text(name: str, default: str = "") -> str:
    """NAME, or the text of the file that NAME_FILE names, which fails loudly where it cannot be read."""
    if path := os.environ.get(f"{name}_FILE"):
        return Path(path).read_text().strip()
    return os.environ.get(name, default)


def flag(name: str, default: bool = False) -> bool:
    """1, yes, true, on and their opposites; any other word fails loudly."""
    value = os.environ.get(name, "").strip().lower()
    if value in ("1", "yes", "true", "on"):
        return True
    if value in ("0", "no", "false", "off"):
        return False
    if not value:
        return default
    raise ImproperlyConfigured(f"{name} is “{value}”. Use 1 or 0.")


def words(name: str, default: str = "") -> list[str]:
    """A list with commas."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def pairs(name: str) -> list[tuple[str, str]]:
    """A list with commas of `left=right`; anything else fails loudly."""
    found = []
    for word in words(name):
        left, sign, right = (part.strip() for part in word.rpartition("="))
        if not (left and sign and right):
            raise ImproperlyConfigured(
                f"{name} has “{word}”. Write it like theirs=ours, several with commas."
            )
        found.append((left, right))
    return found


def networks(name: str, default: str = "") -> list[IPv4Network | IPv6Network]:
    """Addresses and networks with commas; anything else fails loudly."""
    found = []
    for word in words(name, default):
        try:
            found.append(ip_network(word))
        except ValueError:
            raise ImproperlyConfigured(
                f"{name} has “{word}”, which is no address and no network. Write it like 192.0.2.7 or"
                " 192.0.2.0/24, several with commas."
            ) from None
    return found


def log_server(name: str) -> str | tuple[str, int] | None:
    """A path to a unix socket such as /dev/log, or HOST:PORT; None where nothing is said."""
    value = text(name)
    return value or None if not value or value.startswith("/") else address(name)


def address(name: str, default: str = "") -> tuple[str, int]:
    """HOST:PORT; anything else fails loudly."""
    value = text(name, default)
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ImproperlyConfigured(f"{name} is “{value}”. Write HOST:PORT.")
    return host.strip("[]"), int(port)


def secret(name: str, *, generated_at: Path) -> str:
    """NAME, or the text of NAME_FILE, or a random one that is kept at `generated_at` (mode 0400)."""
    if value := text(name):
        return value
    try:
        descriptor = os.open(generated_at, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    except FileExistsError:
        return generated_at.read_text()
    with open(descriptor, "w") as file:
        file.write(os.urandom(48).hex())
    return generated_at.read_text()
