"""How numbers look in pages."""

from typing import Any

from django import template

register = template.Library()


@register.filter
def rate(value: float | None) -> str:
    """`0`, `0.5`, `12`, `3.4 k`: three figures are all that an eye compares."""
    return _short(value or 0.0, 1000, ["", "k", "M", "G"])


@register.filter
def size(value: float | None) -> str:
    """Bytes a second or in all: `0 B`, `1.5 KiB`."""
    return _short(value or 0.0, 1024, ["B", "KiB", "MiB", "GiB", "TiB"])


@register.filter
def percent(share: float) -> str:
    """`38 %` of 0.384; `0.4 %` where a whole number would say nothing."""
    return (
        f"{share:.1%}".replace(".0%", "%").replace("%", " %") if share < 0.1 else f"{share:.0%}"[:-1] + " %"
    )


@register.filter
def get(mapping: dict[str, Any], key: str) -> Any:
    """The value of a key that is not a template's literal."""
    return mapping.get(key)


@register.filter
def device(user_agent: str) -> str:
    """`Firefox on Linux`, as far as the browser says so. Those that pose as others come first."""
    browsers = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "Chrome": "Chrome", "Safari": "Safari"}
    systems = {"Android": "Android", "iPhone": "iPhone", "iPad": "iPad", "Windows": "Windows"}
    systems |= {"Mac OS X": "macOS", "CrOS": "ChromeOS", "Linux": "Linux"}
    browser = next((name for mark, name in browsers.items() if f"{mark}/" in user_agent), "")
    system = next((name for mark, name in systems.items() if mark in user_agent), "")
    return " on ".join(filter(None, [browser, system])) or user_agent[:40] or "unknown"


def _short(value: float, base: int, units: list[str]) -> str:
    unit = 0
    while value >= base and unit < len(units) - 1:
        value, unit = value / base, unit + 1
    digits = f"{value:.1f}" if 0 < value < 10 and value != int(value) else f"{value:.0f}"
    return f"{digits} {units[unit]}".strip()
