"""A hot standby of a PostgresServer, streaming from it, on a port of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import ConfigError
from ..fleet.embedded import ROLE, PostgresServer


@dataclass(slots=True)
class StreamingReplica(PostgresServer):
    """Copies `primary_port`'s server at its first start and follows it from then on, also after either was killed."""

    primary_port: int = 0

    def _create(self, binaries: Path, identity: Any) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        if identity.uid is not None:
            os.chown(self.data, identity.uid, identity.gid)
        copied = subprocess.run(
            [
                binaries / "pg_basebackup",
                *(
                    "--pgdata",
                    ".",
                    "--write-recovery-conf",
                    "--wal-method",
                    "stream",
                    "--checkpoint",
                    "fast",
                    "--no-sync",
                ),
                *("--host", "127.0.0.1", "--port", str(self.primary_port), "--username", ROLE),
            ],
            cwd=self.data,
            env={**os.environ, "PGPASSWORD": self.password},
            capture_output=True,
            text=True,
            check=False,
            **identity.popen,
        )
        if copied.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise ConfigError(f"The primary cannot be copied to {self.data}: {copied.stderr.strip()}")
