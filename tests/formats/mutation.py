"""Mistakes as people and editors make them, put into a text by a seed."""

from __future__ import annotations

from random import Random

_WORDS = (
    *(
        "{",
        "}",
        '"',
        "'",
        "#",
        "!",
        "\\",
        "[",
        "]",
        ":",
        "-",
        "=",
        ",",
        "&a",
        "*a",
        "!!int",
        "\t",
        "\r",
        "\0",
    ),
    *("0", "-1", "65536", "4294967296", "9" * 400, "1e9", "0x10", "NaN", "null", "true", "é", "٣", "\u2028"),
    *("192.0.2.1", "2001:db8::1", "[::1]:80", "10.0.0.1-9", "10.0.0.0/8", "shop.example", "group", "fwmark"),
    *(
        "virtual_server",
        "real_server",
        "$A",
        "${A}",
        "$A=$A",
        "@main",
        "~SEQ(A, 1, 9)",
        "include x",
        "-p",
        "-b",
    ),
)


def mutated(text: str, seed: int) -> str:
    """The text with one to five mistakes."""
    chance = Random(seed)
    lines = text.split("\n")
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(lines)) if lines else 0
        lines[at : at + 1] = _changed(lines[at] if lines else "", lines, chance)
    return "\n".join(lines)


def _changed(line: str, lines: list[str], chance: Random) -> list[str]:
    words = line.split(" ")
    at = chance.randrange(len(words))
    match chance.randrange(8):
        case 0:
            return []
        case 1:
            return [line, line]
        case 2:
            return [line, chance.choice(lines) if lines else ""]
        case 3:
            return [" ".join([*words[:at], chance.choice(_WORDS), *words[at + 1 :]])]
        case 4:
            return [" ".join([*words[:at], chance.choice(_WORDS), *words[at:]])]
        case 5:
            return [line[: chance.randrange(len(line) + 1)]]
        case 6:
            where = chance.randrange(len(line) + 1)
            return [line[:where] + chance.choice(_WORDS) + line[where:]]
        case _:
            return ["  " * chance.randrange(4) + line.lstrip()]
