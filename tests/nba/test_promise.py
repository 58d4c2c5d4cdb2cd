"""What `nba` promises to other code: these names, and that importing it is cheap."""

from __future__ import annotations

import subprocess
import sys

import nba

PROMISE = [
    "Context",
    "Decision",
    "DecisionRequest",
    "LoggedRounds",
    "NbaError",
    "Pack",
    "Policy",
    "PolicyRef",
    "Snapshot",
    "decide",
    "decide_many",
    "load_artefact",
    "load_pack",
    "read_facts",
    "read_records",
    "save_artefact",
]
HEAVY = (
    "ray",
    "torch",
    "feast",
    "mlflow",
    "redis",
    "gymnasium",
    "pandas",
    "pyarrow",
    "scipy",
    "typer",
    "rich",
    "pydantic",
)


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()


def test_the_promise_is_these_names_and_no_others() -> None:
    assert nba.__all__ == PROMISE
    assert all(hasattr(nba, name) for name in PROMISE)


def test_decide_is_the_function_and_not_its_module() -> None:
    assert in_a_fresh_process("import nba, nba.decide; print(callable(nba.decide))") == "True"


def test_importing_the_domain_brings_none_of_the_frameworks() -> None:
    code = f"import sys, nba; print([name for name in {HEAVY} if name in sys.modules])"
    assert in_a_fresh_process(code) == "[]"


def test_importing_the_domain_is_cheap_beside_numpy() -> None:
    """CPU time of this process alone, so that a busy machine does not matter much: 0.1 s where it is quiet."""
    code = (
        "import time, numpy, msgspec, yaml, safetensors.numpy; start = time.process_time(); "
        "import nba; print(time.process_time() - start)"
    )
    assert min(float(in_a_fresh_process(code)) for _ in range(3)) < 0.2
