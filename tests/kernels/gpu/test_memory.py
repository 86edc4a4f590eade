import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

SCRIPT = Path(__file__).parent / "small_run.py"

# What each tool says where it found nothing.
CLEAN = {
    "memcheck": "ERROR SUMMARY: 0 errors",
    "racecheck": "RACECHECK SUMMARY: 0 hazards displayed",
}


@pytest.mark.gpu
@pytest.mark.parametrize("tool", CLEAN)
def test_kernels_keep_to_their_memory(tool):
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:  # it comes with CUDA's toolkit, which torch does not need
        pytest.skip("compute-sanitizer is not installed")
    # Each tensor in an allocation of its own, or memory beyond it would pass for another's.
    env = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    # Asking whether memory is pinned is answered by an error, which torch expects.
    command = [sanitizer, "--tool", tool, "--error-exitcode", "1"]
    command += ["--report-api-errors", "no"] if tool == "memcheck" else []
    done = subprocess.run(
        [*command, sys.executable, str(SCRIPT)], env=env, capture_output=True, text=True
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-3000:]
    assert "done\n" in told
    assert CLEAN[tool] in told


def test_what_a_checker_looks_at_runs():
    command = [sys.executable, "-W", "ignore::RuntimeWarning", str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-3000:]
