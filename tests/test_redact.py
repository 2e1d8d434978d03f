"""Proves that secrets are taken out by what they are, wherever they stand, and that innocent text stays."""

from __future__ import annotations

import time

import pytest

from remediator.redact import MASK, redact, redact_text, register_secret

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow+/=\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"token {JWT} end", f"token {MASK} end"),
        (f"key: {PEM}!", f"key: {MASK}!"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEow cut off", MASK),
        ("Authorization: Bearer abcdefgh12345678", f"Authorization: Bearer {MASK}"),
        ("authorization=basic dXNlcjpwYXNzd29yZA==", f"authorization=basic {MASK}"),
        ("postgres://app:hunter22@db:5432/x", f"postgres://app:{MASK}@db:5432/x"),
        ("paid with 4111 1111 1111 1111.", f"paid with {MASK}."),
        ("paid with 5500-0000-0000-0004", f"paid with {MASK}"),
    ],
)
def test_secrets_are_known_by_their_shape(text: str, left: str) -> None:
    """Tokens, keys, credentials in URLs and headers, and card numbers never leave as they are."""
    assert redact_text(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "minting-worker has 5 replicas",
        "4111 1111 1111 1112",
        "1795210614618000",
        "https://grafana.example.com/d/abc?from=1",
        "the bearer of this",
        "basic set",
        "01m0c4k5v8e7t2zq9x3w6r1n0p",
        "2026-11-20T21:36:54.618000Z",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ],
)
def test_innocent_text_stays(text: str) -> None:
    """Ids, digests, times, URLs and prose are not blacked out, or the audit could not be read."""
    assert redact_text(text) == text


def test_registered_secrets_are_found_anywhere_in_nested_data() -> None:
    """A token that was read from a file is masked in keys, values and lists, also inside longer text."""
    register_secret("tok-a1b2c3d4e5\n")
    register_secret("tok-a1b2c3d4e5-longer")
    data = {"a": ["x tok-a1b2c3d4e5 y", {"tok-a1b2c3d4e5-longer": 1}], "n": 3, "t": ("tok-a1b2c3d4e5",), "z": None}
    assert redact(data) == {"a": [f"x {MASK} y", {MASK: 1}], "n": 3, "t": [MASK], "z": None}


def test_short_words_cannot_be_registered() -> None:
    """A password of three letters would black out half of the log; it is not registered."""
    register_secret("run")
    assert redact_text("the run has succeeded") == "the run has succeeded"


@pytest.mark.parametrize(
    "piece",
    ["eyJ-", "eyJaaaaa.", "-----BEGIN PRIVATE KEY-----", "Bearer ", "a://", "a://b:", "4 ", "4111-", "Bearer\t\t\t"],
)
def test_hostile_text_is_read_in_linear_time(piece: str) -> None:
    """A megabyte that was made to confuse the patterns costs less than a second of the event loop."""
    text = piece * (1_000_000 // len(piece)) + "!"
    begin = time.perf_counter()
    redact_text(text)
    assert time.perf_counter() - begin < 1.5
