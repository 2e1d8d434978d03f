"""Tests of secret files and sizes, which all integrations share."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations._secret import read_secret, redact
from remediator.integrations._size import Size
from remediator.redact import redact_text


def test_a_secret_is_read_anew_each_time(tmp_path: Path) -> None:
    """Writing a new secret into the file is enough to rotate it."""
    file = tmp_path / "token"
    file.write_text("first\n")
    assert read_secret(str(file), "bearer_token_file") == "first"
    file.write_text("second\n")
    assert read_secret(str(file), "bearer_token_file") == "second"


def test_a_secret_that_was_read_is_redacted_everywhere(tmp_path: Path) -> None:
    """From the moment it is read, the log and the audit know the secret by its value."""
    (tmp_path / "token").write_text("canary-of-a-target")
    read_secret(str(tmp_path / "token"), "bearer_token_file")
    assert redact_text("it said canary-of-a-target twice") == "it said [redacted] twice"


def test_a_missing_secret_names_the_setting(tmp_path: Path) -> None:
    """A file that is not there right now is a temporary error, because a rotation may be under way."""
    with pytest.raises(TemporaryError, match=r"bearer_token_file .*No such file"):
        read_secret(str(tmp_path / "none"), "bearer_token_file")


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe", b"x" * 70_000])
def test_what_cannot_be_a_secret_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    """Empty, binary and huge files are refused, and the message holds nothing of them."""
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(PermanentError) as caught:
        read_secret(str(file), "bearer_token_file")
    assert "xxx" not in str(caught.value)


def test_redaction_takes_the_longest_secret_first() -> None:
    """A secret that contains another one leaves no rest of itself behind."""
    assert redact(b"a=topsecretlong b=topsecret", ["topsecret", "topsecretlong"]) == b"a=[redacted] b=[redacted]"


def test_sizes_are_written_with_units() -> None:
    """64KiB is 65536 bytes, a number is bytes, and anything else is refused with an example."""
    adapter = TypeAdapter[int](Size)
    assert adapter.validate_python("64KiB") == 65536
    assert adapter.validate_python(10) == 10
    with pytest.raises(ValidationError, match="64KiB or 1MiB"):
        adapter.validate_python("lots")
