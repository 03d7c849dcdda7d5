"""What strangers would try from inside the fence, each of which fails here when it succeeds. The local host tries the
same at each start."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes.util
import errno
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from waddlebot.base.logs import AAALog
from waddlebot.module.package import pack, read_package
from waddlebot.sandbox import attacks, selftest
from waddlebot.sandbox.fence import CLONE3, FORMS, LOAD, MACHINES, check_kernel, compile_filter
from waddlebot.sandbox.host import Host
from waddlebot.sandbox.settings import HostSettings
from waddlebot.sandbox.worker import Call, Outcome

pytestmark = pytest.mark.timeout(60)


class Fenced:
    """A host's pool in this process, and what attacks go for."""

    def __init__(self, runner: asyncio.Runner, **settings: object) -> None:
        # Not pytest's, whose folders nobody else may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="waddlebot-fence-"))
        self.folder.chmod(0o711)
        self.runner = runner
        self.host = Host(HostSettings(**settings), self.folder, AAALog("modules", "1"))
        self.runner.run(self.host._template.start())

    def close(self) -> None:
        async def close() -> None:
            self.host.pool.close()

        self.runner.run(close())
        shutil.rmtree(self.folder)

    def run(self, source: str, *, hosts: str = "[]", **files: bytes) -> Outcome:
        """What comes of a handler, once."""
        manifest = selftest.MANIFEST.replace("hosts = []", f"hosts = {hosts}").encode()
        content = pack({"module.toml": manifest, "handler.py": source.encode(), **files})
        name = f"self_test:1.0.0:{read_package(content).sha256}"
        function = self.host._packages.unpack(name, content)

        async def run() -> Outcome:
            call = Call({"execution_id": "x"}, b'{"execution_id": "x"}', 5, "self_test")
            return await self.host.pool.run(function, 1, call)

        return self.runner.run(run())


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as running:
        yield running


@pytest.fixture(scope="module")
def fenced(runner):
    made = Fenced(runner)
    yield made
    made.close()


@pytest.fixture(scope="module")
def set_up(runner):
    decoys = selftest.decoys()
    yield runner.run(decoys.__aenter__())
    runner.run(decoys.__aexit__(None, None, None))


@pytest.mark.parametrize("name", [*attacks.ATTACKS, *attacks.ENDS])
def test_an_attack_is_refused_or_ended(fenced, set_up, runner, stack, name):
    """Beside the decoys: PostgreSQL and Valkey as they run here."""
    function = selftest.make_function(fenced.host._packages)
    real = [("127.0.0.1", stack.postgres.port), ("127.0.0.1", stack.valkey.port), ("127.0.0.1", 8000)]
    set_up.targets["tcp"] = [*set_up.targets["tcp"][:2], *real]

    tried = runner.run(selftest.try_attack(fenced.host.pool, function, name, set_up))

    assert tried.is_held, f"{name} came through: {tried.how}"


def test_an_attack_that_comes_through_keeps_the_host_down(fenced, runner, monkeypatch):
    """What must stay closed can be read here: that is found and named."""
    decoys = selftest.decoys

    @contextlib.asynccontextmanager
    async def readable():
        async with decoys() as set_up:
            set_up.targets["file"] = "/usr/share/zoneinfo/UTC"
            yield set_up

    monkeypatch.setattr(selftest, "decoys", readable)

    checked = runner.run(selftest.try_attacks(fenced.host.pool, fenced.host._packages, check_kernel()))

    assert checked.trouble.startswith("1 of")
    assert "read_a_file_that_all_may_read" in checked.trouble


def test_the_attacks_do_find_what_is_open():
    """Without a fence around it nearly every attack that can be made in a test comes through."""
    open_here = ["read_the_passwords", "open_other_sockets", "start_processes", "share_memory", "find_open_files"]
    script = (
        "import json, sys; from waddlebot.sandbox import attacks;"
        "print(json.dumps([attacks.handler({'attack': n, 'targets': {}}, None)['held'] for n in sys.argv[1:]]))"
    )

    found = subprocess.run(
        [sys.executable, "-c", script, *[n for n in open_here if n not in ("start_processes", "find_open_files")]],
        capture_output=True,
        text=True,
        check=True,
    )

    assert found.stdout.strip() == "[false, false, false]"


def test_ordinary_programs_work_inside(fenced):
    """Threads, asyncio, temporary memory, JSON, dates, zones, regular expressions, TLS contexts."""
    source = """
import asyncio, concurrent.futures, datetime, hashlib, json, random, re, sqlite3, ssl, statistics, threading, time, uuid
import zoneinfo

def handler(event, context):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        squares = list(pool.map(lambda n: n * n, range(10)))
    async def wait():
        await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(10)))
        return await asyncio.to_thread(lambda: "threads")
    done = asyncio.run(wait())
    when = datetime.datetime.now(zoneinfo.ZoneInfo("Europe/Berlin")).utcoffset()
    table = sqlite3.connect(":memory:").execute("select 6 * 7").fetchone()[0]
    ssl.create_default_context()
    assert isinstance(asyncio.run(wait()), str) and uuid.uuid4() and random.SystemRandom().random() < 1
    return f"{squares[-1]} {done} {when is not None} {table} {hashlib.sha256(b'x').hexdigest()[:4]}"
"""
    outcome = fenced.run(source)

    assert b"81 threads True 42 2d71" in outcome.body


@pytest.mark.parametrize(("name", "arch"), [("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)])
def test_system_calls_are_allowed_by_their_numbers_on_each_machine(name, arch):
    """As libseccomp has them; and not many, because each one more is one more that the kernel has to get right."""
    machine = MACHINES[name]
    assert (machine.audit, set(machine.forms)) == (arch, set(FORMS))
    assert len(machine.calls) < 90
    assert set(MACHINES["aarch64"].calls) < set(MACHINES["x86_64"].calls)
    program = compile_filter(machine.calls.values(), machine.conditions, audit=arch)
    allowed = {*machine.calls.values()}
    for number in {*range(470), 0x40000001}:
        if number not in machine.forms.values():
            verdict = run_filter(program, arch, number)
            assert (verdict == 0x7FFF0000) is (number in allowed), number
    assert run_filter(program, 0x40000003, 20) == 0x80000000, "32-bit programs"
    assert run_filter(program, arch, machine.forms["clone"], 0x00010100) == 0x7FFF0000
    assert run_filter(program, arch, machine.forms["clone"], 17) == run_filter(program, arch, 469) != 0x7FFF0000
    assert run_filter(program, arch, CLONE3) == 0x00050000 | errno.ENOSYS
    library = ctypes.util.find_library("seccomp")
    if library is None:
        pytest.skip("the numbers are compared with libseccomp's, which is not here")
    resolve = ctypes.CDLL(library).seccomp_syscall_resolve_name_arch
    for each, number in {**machine.calls, **machine.forms, "pivot_root": machine.pivot_root}.items():
        assert resolve(ctypes.c_uint32(arch), each.encode()) == number, each


def run_filter(program, arch, number, first=0):
    """What the kernel would make of a system call, by linux/filter.h."""
    data = struct.pack("=IIQQQQQQQ", number, arch, 0, first, 0, 0, 0, 0, 0)
    at, register = 0, 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("HBBI", program, 8 * at)
        if code == 0x06:
            return value
        at += 1
        if code == LOAD:
            register = struct.unpack_from("=I", data, value)[0]
        elif code == 0x54:
            register &= value
        else:
            at += if_true if (register == value if code == 0x15 else register >= value) else if_false


# The broker


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A server with a certificate for api.weather.test, and what trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=api.weather.test"),
            *("-addext", "subjectAltName=DNS:api.weather.test"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate.read_bytes()


FETCH = """
import pathlib, ssl, sys, urllib.request

def handler(event, context):
    trusted = ssl.create_default_context(cafile=str(pathlib.Path(__file__).parent / "ca.pem"))
    try:
        with urllib.request.urlopen("https://api.weather.test:{port}/", timeout=3, context=trusted) as page:
            return page.read().decode()
    except OSError as err:
        return f"{type(err).__name__}: {err}"
"""


@pytest.fixture
def resolver(monkeypatch):
    """Names as their owners may set them: all of .test leads to this machine."""
    look_up, asked = socket.getaddrinfo, []

    def answer(host, *rest, **more):
        asked.append(host)
        return look_up("127.0.0.1" if host.endswith(".test") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return asked


def serve(tls, runner):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsunny!")
        await writer.drain()
        writer.close()

    return runner.run(asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls[0]))


def test_a_declared_host_is_reached_with_tls_from_end_to_end(tls, runner, resolver):
    server = serve(tls, runner)
    port = server.sockets[0].getsockname()[1]
    fenced = Fenced(runner, egress_allow=[f"api.weather.test:{port}"])
    source = FETCH.replace("{port}", str(port))
    try:
        declared = fenced.run(source, hosts=f'["api.weather.test:{port}"]', **{"ca.pem": tls[1]})
        undeclared = fenced.run(source, hosts='["api.example.org"]', **{"ca.pem": tls[1]})
    finally:
        server.close()
        fenced.close()

    assert b"sunny!" in declared.body
    assert b"not among the hosts" in undeclared.body
    (first, second) = fenced.host.pool.records.values()
    assert (first.traffic.connections, second.traffic.connections) == (1, 0)
    assert first.traffic.received_bytes > 500
    assert dict(second.traffic.refused) == {f"api.weather.test:{port}": 1}


def test_a_declared_host_that_leads_inside_is_not_reached(tls, runner, resolver):
    """Whoever owns a name may have it lead to the router: what it leads to is looked at when it is connected to."""
    server = serve(tls, runner)
    port = server.sockets[0].getsockname()[1]
    fenced = Fenced(runner)
    try:
        source = FETCH.replace("{port}", str(port))
        outcome = fenced.run(source, hosts=f'["api.weather.test:{port}"]', **{"ca.pem": tls[1]})
    finally:
        server.close()
        fenced.close()

    assert b"no public address answers" in outcome.body


def test_a_name_that_was_not_declared_is_not_looked_up(fenced, resolver):
    """Or its owner would be told by the question what somebody here has said."""
    outcome = fenced.run(
        "import socket\ndef handler(event, context):\n"
        "    socket.create_connection(('the-secret-is-42.example.org', 443), timeout=2)\n"
    )

    assert b"not among the hosts" in outcome.body
    assert resolver == []
