"""A Redis whose machine is gone without a word, which needs a kernel that makes networks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]


def test_a_subscription_whose_server_is_gone_is_begun_anew(tmp_path):
    apart = ["unshare", "--net"]
    if subprocess.run([*apart, "iptables", "-L"], check=False, capture_output=True).returncode:
        pytest.skip("no network of its own can be made here")
    script = Path(__file__).with_name("lost_redis.py")
    environment = {**os.environ, "DATABASE_URL": "postgresql://nobody:x@127.0.0.1/nothing"}
    subprocess.run(
        [*apart, sys.executable, script, tmp_path / "valkey", "90"], check=True, env=environment, timeout=150
    )
