"""A local AWS Lambda on loopback: the Invoke API for boto3, and Python handlers really run, each in an environment of
its own: a child process with Amazon's own runtime client, `awslambdaric`.

    with LambdaSimulator() as aws:
        aws.add("waddlebot-weather", "def handler(event, context): return {'hello': event['name']}")
        aws.settings()  # the AWS_* environment of a router

Environments are kept and used again, as Lambda does: `cold_starts` counts those that were made. A handler that raises,
exits, runs too long or cannot be imported ends as it does there, with the same words.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib.util
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from .server import LoopbackServer, Reply, Request

REGION = "us-east-1"
ACCESS_KEY_ID = "AKIASIMULATED0000000"
SECRET_ACCESS_KEY = "simulated-secret-access-key"
ACCOUNT = "000000000000"
# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_PAYLOAD_BYTES = 6 * 1024 * 1024
INIT_TIMEOUT_S = 10.0
INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")
# By name, by part of its ARN or all of it, and with a version.
FUNCTION = re.compile(
    r"(?:(?:arn:aws[a-z-]*:lambda:[a-z0-9-]+:)?\d{12}:)?(?:function:)?([A-Za-z0-9_-]+)(?::(\$LATEST|[A-Za-z0-9_-]+))?"
)
LOG_TAIL_BYTES = 4096
RUNTIME = "/2018-06-01/runtime/"
SIGNATURE = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/[^,]+, SignedHeaders=([^,]+), Signature=([0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an environment made of one event."""

    body: bytes
    failed: bool = False
    log: str = ""

    @classmethod
    def error(cls, kind: str, message: str) -> Outcome:
        return cls(json.dumps({"errorType": kind, "errorMessage": message}).encode(), failed=True)


@dataclass(slots=True)
class Job:
    """One event for an environment."""

    body: bytes
    timeout_s: float
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    outcome: Future[Outcome] = field(default_factory=Future)

    def headers(self, function: str) -> dict[str, str]:
        return {
            "Lambda-Runtime-Aws-Request-Id": self.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + self.timeout_s) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": arn(function),
            "Lambda-Runtime-Trace-Id": f"Root=1-{self.request_id}",
        }


class Environment:
    """A child process that runs a handler, and the Runtime API that it asks for work.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
    """

    def __init__(self, name: str, folder: Path, handler: str) -> None:
        self._name = name
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._job: Job | None = None
        # None once the handler is imported, or what came of that instead.
        self._started: Future[Outcome | None] = Future()
        self._api = LoopbackServer(self._answer)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", handler],
            cwd=folder,
            env=self._environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._log = b""
        threading.Thread(target=self._read_log, daemon=True).start()
        threading.Thread(target=self._notice_exit, daemon=True).start()

    @property
    def is_usable(self) -> bool:
        return self._process.poll() is None and self._started.done() and self._started.result() is None

    def run(self, body: bytes, timeout_s: float) -> Outcome:
        began_at = time.monotonic()
        job = self._job = Job(body, timeout_s)
        outcome = self._run(job, timeout_s)
        took_ms = (time.monotonic() - began_at) * 1000
        told, self._log = self._log.decode(errors="replace"), b""
        words = (
            f"START RequestId: {job.request_id} Version: $LATEST\n{told}END RequestId: {job.request_id}\n"
            f"REPORT RequestId: {job.request_id}\tDuration: {took_ms:.2f} ms\tMemory Size: 128 MB\n"
        )
        return replace(outcome, log=words)

    def _run(self, job: Job, timeout_s: float) -> Outcome:
        try:
            failed = self._started.result(INIT_TIMEOUT_S)
            if failed:
                return failed
            self._jobs.put(job)
            return job.outcome.result(timeout_s)
        except TimeoutError:
            self._process.kill()
            self._process.wait()
            words = f"RequestId: {job.request_id} Error: Task timed out after {timeout_s:.2f} seconds"
            return Outcome.error("Sandbox.Timedout", words)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._jobs.put(None)
        self._api.stop()

    def _environment(self, folder: Path) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""),
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._api.port}",
            "AWS_LAMBDA_FUNCTION_NAME": self._name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_REGION": REGION,
            "LAMBDA_TASK_ROOT": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def _read_log(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self._log += line

    def _notice_exit(self) -> None:
        code = self._process.wait()
        how = f"exit status {code}" if code >= 0 else "signal: killed"
        request_id = self._job.request_id if self._job else ""
        words = f"RequestId: {request_id} Error: Runtime exited with error: {how}"
        ended = Outcome.error("Runtime.ExitError", words)
        _settle(self._started, ended)
        if self._job:
            _settle(self._job.outcome, ended)

    def _answer(self, request: Request) -> Reply:
        what = request.path.removeprefix(RUNTIME)
        if what == "invocation/next":
            _settle(self._started, None)
            job = self._jobs.get()
            return Reply(200, job.body, job.headers(self._name)) if job else Reply(0, hangs_up=True)
        if what == "init/error":
            _settle(self._started, Outcome(request.body, failed=True))
        elif self._job and what == f"invocation/{self._job.request_id}/response":
            _settle(self._job.outcome, Outcome(request.body))
        elif self._job and what == f"invocation/{self._job.request_id}/error":
            _settle(self._job.outcome, Outcome(request.body, failed=True))
        else:
            return Reply(404)
        return Reply(202, {"status": "OK"})


def _settle(future: Future[Any], value: object) -> None:
    with contextlib.suppress(InvalidStateError):  # It ended otherwise a moment before.
        future.set_result(value)


@dataclass(slots=True)
class Function:
    name: str
    folder: Path
    handler: str
    timeout_s: float
    concurrency: int
    cold_starts: int = 0
    busy: list[Environment] = field(default_factory=list)
    idle: list[Environment] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, body: bytes) -> Outcome | None:
        """Run one event in an environment that is free, or a new one. None when all that there may be are busy."""
        with self.lock:
            if len(self.busy) >= self.concurrency:
                return None
            if not self.idle:
                self.cold_starts += 1
                self.idle.append(Environment(self.name, self.folder, self.handler))
            environment = self.idle.pop()
            self.busy.append(environment)
        outcome = environment.run(body, self.timeout_s)
        with self.lock:
            self.busy.remove(environment)
            if environment.is_usable:
                self.idle.append(environment)
            else:
                environment.stop()
        if len(outcome.body) > MAX_PAYLOAD_BYTES:
            words = f"Response payload size exceeded maximum allowed payload size ({MAX_PAYLOAD_BYTES} bytes)."
            return Outcome.error("Function.ResponseSizeTooLarge", words)
        return outcome

    def stop(self) -> None:
        for environment in [*self.idle, *self.busy]:
            environment.stop()


class LambdaSimulator:
    """`runs` are the events that handlers were given, by function; `fail_next` breaks what comes."""

    def __init__(self, *, port: int = 0) -> None:
        self.runs: list[tuple[str, Any]] = []
        self.functions: dict[str, Function] = {}
        self._faults: list[int | str] = []
        self._port = port
        self._folder = Path(tempfile.mkdtemp(prefix="lambda-"))
        self._server: LoopbackServer | None = None

    def start(self) -> Self:
        """Raises: RuntimeError where Amazon's runtime client is missing, without which nothing would ever run."""
        if importlib.util.find_spec("awslambdaric") is None:
            raise RuntimeError("The simulated Lambda needs Amazon's runtime client: pip install awslambdaric")
        self._server = LoopbackServer(self._answer, port=self._port)
        return self

    def stop(self) -> None:
        if self._server:
            self._server.stop()
        for function in self.functions.values():
            function.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        assert self._server, "start it first"
        return self._server.url

    def settings(self) -> dict[str, str]:
        """The environment that points a router here."""
        return {
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_ENDPOINT_URL_LAMBDA": self.url,
        }

    def add(self, name: str, source: str, *, timeout_s: float = 3.0, concurrency: int = 10) -> Function:
        """Deploy a function: Python source with `handler(event, context)`. Again replaces it."""
        folder = self._folder / f"{name}-{uuid.uuid4().hex}"
        folder.mkdir()
        (folder / "main.py").write_text(source, encoding="utf-8")
        function = Function(name, folder, "main.handler", timeout_s, concurrency)
        if name in self.functions:
            self.functions[name].stop()
        self.functions[name] = function
        return function

    def fail_next(self, kind: int | str, times: int = 1) -> None:
        """Let the next calls end with this status without a run, or run and then `hang up`."""
        self._faults += [kind] * times

    def reset(self) -> None:
        self.runs.clear()
        self._faults.clear()

    def _answer(self, request: Request) -> Reply:
        invoked = INVOKE.fullmatch(request.path)
        if not invoked or request.method != "POST":
            return _refusal(404, "UnknownOperationException", "Unknown operation.")
        if not self._is_signed(request):
            return _refusal(403, "InvalidSignatureException", "The request signature we calculated does not match.")
        fault = self._faults.pop(0) if self._faults else None
        if isinstance(fault, int):
            return _fault(fault)
        named = FUNCTION.fullmatch(unquote(invoked[1]))
        if named is None:
            return _refusal(400, "ValidationException", "1 validation error detected: functionName")
        function = self.functions.get(named[1])
        if function is None or named[2] not in (None, "$LATEST"):
            return _refusal(404, "ResourceNotFoundException", f"Function not found: {arn(named[1])}")
        if len(request.body) > MAX_PAYLOAD_BYTES:
            words = f"Request must be smaller than {MAX_PAYLOAD_BYTES} bytes for the InvokeFunction operation"
            return _refusal(413, "RequestTooLargeException", words)
        try:
            event = request.json()
        except ValueError as err:
            return _refusal(400, "InvalidRequestContentException", f"Could not parse request body into json: {err}")
        reply = self._run(function, event, request)
        return Reply(0, hangs_up=True) if fault == "hang up" else reply

    def _run(self, function: Function, event: Any, request: Request) -> Reply:
        kind = request.headers.get("x-amz-invocation-type", "RequestResponse")
        if kind == "DryRun":
            return Reply(204)
        self.runs.append((function.name, event))
        if kind == "Event":
            threading.Thread(target=function.run, args=(request.body or b"{}",), daemon=True).start()
            return Reply(202)
        outcome = function.run(request.body or b"{}")
        if outcome is None:
            self.runs.remove((function.name, event))
            return _fault(429)
        headers = {"X-Amz-Executed-Version": "$LATEST"}
        if outcome.failed:
            headers["X-Amz-Function-Error"] = "Unhandled"
        if request.headers.get("x-amz-log-type") == "Tail":
            tail = outcome.log.encode()[-LOG_TAIL_BYTES:]
            headers["X-Amz-Log-Result"] = base64.b64encode(tail).decode()
        return Reply(200, outcome.body, headers)

    @staticmethod
    def _is_signed(request: Request) -> bool:
        """Sign the request again as the SDK does, and compare."""
        found = SIGNATURE.fullmatch(request.headers.get("authorization", ""))
        if not found or found[1] != ACCESS_KEY_ID:
            return False
        headers = {name: request.headers.get(name, "") for name in found[2].split(";")}
        again = AWSRequest(request.method, f"http://{headers['host']}{request.target}", headers, request.body)
        again.context["timestamp"] = headers.get("x-amz-date", "")
        signer = SigV4Auth(Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY), "lambda", REGION)
        text = signer.string_to_sign(again, signer.canonical_request(again))
        return bool(signer.signature(text, again) == found[3])


def arn(function: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"


def _fault(status: int) -> Reply:
    if status == 502:
        return _refusal(502, "EC2ThrottledException", "Lambda was throttled by Amazon EC2 during initialization.")
    if status == 409:
        return _refusal(409, "ResourceConflictException", "The operation cannot be performed at this time: Pending")
    if status == 429:
        return _refusal(429, "TooManyRequestsException", "Rate Exceeded.")
    return _refusal(status, "ServiceException", "An error occurred and the request cannot be processed.")


def _refusal(status: int, kind: str, words: str) -> Reply:
    who = "User" if status < 500 else "Service"
    return Reply(status, {"Type": who, "Message": words}, {"x-amzn-ErrorType": kind})


def main() -> None:
    parser = argparse.ArgumentParser(description="A local AWS Lambda on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--functions", type=Path, required=True, help="folder of Python files with handler(event, context)"
    )
    parser.add_argument("--prefix", default="waddlebot-", help="LAMBDA_FUNCTION_PREFIX, put before the files' names")
    given = parser.parse_args()
    with LambdaSimulator(port=given.port) as simulator:
        for path in sorted(given.functions.glob("*.py")):
            simulator.add(given.prefix + path.stem, path.read_text(encoding="utf-8"))
        for name, value in simulator.settings().items():
            print(f"{name}={value}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
