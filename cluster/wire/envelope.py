"""Ed25519 envelopes: the whole message is signed, so that Redis can lose or delay one but not alter it.

Celery's own `auth` serializer signs the arguments alone; the task's name and expiry can be edited
in Redis and are believed. docs/decisions/0002.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

# Of the envelope and of what is signed; a side that knows another one says so instead of “forged”.
VERSION = "1"
# A table of 100,000 backends is about 9 MB of JSON. Nothing larger is ever parsed.
LARGEST_BODY = 16 * 1024 * 1024


# Only what has this form is ever repeated in a log: a stranger may have written it.
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


class Refused(Exception):
    """An envelope that must not be believed; the text says why in one sentence."""


class SigningKey:
    """The private half. `public` is the base64 text that the other side pins."""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = base64.b64encode(self._private.public_key().public_bytes_raw()).decode()

    @classmethod
    def load_or_create(cls, path: Path) -> SigningKey:
        """Read the 32-byte seed at `path`; make it first (mode 0400) where there is none."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        except FileExistsError:
            return cls(path.read_bytes())
        with open(descriptor, "wb") as file:
            file.write(os.urandom(32))
            file.flush()
            os.fsync(descriptor)
        return cls(path.read_bytes())

    def sign(self, kind: str, body: Mapping[str, Any]) -> dict[str, str]:
        """`{"version", "key": fingerprint, "body": text, "signature": base64}`, all text. `kind` (order,
        report, frame) and version are under the signature, so that a message of one kind can't be passed off
        as another; `key` only tells the other side which key to look for."""
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        signature = self._private.sign(_signed_bytes(kind, text))
        return {
            "version": VERSION,
            "key": fingerprint(self.public),
            "body": text,
            "signature": base64.b64encode(signature).decode(),
        }


def parse(text: str | bytes) -> object:
    """The envelope in a text; Refused where the text is not JSON or too long."""
    if len(text) > 2 * LARGEST_BODY:
        raise Refused("The message is too long.")
    try:
        parsed: object = json.loads(text)
        return parsed
    except (ValueError, RecursionError):
        raise Refused("The message is not JSON.") from None


def verify(envelope: object, kind: str, *, public: str) -> dict[str, Any]:
    """The body of a genuine envelope of this kind; Refused for every other thing."""
    if not isinstance(envelope, dict):
        raise Refused("The message is not an envelope.")
    text, signature = envelope.get("body"), envelope.get("signature")
    if not isinstance(text, str) or not isinstance(signature, str):
        raise Refused("The envelope has no body or no signature.")
    if envelope.get("version") != VERSION:
        raise Refused(f"The envelope has another version; this side knows version {VERSION}.")
    if len(text) > LARGEST_BODY:
        raise Refused(f"The message is larger than {LARGEST_BODY} characters.")
    _expect_key(envelope.get("key"), public)
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public, validate=True))
        key.verify(base64.b64decode(signature, validate=True), _signed_bytes(kind, text))
    except (InvalidSignature, ValueError):
        raise Refused("The signature is not that of the expected sender.") from None
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused("The signed text is not JSON.") from None
    if not isinstance(body, dict):
        raise Refused("The signed text is not an object.")
    return body


def unverified_body(envelope: object) -> dict[str, Any]:
    """The body before anybody vouches for it: only to learn *whose* key to check it against. Refused
    where there is none to read."""
    text = envelope.get("body") if isinstance(envelope, dict) else None
    if not isinstance(text, str) or len(text) > LARGEST_BODY:
        raise Refused("The envelope has no readable body.")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused("The envelope's body is not JSON.") from None
    if not isinstance(body, dict):
        raise Refused("The envelope's body is not an object.")
    return body


def fingerprint(public: str) -> str:
    """What two people compare aloud: `SHA256:` and 43 characters, as OpenSSH shows keys."""
    digest = hashlib.sha256(base64.b64decode(public)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _expect_key(claimed: object, public: str) -> None:
    """Refused, in words that tell a changed key from a forgery, where the sender names another key."""
    try:
        expected = fingerprint(public)
    except ValueError:
        raise Refused("The key that is expected here is not a key.") from None
    if claimed != expected:
        named = claimed if isinstance(claimed, str) and _FINGERPRINT.fullmatch(claimed) else "another key"
        raise Refused(f"The message is signed with {named}, and expected was {expected}.")


def _signed_bytes(kind: str, text: str) -> bytes:
    return f"lvsadmin {kind} {VERSION}\n{text}".encode()
