"""A real OpenSSH server for tests: its own keys, a free port of loopback, one login, ended by its process id."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from remediator.integrations._ssh import SSH
from tests.servers import Server, free_port, program

_START = 10.0


class SshServer:
    """``sshd`` in the foreground. ``settings()`` is what a target needs to log in to it as who runs the tests."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="remediator-sshd-"))
        self.port = free_port()
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        for name in ("host", "user", "stranger"):
            key = self.directory / name
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
        self.write_known("host")
        (self.directory / "authorized").write_text((self.directory / "user.pub").read_text())
        configuration = self.directory / "sshd_config"
        configuration.write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.directory}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.directory}/authorized\nStrictModes no\nPasswordAuthentication no\n"
            "PermitRootLogin prohibit-password\nLogLevel VERBOSE\n"
        )
        if os.geteuid() == 0:
            # The folder into which sshd locks its children; Debian makes it when the service is started.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        log = self.directory / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program("sshd"), "-D", "-e", "-f", configuration],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.server = Server(name="sshd", url="", directory=self.directory, log=log, process=process)
        deadline = time.monotonic() + _START
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self.server.running, f"sshd ended\n{self.server.log_tail()}"
            assert time.monotonic() < deadline, f"sshd does not answer\n{self.server.log_tail()}"
            time.sleep(0.02)

    def write_known(self, key: str) -> None:
        """Make the host key named ``key`` the known one."""
        text = (self.directory / f"{key}.pub").read_text()
        (self.directory / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {text}")

    def settings(self, **others: Any) -> dict[str, Any]:
        """The ``ssh`` settings of a target."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": self.user,
            "key_file": str(self.directory / "user"),
            "known_hosts_file": str(self.directory / "known_hosts"),
            **others,
        }

    def ssh(self, **others: Any) -> SSH:
        """The same as the model."""
        return SSH.model_validate(self.settings(**others))

    def stop(self) -> None:
        """End the server; sessions end with their connections."""
        self.server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
