#!/usr/bin/env python3
"""Check a JSON-lines export or segment of LVS Admin's audit log, with nothing of LVS Admin.

The chain needs Python's own library alone. Signatures need the package `cryptography`; where it is not
installed, this says that it has not checked them. Exit status: 0 good, 1 bad, 2 a wrong call.

    audit_verify_export.py FILE [--key PUBLIC] [--checkpoints FILE]

PUBLIC is what `manage.py audit_key` printed, kept where whoever could forge the file cannot reach it; without
it, the key that the file names is believed. The checkpoints of a file, one a line, are those of the panel, of
syslog, or of a director (`python -m cluster.director witness`).
"""

import argparse
import base64
import hashlib
import json
import sys

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    Ed25519PublicKey = None

FIRST = ["sequence", "at", "actor", "address", "request_id", "action", "target", "cluster", "cluster_uuid"]
FIRST += ["before", "after", "result", "reason", "previous_hash"]
SECOND = [*FIRST, "format", "role", "session", "object_kind", "object_id"]
COVERED = {1: FIRST, 2: SECOND}
encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
).encode


class Bad(Exception):
    pass


def check(path, key, others):
    """What was found, in words; Bad with the first thing that is wrong."""
    digest, count, gaps, whole = hashlib.sha256(), 0, 0, None
    after, before, head, end, signed, good = None, None, None, None, {}, 0
    for envelope in others:
        claim(signed, envelope)
    with open(path, encoding="utf-8") as file:
        for text in file:
            if end is not None:
                raise Bad("Something comes after the end of the file.")
            line = parsed(text, f"after entry #{after}" if after else "at its begin")
            kind = line.get("kind")
            if head is None:
                if kind != "audit-export" or line.get("version") != 1:
                    raise Bad("This is no export of an audit log that this program knows.")
                head, key = line, key or line.get("key")
                if whole := line.get("after"):
                    after, before, good = whole["sequence"], whole["hash"], whole["sequence"]
            elif kind == "checkpoint":
                claim(signed, line.get("envelope"))
            elif kind == "end":
                end = line
                continue
            else:
                if after is not None and line.get("sequence") != after + 1:
                    if whole or not isinstance(line.get("sequence"), int) or line["sequence"] <= after:
                        raise Bad(f"#{after + 1}: it is missing; #{line.get('sequence')} comes instead.")
                    gaps, before = gaps + 1, None
                entry(line, before)
                after, before, count = line["sequence"], line["hash"], count + 1
                for envelope in signed.pop(after, []):
                    at = agreed(envelope, before, key)
                    if at:
                        begin = good + 1 if whole else after
                        raise Bad(
                            f"#{begin}: from here to #{after} something is not what was signed at {at}."
                        )
                    good = after
            digest.update(text.encode())
    if end is None:
        raise Bad(f"#{(after or 0) + 1}: the file was cut off: it has no end.")
    said = body(end.get("envelope"), "audit-export", key)
    if said["entries"] != count or said["sha256"] != digest.hexdigest():
        raise Bad("The file is not what was signed at its end, though each entry has its own hash.")
    beyond = [number for number in signed if after is not None and number > after]
    if whole and others and beyond:
        raise Bad(f"#{after + 1}: the log ends before it; #{min(beyond)} was signed.")
    return count, gaps, good


def entry(line, before):
    number = line.get("sequence")
    covered = COVERED.get(line.get("format"))
    if covered is None or set(line) != {*SECOND, "hash"}:
        raise Bad(f"#{number}: it has not the fields of an entry.")
    if before is not None and line["previous_hash"] != before:
        raise Bad(f"#{number}: it does not follow the entry before it.")
    text = line["previous_hash"] + encode({name: line[name] for name in covered})
    if hashlib.sha256(text.encode()).hexdigest() != line["hash"]:
        raise Bad(f"#{number}: it does not have the content that it was written with.")
    if any(line[name] for name in SECOND if name not in covered and name != "format"):
        raise Bad(f"#{number}: it has a value where entries of its format have none.")


def parsed(text, place):
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    if not isinstance(line, dict):
        raise Bad(f"A line {place} is not an object of JSON.")
    return line


def claim(signed, envelope):
    try:
        number = json.loads(envelope["body"])["sequence"]
    except (ValueError, TypeError, KeyError):
        raise Bad("A checkpoint cannot be read.") from None
    signed.setdefault(number, []).append(envelope)


def agreed(envelope, hashed, key):
    """When something else was signed; nothing where the checkpoint agrees."""
    said = body(envelope, "audit-checkpoint", key)
    return "" if said["hash"] == hashed else said["at"]


def body(envelope, kind, key):
    """What an envelope says; Bad unless the key signed it, as far as that can be checked here."""
    try:
        text, signature = envelope["body"], base64.b64decode(envelope["signature"], validate=True)
        said = json.loads(text)
        if Ed25519PublicKey is not None:
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))
            public.verify(signature, f"lvsadmin {kind} {envelope['version']}\n{text}".encode())
    except (ValueError, TypeError, KeyError):
        raise Bad(f"A signed part ({kind}) cannot be read.") from None
    except InvalidSignature:
        raise Bad(f"A signed part ({kind}) is not signed with the key that is expected.") from None
    return said


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file")
    parser.add_argument("--key", help="the public key that is expected")
    parser.add_argument("--checkpoints", help="a file of checkpoints from elsewhere")
    chosen = parser.parse_args()
    try:
        others = []
        if chosen.checkpoints:
            with open(chosen.checkpoints, encoding="utf-8") as file:
                others = [parsed(line, "of the checkpoints") for line in file]
        count, gaps, good = check(chosen.file, chosen.key, others)
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    except Bad as bad:
        print(f"BAD {bad}")
        return 1
    print(f"good: {count} entries" + (f", the last checkpoint agrees at #{good}" if good else ""))
    if gaps:
        print(f"{gaps} gaps: a search left entries out, so nothing vouches for what is not here")
    if Ed25519PublicKey is None:
        print("signatures were NOT checked: install the package cryptography")
    elif not chosen.key:
        print("the key is the one that the file itself names: give --key to be sure who signed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
