"""Texts that fit where they go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remediator.excerpt import is_link, left_out, one_line, plain, shorten


@given(st.text(), st.integers(40, 200))
def test_a_shortened_text_fits_and_says_how_much_is_missing(text: str, limit: int) -> None:
    """Never longer than allowed; whole where it fits; otherwise what is kept and what is told add up."""
    made = shorten(text, limit)
    assert len(made) <= limit
    if len(text) <= limit:
        assert made == text
    else:
        kept, _, told = made.rpartition("… [")
        assert text.startswith(kept)
        missing = int(told.partition(" ")[0])
        assert text[: len(text) - missing].rstrip() == kept
        assert made.endswith(left_out(missing))


@given(st.text())
def test_nothing_invisible_stays(text: str) -> None:
    """One line is one line, and no character turns the direction of writing or hides."""
    assert len(one_line(text).splitlines()) <= 1
    assert not set(plain(text)) & set("\x00\x07\x1b\x7f\x85\u2028\u2029\u202e\u2066\ud800")


def test_links_are_web_addresses_and_nothing_besides() -> None:
    """What could leave the markup around it, or is no web address, is no link."""
    assert is_link("https://runbooks.example.com/minting?x=1&y=2#queue")
    for text in (
        "javascript:alert(1)",
        "https://",
        "https://a b",
        "https://a|b",
        "https://a>b",
        "ftp://x",
        "https://a\n",
    ):
        assert not is_link(text)
