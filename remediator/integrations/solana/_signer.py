"""Who signs: a key in a file, behind a file descriptor, behind a command (KMS, HSM), or somebody elsewhere.

A secret key lives in one local variable of one function while it signs. It is in no attribute that has a repr, in no
exception and in no log.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import stat
from collections.abc import Sequence
from typing import Protocol

from remediator.errors import PermanentError, TemporaryError
from remediator.integrations.solana._units import unbase58

_LIMIT = 4096


class Signer(Protocol):
    """Signs messages of one address."""

    async def address(self) -> str:
        """The address that it signs for. Raises PermanentError, TemporaryError."""
        ...

    async def sign(self, message: bytes) -> bytes | None:
        """64 bytes; None where somebody else signs. Raises PermanentError, TemporaryError."""
        ...


class _Held:
    """Bytes that show themselves to nobody."""

    __slots__ = ("_bytes",)

    def __init__(self, data: bytes) -> None:
        self._bytes = data

    def __repr__(self) -> str:
        return "<held>"

    def reveal(self) -> bytes:
        """The bytes."""
        return self._bytes


# No function below both holds a key in a variable and raises: whoever prints a traceback with its local values, or the
# error that was handled (JSONDecodeError keeps the whole text), finds none.


def _parsed(text: bytes) -> _Held | None:
    """The 64 bytes of a keypair file of the Solana tools, a JSON list of numbers; None if it is none."""
    try:
        numbers = json.loads(text)
        data = bytes(numbers) if isinstance(numbers, list) else b""
    except (ValueError, TypeError, RecursionError):
        return None
    return _Held(data) if len(data) == 64 else None


def _signature(held: _Held, message: bytes) -> tuple[str, bytes] | None:
    """The address of a key and its signature; None if its two halves do not belong together."""
    from solders.keypair import Keypair

    try:
        pair = Keypair.from_seed(held.reveal()[:32])
    except ValueError:
        return None
    if bytes(pair.pubkey()) != held.reveal()[32:]:
        return None
    return str(pair.pubkey()), bytes(pair.sign_message(message))


def _checked(held: _Held | None, where: str) -> _Held:
    if held is None:
        raise PermanentError(f"{where} must hold a keypair: a JSON list of 64 numbers", reason="secret")
    return held


def _used(held: _Held, message: bytes, where: str) -> tuple[str, bytes]:
    found = _signature(held, message)
    if found is None:
        raise PermanentError(f"{where}: its two halves do not belong together", reason="secret")
    return found


class FileSigner:
    """A keypair file that only its owner, who is us, may read, and nobody may write: mode 0400. Read for every use."""

    def __init__(self, path: str) -> None:
        self._path = path

    def _read(self) -> _Held:
        where = f"keypair_file {self._path}"
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise TemporaryError(f"{where} cannot be read: {error.strerror}", reason="secret") from None
        try:
            told = os.fstat(descriptor)
            if not stat.S_ISREG(told.st_mode):
                raise PermanentError(f"{where} is no ordinary file", reason="secret")
            if told.st_uid != os.geteuid() or stat.S_IMODE(told.st_mode) != 0o400:
                raise PermanentError(f"{where} must belong to the user that runs Remediator and have mode 0400",
                                     reason="secret")  # fmt: skip
            held = _parsed(os.read(descriptor, _LIMIT))
        finally:
            os.close(descriptor)
        return _checked(held, where)

    async def address(self) -> str:
        """The address of the key."""
        return _used(self._read(), b"", "keypair_file")[0]

    async def sign(self, message: bytes) -> bytes:
        """Sign with the key as it is in the file now."""
        return _used(self._read(), message, "keypair_file")[1]


class DescriptorSigner:
    """A keypair that was handed over behind an open file descriptor: read once, then the descriptor is closed."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._held: _Held | None = None

    def _read(self) -> _Held:
        if self._held is None:
            where = f"keypair_fd {self._number}"
            try:
                with os.fdopen(self._number, "rb") as file:
                    held = _parsed(file.read(_LIMIT))
            except OSError as error:
                raise PermanentError(f"{where} cannot be read: {error.strerror}", reason="secret") from None
            self._held = _checked(held, where)
        return self._held

    async def address(self) -> str:
        """The address of the key."""
        return _used(self._read(), b"", "keypair_fd")[0]

    async def sign(self, message: bytes) -> bytes:
        """Sign with the key that was handed over."""
        return _used(self._read(), message, "keypair_fd")[1]


class CommandSigner:
    """A program that signs (a client of a KMS or HSM): the message in base64 on its input, a signature in base58 back.

    It gets no environment but PATH, no shell, and ``seconds`` of time.
    """

    def __init__(self, argv: Sequence[str], address: str, *, seconds: float) -> None:
        self._argv = list(argv)
        self._address = address
        self._seconds = seconds

    async def address(self) -> str:
        """The address of the settings; whether the program signs for it is seen at every signature."""
        return self._address

    async def sign(self, message: bytes) -> bytes:
        """Ask the program. What it writes to its standard error is not kept: it may hold anything."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                start_new_session=True,
            )
        except OSError as error:
            raise TemporaryError(f"the signer cannot be started: {error.strerror}", reason="signer") from None
        try:
            async with asyncio.timeout(self._seconds):
                answer, _ = await process.communicate(base64.b64encode(message) + b"\n")
        except TimeoutError:
            raise TemporaryError(f"the signer did not answer within {self._seconds:g} s", reason="signer") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0:
            raise TemporaryError(f"the signer ended with status {process.returncode}", reason="signer")
        try:
            return unbase58(answer[:200].decode("ascii").strip(), 64)
        except ValueError:
            raise PermanentError("the signer's answer is not a signature in base58", reason="signer") from None


class ExportSigner:
    """Somebody else signs: the transaction is kept unsigned, shown, and looked for on chain."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def address(self) -> str:
        """The address of the settings."""
        return self._address

    async def sign(self, message: bytes) -> None:
        """Nothing is signed here."""
        return
