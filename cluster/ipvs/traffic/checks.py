"""A health check as operators describe it, and what makes one unusable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from ipaddress import ip_address
from typing import Final

from cluster.ipvs.rules import Problem

LONGEST_TEXT: Final = 400
MOST_BYTES: Final = 1024 * 1024
MOST_ARGUMENTS: Final = 20
MOST_STATUS_RANGES: Final = 20

_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_RECORDS: Final = ("A", "AAAA", "CNAME", "MX", "NS", "SOA", "TXT")
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.:-]{0,251}[A-Za-z0-9])?\.?")
_SCRIPT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_STATUS: Final = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")


class CheckKind(StrEnum):
    TCP = "tcp"
    TLS = "tls"
    HTTP = "http"
    HTTPS = "https"
    UDP = "udp"
    DNS = "dns"
    SMTP = "smtp"
    PING = "ping"
    SCRIPT = "script"


@dataclass(frozen=True, slots=True)
class Check:
    """One way to find out whether a backend answers.

    A backend is down after `fall` failures in a row and up after `rise` successes; times are seconds, and
    `retry_s` is the pause after a failure, 0 for the usual `interval_s`. `port` 0 and an empty `address` are
    the backend's own. With `through_service` the check goes to the service's address and is delivered to
    this backend, as clients' packets are."""

    kind: CheckKind = CheckKind.TCP
    interval_s: float = 5.0
    timeout_s: float = 2.0
    rise: int = 2
    fall: int = 3
    retry_s: float = 0.0
    port: int = 0
    address: str = ""
    through_service: bool = False
    # TLS and HTTPS. `expiry_days`: a certificate that ends sooner fails; 0 for none.
    server_name: str = ""
    verify: bool = False
    expiry_days: int = 0
    # HTTP and HTTPS. `statuses` as 200-299,301; `contains` and `pattern` are looked for in the body, of which
    # `most_bytes` are read.
    method: str = "GET"
    path: str = "/"
    host: str = ""
    statuses: str = "200-299"
    contains: str = ""
    pattern: str = ""
    most_bytes: int = 65536
    # UDP: what is sent, and what the answer must begin with; both may have \xNN. Without `expects` a refusal
    # alone is a failure.
    payload: str = ""
    expects: str = ""
    # DNS: the name asked for, and an answer that must be among those that come; empty for any.
    query: str = ""
    record: str = "A"
    answer: str = ""
    # SMTP
    helo: str = ""
    # A file's name in the directory of scripts; it ends with 0 where the backend is up.
    script: str = ""
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" port {self.port}" if self.port else ""
        what = {
            CheckKind.HTTP: f" {self.method} {self.path}",
            CheckKind.HTTPS: f" {self.method} {self.path}",
            CheckKind.DNS: f" {self.query} {self.record}",
            CheckKind.SCRIPT: f" {self.script}",
        }.get(self.kind, "")
        return f"{self.kind.upper()}{what}{where} every {self.interval_s:g} s"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checks of a backend say: `reason` as `connect timeout 3/3`, since when, and whether it is
    held down because it went up and down too often."""

    is_up: bool
    reason: str
    since: float
    is_flapping: bool = False


def check_problems(check: Check) -> Iterator[Problem]:
    """What makes this check unusable, each with the name of its field."""
    yield from _timing_problems(check)
    for field in fields(check):
        value = getattr(check, field.name)
        if isinstance(value, str) and (len(value) > LONGEST_TEXT or not value.isprintable()):
            yield Problem(field.name, f"Use at most {LONGEST_TEXT} printable characters.")
    if not 0 <= check.port <= 65535:
        yield Problem("port", "A port is 1 to 65535, or 0 for the backend's own.")
    if check.address:
        try:
            ip_address(check.address)
        except ValueError:
            yield Problem("address", "This is no IP address. Leave it empty for the backend's own.")
        if check.through_service:
            yield Problem(
                "address", "A check through the service goes to the backend itself: leave this empty."
            )
    match check.kind:
        case CheckKind.TLS | CheckKind.HTTPS:
            yield from _tls_problems(check)
    match check.kind:
        case CheckKind.HTTP | CheckKind.HTTPS:
            yield from _http_problems(check)
        case CheckKind.UDP:
            yield from _udp_problems(check)
        case CheckKind.DNS:
            yield from _dns_problems(check)
        case CheckKind.SMTP if check.helo and not _HOST.fullmatch(check.helo):
            yield Problem("helo", "This is no host name.")
        case CheckKind.SCRIPT:
            yield from _script_problems(check)


def status_ranges(statuses: str) -> list[tuple[int, int]]:
    """`200-299,301` as (200, 299), (301, 301). ValueError, with a sentence, for anything else."""
    ranges = []
    for part in statuses.split(","):
        match = _STATUS.fullmatch(part.strip())
        if match is None:
            raise ValueError("Write statuses as 200-299,301: numbers from 100 to 599, or ranges of them.")
        low, high = int(match[1]), int(match[2] or match[1])
        if low > high:
            raise ValueError(f"The range {low}-{high} ends before it begins.")
        ranges.append((low, high))
    if len(ranges) > MOST_STATUS_RANGES:
        raise ValueError(f"Use at most {MOST_STATUS_RANGES} ranges.")
    return ranges


def as_bytes(text: str) -> bytes:
    r"""The bytes that a payload means, `\xNN`, `\r`, `\n`, `\t` and `\\` read. ValueError, with a sentence,
    for another backslash."""
    escapes = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\"}
    out, at = bytearray(), 0
    while at < len(text):
        if text[at] != "\\":
            out += text[at].encode()
            at += 1
        elif text[at + 1 : at + 2] in escapes and text[at + 1 : at + 2]:
            out += escapes[text[at + 1]]
            at += 2
        elif match := re.compile(r"\\x([0-9A-Fa-f]{2})").match(text, at):
            out.append(int(match[1], 16))
            at += 4
        else:
            raise ValueError(
                r"After a backslash comes xNN with two hex digits, r, n, t, or another backslash."
            )
    return bytes(out)


def _timing_problems(check: Check) -> Iterator[Problem]:
    if not 0.5 <= check.interval_s <= 3600:
        yield Problem("interval_s", "The interval is 0.5 to 3600 s.")
    if not 0.1 <= check.timeout_s <= 300:
        yield Problem("timeout_s", "The timeout is 0.1 to 300 s.")
    if not (check.retry_s == 0 or 0.1 <= check.retry_s <= 3600):
        yield Problem("retry_s", "The pause after a failure is 0.1 to 3600 s, or 0 for the usual interval.")
    for name in ("rise", "fall"):
        if not 1 <= getattr(check, name) <= 100:
            yield Problem(name, "The count is 1 to 100.")


def _tls_problems(check: Check) -> Iterator[Problem]:
    if check.server_name and not _HOST.fullmatch(check.server_name):
        yield Problem("server_name", "This is no host name.")
    if check.verify and not (check.server_name or check.host):
        yield Problem("server_name", "To verify a certificate, say which name it has to be for.")
    if not 0 <= check.expiry_days <= 3650:
        yield Problem("expiry_days", "The days are 0 to 3650; 0 asks for none.")


def _http_problems(check: Check) -> Iterator[Problem]:
    if check.method not in _METHODS:
        yield Problem("method", f"The method is one of {', '.join(_METHODS)}: a check must change nothing.")
    if not check.path.startswith("/") or any(letter <= " " or letter > "~" for letter in check.path):
        yield Problem("path", "The path begins with / and has neither spaces nor letters beyond ASCII.")
    if check.host and not _HOST.fullmatch(check.host):
        yield Problem("host", "This is no host name.")
    try:
        status_ranges(check.statuses)
    except ValueError as error:
        yield Problem("statuses", str(error))
    if check.pattern:
        try:
            re.compile(check.pattern)
        except (re.error, RecursionError, OverflowError) as error:
            yield Problem("pattern", f"This is no regular expression: {error}.")
    if not 1 <= check.most_bytes <= MOST_BYTES:
        yield Problem("most_bytes", f"Of the body 1 to {MOST_BYTES} bytes can be read.")
    if check.method == "HEAD" and (check.contains or check.pattern):
        yield Problem("method", "HEAD has no body to look into: use GET, or look for nothing.")


def _udp_problems(check: Check) -> Iterator[Problem]:
    for name in ("payload", "expects"):
        try:
            as_bytes(getattr(check, name))
        except ValueError as error:
            yield Problem(name, str(error))


def _dns_problems(check: Check) -> Iterator[Problem]:
    if not _HOST.fullmatch(check.query):
        yield Problem("query", "Say which name to ask for.")
    if check.record not in _RECORDS:
        yield Problem("record", f"The record is one of {', '.join(_RECORDS)}.")


def _script_problems(check: Check) -> Iterator[Problem]:
    if not _SCRIPT.fullmatch(check.script):
        yield Problem("script", "Give the name of a file in the directors' script directory, without a path.")
    if len(check.arguments) > MOST_ARGUMENTS:
        yield Problem("arguments", f"Use at most {MOST_ARGUMENTS} arguments.")
    if any(len(word) > LONGEST_TEXT or not word.isprintable() for word in check.arguments):
        yield Problem("arguments", f"An argument has at most {LONGEST_TEXT} printable characters.")
