import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.mark.parametrize(
    ("capability", "limit", "every"),
    [
        (89, 101376, 4),
        pytest.param(80, 166912, 1, marks=pytest.mark.slow),
        pytest.param(89, 101376, 1, marks=pytest.mark.slow),
        pytest.param(90, 232448, 1, marks=pytest.mark.slow),
    ],
)
def test_kernels_compile_and_fit_into_shared_memory(capability, limit, every):
    """Also for a GPU with less than half of the shared memory that tiles were chosen for."""
    script = Path(__file__).parent / "compile.py"
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(script), *map(str, (capability, limit, every))]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    kernels = [line.split() for line in done.stdout.splitlines()]
    assert {"assign", "score_again", "add_sorted", "means", "decide", "step", "choose"} <= {
        name for name, _ in kernels
    }
    assert max(int(shared) for _, shared in kernels) <= limit
