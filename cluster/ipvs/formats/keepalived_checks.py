"""The health checks of a real_server in keepalived.conf. Defaults are those of keepalived 2.2.7's source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from cluster.ipvs.formats.fidelity import HealthCheck
from cluster.ipvs.formats.keepalived_blocks import Block
from cluster.ipvs.formats.reading import Draft, Unreadable, number, shown

DEFAULT_INTERVAL_S = 60.0
DEFAULT_TIMEOUT_S = 5.0

# Given for a virtual server, they hold for its real servers; given there, for their checks.
TIMERS = {"delay_loop", "connect_timeout", "delay_before_retry", "warmup"}
INHERITED = {*TIMERS, "retry", "alpha", "virtualhost"}

_CONNECTION = {
    *("connect_ip", "connect_port", "bindto", "bind_port", "bind_if", "connect_timeout", "fwmark"),
}
_SCHEDULE = {"retry", "delay_before_retry", "warmup", "delay_loop", "alpha", "log_all_failures"}
_COMMON = _CONNECTION | _SCHEDULE
_HTTP = {*_COMMON, "nb_get_retry", "virtualhost", "http_protocol", "enable_sni", "fast_recovery"}
_URL = {
    *("path", "digest", "status_code", "virtualhost", "regex", "regex_no_match", "regex_options"),
    *("regex_min_offset", "regex_max_offset", "regex_stack"),
}
_KINDS = {
    "TCP_CHECK": ("tcp", _COMMON),
    "HTTP_GET": ("http", _HTTP),
    "SSL_GET": ("https", _HTTP),
    "SMTP_CHECK": ("smtp", {*_COMMON, "helo_name"}),
    "DNS_CHECK": ("dns", {*_COMMON, "type", "name"}),
    "MISC_CHECK": ("script", {*_SCHEDULE, "misc_path", "misc_timeout", "misc_dynamic", "user"}),
    "PING_CHECK": ("ping", _COMMON),
    "UDP_CHECK": ("udp", {*_COMMON, "payload", "require_reply", "min_reply_length", "max_reply_length"}),
    "FILE_CHECK": ("file", {"track_file", "weight"}),
    "BFD_CHECK": ("bfd", {"name", "alpha"}),
}
CHECKERS = set(_KINDS)
_PARTS = {"HTTP_GET": ("url", _URL), "SSL_GET": ("url", _URL), "SMTP_CHECK": ("host", _COMMON)}
_NEEDED = {"MISC_CHECK": "misc_path", "FILE_CHECK": "track_file", "BFD_CHECK": "name"}
_RETRIES = {"DNS_CHECK": 3, "MISC_CHECK": 0}
_UNTIMED = {"FILE_CHECK", "BFD_CHECK"}
_YES = {"true", "on", "yes"}
_NO = {"false", "off", "no"}
_SECONDS = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,6})?")


def setting(block: Block) -> str:
    """The value of a setting that checks inherit; Unreadable where keepalived would ignore it."""
    if block.inside is not None:
        raise Unreadable(f"{block.name} takes no block.", "Take the braces out.")
    if block.name in TIMERS:
        if not _SECONDS.fullmatch(block.word()):
            raise Unreadable(f"{block.name} is {shown(block.word())}.", "Give seconds, such as 3 or 2.5.")
        return block.word()
    if block.name in ("retry", "nb_get_retry"):
        return str(number(block.word(), "The number of retries"))
    if block.name in ("alpha", "misc_dynamic", "enable_sni", "fast_recovery", "log_all_failures"):
        return "yes" if yes(block) else "no"
    return block.value


def yes(block: Block) -> bool:
    """Whether a keyword that may have a <BOOL> says yes; alone it does."""
    if len(block.words) == 1 or block.words[1] in _YES:
        return True
    if block.words[1] in _NO:
        return False
    raise Unreadable(f"{block.name} is {shown(block.words[1])}.", "Write yes or no.")


def checks_of(block: Block, inherited: Mapping[str, str], draft: Draft) -> Iterator[HealthCheck]:
    """What one checker asks for: one check for each url or host in it, for all of them must answer."""
    kind, known = _KINDS[block.name]
    part_name, part_known = _PARTS.get(block.name, ("", set[str]()))
    own, parts = _settings(block, known, part_name, draft)
    if (needed := _NEEDED.get(block.name)) and needed not in own:
        raise Unreadable(f"{block.name} has no {needed}.", f"Give it a {needed}, or take it out.")
    if part_name == "url" and not parts:
        raise Unreadable(f"{block.name} has no url.", "Give it a url block with a path.")
    given = {name: value for name, value in inherited.items() if name in known or name == "alpha"} | own
    found = [_settings(part, part_known, "", draft)[0] for part in parts] or [{}]
    for settings in found:
        yield _check(block, kind, given | settings)


def _settings(
    block: Block, known: set[str], part_name: str, draft: Draft
) -> tuple[dict[str, str], list[Block]]:
    own: dict[str, str] = {}
    parts: list[Block] = []
    for child in block.inside or []:
        try:
            if child.name == part_name:
                parts.append(child)
            elif child.name not in known:
                raise Unreadable(f"{shown(child.name)} is nothing of {block.name}.", "Correct or remove it.")
            else:
                own["retry" if child.name == "nb_get_retry" else child.name] = setting(child)
            draft.mapped.add((child.file, child.line))
        except Unreadable as why:
            draft.refuse(child.line, why, child.file)
    return own, parts


def _check(block: Block, kind: str, given: dict[str, str]) -> HealthCheck:
    parameters = dict(given)
    if block.name in _UNTIMED:
        return HealthCheck(kind, parameters, line=block.line)
    interval = parameters.pop("delay_loop", "")
    timeout = parameters.pop("connect_timeout", "")
    retries = parameters.pop("retry", "")
    timeout_s = float(timeout) if timeout else DEFAULT_TIMEOUT_S
    return HealthCheck(
        kind,
        parameters,
        float(interval) if interval else DEFAULT_INTERVAL_S,
        _script_timeout(parameters) if kind == "script" else timeout_s,
        int(retries) if retries else _RETRIES.get(block.name, 1),
        block.line,
    )


def _script_timeout(parameters: dict[str, str]) -> float | None:
    given = parameters.pop("misc_timeout", "")
    return float(given) if _SECONDS.fullmatch(given) else None
