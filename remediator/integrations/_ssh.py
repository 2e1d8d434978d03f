"""Another machine as the settings name it, and the one command line it is ever sent over SSH."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator

from remediator.clock import Duration
from remediator.integrations._address import is_forbidden

_GUARDIAN = r"""
IFS= read -r n || exit 255
P=
while [ "$n" -gt 0 ]; do
  IFS= read -r l || exit 255
  P="$P$l
"
  n=$((n-1))
done
export P
exec 3<&0 4>&2 2>/dev/null
setsid /bin/sh -c 'p=$P; unset P; eval "$p"' </dev/null 3<&- 2>&4 4>&- &
c=$!
(
  exec >/dev/null 4>&-
  while read -r l; do :; done <&3
  kill -TERM "-$c"
  kill -CONT "-$c"
  sleep GRACE
  kill -KILL "-$c"
) &
w=$!
exec 3<&- 4>&-
wait "$c"
s=$?
kill -KILL "-$c"
kill "$w"
exit "$s"
"""
"""What _guardian.py is here, in the POSIX shell that every machine has. Standard input is the lifeline: when it ends,
because the connection was cut, the whole group of the program is ended. Its own text is constant: the program, its
arguments and its environment follow on standard input, so that no list of processes shows a secret."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def guardian(grace: float) -> str:
    """The one command line that is ever sent; it begins by forgetting the environment of the login."""
    text = _GUARDIAN.replace("GRACE", f"{grace:g}")
    return f"exec env -i PATH={_PATH} /bin/sh -c {shlex.quote(text)}"


def program(argv: Sequence[str], directory: str, environment: Mapping[str, str]) -> bytes:
    """The program as text for the guardian: every value is quoted (POSIX.1-2017, shell, 2.2.2) and so is only data."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    steps = [*exports, f"cd {shlex.quote(directory)} || exit 126", "unset OLDPWD", f"exec {shlex.join(argv)}"]
    lines = "\n".join(steps).split("\n")
    return "\n".join([str(len(lines)), *lines, ""]).encode()


class SSH(BaseModel):
    """How another machine is reached. Its host key must be known before; nothing is ever learnt on the way."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    host: str = Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9.:-]+$", description="Name or address.")
    port: int = Field(default=22, ge=1, le=65535, description="TCP port.")
    user: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$", description="Whom to log in as.")
    key_file: str = Field(
        pattern=r"^/", description="File with the private key, without a passphrase; read for every connection."
    )
    known_hosts_file: str = Field(
        pattern=r"^/", description="File with the host key (OpenSSH's known_hosts); any other key is refused."
    )
    connect_timeout: Duration = Field(
        default=10.0, gt=0, le=120, description="How long connecting and logging in may take."
    )

    @field_validator("host")
    @classmethod
    def _host(cls, host: str) -> str:
        if is_forbidden(host):
            raise ValueError(f"{host} is a link-local or metadata address, which is always refused")
        return host

    @property
    def place(self) -> str:
        """``user@host:port``, for messages."""
        return f"{self.user}@{self.host}:{self.port}"
