"""Who signs: each way works, each wrong key is refused, and the key itself is seen nowhere."""

from __future__ import annotations

import io
import json
import os
import stat
import traceback
from pathlib import Path

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from remediator.errors import ActionError, PermanentError, TemporaryError
from remediator.integrations.solana._signer import CommandSigner, DescriptorSigner, FileSigner, Signer
from remediator.integrations.solana._units import base58

MESSAGE = b"a message that is not a transaction"


def _written(path: Path, text: str, mode: int = 0o400) -> str:
    path.write_text(text)
    os.chmod(path, mode)
    return str(path)


async def _signs(signer: Signer, pair: Keypair) -> None:
    assert await signer.address() == str(pair.pubkey())
    mark = await signer.sign(MESSAGE)
    assert mark is not None
    assert Signature.from_bytes(mark).verify(pair.pubkey(), MESSAGE)


async def test_a_file_of_its_owner_signs(tmp_path: Path) -> None:
    """A keypair file with mode 0400 signs, and a new key in it is used from then on."""
    pair = Keypair()
    path = _written(tmp_path / "key.json", json.dumps(list(bytes(pair))))
    signer = FileSigner(path)
    await _signs(signer, pair)
    other = Keypair()
    os.chmod(path, 0o600)
    _written(Path(path), json.dumps(list(bytes(other))))
    await _signs(signer, other)


@pytest.mark.parametrize("mode", [0o600, 0o440, 0o404, 0o444, 0o644, 0o500, 0o4400])
async def test_a_file_that_others_could_use_is_refused(tmp_path: Path, mode: int) -> None:
    """Any mode but 0400 is refused, with the words to put it right."""
    path = _written(tmp_path / "key.json", json.dumps(list(bytes(Keypair()))), mode)
    with pytest.raises(PermanentError, match="0400"):
        await FileSigner(path).sign(MESSAGE)


async def test_what_is_no_ordinary_file_is_refused(tmp_path: Path) -> None:
    """A pipe, a folder or nothing at all is no keypair file; a pipe does not even make us wait."""
    os.mkfifo(tmp_path / "pipe", 0o400)
    (tmp_path / "folder").mkdir(mode=0o400)
    for name in ("pipe", "folder", "nothing"):
        with pytest.raises(ActionError):
            await FileSigner(str(tmp_path / name)).address()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", "[1,2]", json.dumps([300] * 64), json.dumps(["a"] * 64), "[" * 3000, json.dumps([7] * 65)],
)
async def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    """Whatever else is in the file is refused, and no part of it is in the message."""
    path = _written(tmp_path / "key.json", text)
    with pytest.raises(PermanentError) as caught:
        await FileSigner(path).sign(MESSAGE)
    assert "64 numbers" in str(caught.value)


async def test_two_halves_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    """A file with the public key of another one would sign for an address that nobody checked."""
    data = bytes(Keypair())[:32] + bytes(Keypair().pubkey())
    path = _written(tmp_path / "key.json", json.dumps(list(data)))
    with pytest.raises(PermanentError, match="belong together"):
        await FileSigner(path).sign(MESSAGE)


async def test_a_descriptor_is_read_once_and_closed() -> None:
    """A key behind a pipe signs again and again, and the descriptor is gone after the first time."""
    pair = Keypair()
    reading, writing = os.pipe()
    os.write(writing, json.dumps(list(bytes(pair))).encode())
    os.close(writing)
    signer = DescriptorSigner(reading)
    await _signs(signer, pair)
    await _signs(signer, pair)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)
    with pytest.raises(PermanentError):
        await DescriptorSigner(reading).sign(MESSAGE)


_HSM = """#!{python}
import base64, json, os, sys
from solders.keypair import Keypair
assert sorted(os.environ) in (["PATH"], ["LC_CTYPE", "PATH"]), sorted(os.environ)
pair = Keypair.from_bytes(bytes(json.load(open({key!r}))))
print(pair.sign_message(base64.b64decode(sys.stdin.read())))
"""


async def test_a_program_signs(tmp_path: Path) -> None:
    """A client of an HSM gets the message and nothing of our environment, and its signature is taken."""
    import sys

    pair = Keypair()
    key = _written(tmp_path / "key.json", json.dumps(list(bytes(pair))))
    program = _written(tmp_path / "hsm", _HSM.format(python=sys.executable, key=key), 0o500)
    await _signs(CommandSigner([program], str(pair.pubkey()), seconds=20.0), pair)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("exit 3", TemporaryError),
        ("cat; exit 0", PermanentError),
        ("exec sleep 60", TemporaryError),
        ("yes 1 | head -c 100000", PermanentError),
        ("echo 11111111", PermanentError),
    ],
)
async def test_a_program_that_does_not_sign_is_no_signature(
    tmp_path: Path, body: str, error: type[ActionError]
) -> None:
    """A status, an echo, silence, or nonsense: refused, in the signer's time, and the program is gone."""
    program = _written(tmp_path / "hsm", f"#!/bin/sh\n{body}\n", 0o500)
    with pytest.raises(error):
        await CommandSigner([program], base58(b"\1" * 32), seconds=0.5).sign(MESSAGE)


async def _told_by_failing(path: str) -> str:
    """Everything that the failure of a key's file shows, with the values of every frame below this one."""
    with pytest.raises(PermanentError) as caught:
        await FileSigner(path).sign(MESSAGE)
    error = caught.value
    lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    return "".join(lines) + repr(error) + repr(error.__cause__) + repr(error.__context__)


async def test_the_key_is_seen_nowhere(tmp_path: Path) -> None:
    """In no repr, no message, no traceback with its local values, and in no attribute that shows itself."""
    pair = Keypair()
    text = json.dumps(list(bytes(pair)))
    path = _written(tmp_path / "key.json", text)
    reading, writing = os.pipe()
    os.write(writing, text.encode())
    os.close(writing)
    canaries = [str(pair), text, text[1:60], bytes(pair)[:32].hex(), repr(bytes(pair)[:32]), base58(bytes(pair)[:32])]
    seen = io.StringIO()
    for signer in (FileSigner(path), DescriptorSigner(reading)):
        await signer.sign(MESSAGE)
        seen.write(repr(signer) + repr(vars(signer)))
    broken = _written(tmp_path / "broken.json", text[:-1])
    shifted = _written(tmp_path / "shifted.json", json.dumps([*bytes(pair)[:63], bytes(pair)[63] ^ 1]))
    for wrong in (broken, shifted):
        seen.write(await _told_by_failing(wrong))
    for canary in canaries:
        assert canary not in seen.getvalue()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o400


def test_a_public_key_is_no_secret() -> None:
    """What is compared with the settings is the address, as the tools of Solana write it."""
    pair = Keypair()
    assert base58(bytes(pair.pubkey())) == str(pair.pubkey()) == str(Pubkey.from_bytes(bytes(pair.pubkey())))
