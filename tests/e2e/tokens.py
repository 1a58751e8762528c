"""Tokens as an attacker or an unlucky user would have them. Knows no keys."""

from __future__ import annotations

import base64
import json


def header(token: str) -> dict:
    return json.loads(_decoded(token.split(".")[0]))


def claims(token: str) -> dict:
    return json.loads(_decoded(token.split(".")[1]))


def unsigned(token: str) -> str:
    """The same claims, under alg `none`."""
    return f"{_encoded({'alg': 'none', 'typ': 'JWT'})}.{token.split('.')[1]}."


def altered(token: str, **changes) -> str:
    """Other claims under the same signature."""
    header, _, signature = token.split(".")
    return f"{header}.{_encoded({**claims(token), **changes})}.{signature}"


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _encoded(value: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
