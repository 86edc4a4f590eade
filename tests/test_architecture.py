"""What the folder list promises: imports run one way, and light doors stay light."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import torchkm

PACKAGE = Path(torchkm.__file__).parent

# Each layer, and the layers below that it may import.
MAY_IMPORT = {
    "kernels": set(),
    "functional": {"kernels"},
    "solvers": {"kernels", "functional"},
    "gradients": {"kernels", "functional", "solvers"},
    "nn": {"kernels", "functional", "solvers", "gradients"},
    "cluster": {"kernels", "functional", "solvers", "nn", "metrics", "plotting"},
    "metrics": {"functional"},
    "plotting": {"functional"},
    "lightning": {"functional", "solvers", "nn", "metrics", "plotting"},
}

# Third parties that only these layers may know.
ONLY_IN = {
    "pytorch_lightning": {"lightning"},
    "torchvision": {"lightning"},
    "tensorboard": {"lightning"},
    "sklearn": {"cluster", "lightning"},
    "torchmetrics": {"metrics"},
    "scipy": {"cluster", "metrics"},
    "matplotlib": {"plotting", "lightning"},
    "faiss": {"cluster"},
    "huggingface_hub": {"nn"},
    "onnx": {"cluster"},
    "safetensors": {"cluster"},
    "torch.distributed": set(),
    "triton": {"kernels"},
    "numba": {"kernels"},
}


def imports(path):
    """Every module name that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files():
    for path in sorted(PACKAGE.rglob("*.py")):
        layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if layer != "__init__":
            yield pytest.param(layer, path, id=str(path.relative_to(PACKAGE)))


def test_every_folder_is_a_layer():
    rooms = {p.stem for p in PACKAGE.iterdir() if not p.name.startswith("_")}
    assert rooms - {"py"} == set(MAY_IMPORT)  # py.typed is no room


@pytest.mark.parametrize(("layer", "path"), list(files()))
def test_imports_run_one_way(layer, path):
    names = set(imports(path))
    own = {n.split(".")[1] for n in names if n.startswith("torchkm.")} & set(MAY_IMPORT)
    assert own <= MAY_IMPORT[layer] | {layer}
    for party, allowed in ONLY_IN.items():
        known = any(n == party or n.startswith(f"{party}.") for n in names)
        assert not known or layer in allowed, f"{path} imports {party}"


@pytest.mark.parametrize(
    "module", ["torchkm", "torchkm.functional", "torchkm.nn", "torchkm.metrics", "torchkm.plotting"]
)
def test_light_doors_stay_light(module):
    heavy = ["pytorch_lightning", "torchvision", "torchmetrics", "sklearn", "scipy", "matplotlib"]
    heavy += ["faiss", "huggingface_hub", "onnx", "safetensors", "triton", "numba"]
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.strip() == "[]"


def public_modules():
    for info in pkgutil.walk_packages(torchkm.__path__, "torchkm."):
        yield info.name


@pytest.mark.parametrize("name", ["torchkm", *public_modules()])
def test_every_public_name_is_there(name):
    if name.startswith("torchkm.kernels.gpu."):
        pytest.importorskip("triton")
    if name.startswith("torchkm.kernels.compiled."):
        pytest.importorskip("numba")
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    for public in getattr(module, "__all__", ()):
        assert getattr(module, public) is not None


def test_unknown_attributes_are_named():
    with pytest.raises(AttributeError, match="module 'torchkm' has no attribute 'kmean'"):
        _ = torchkm.kmean
    with pytest.raises(AttributeError, match=r"module 'torchkm.metrics' has no attribute 'purity'"):
        _ = torchkm.metrics.purity


def test_each_file_has_one_reason_to_change():
    """The band that stays readable: beyond it, split the file."""
    lengths = {p.name: len(p.read_text().splitlines()) for p in PACKAGE.rglob("*.py")}
    assert {name: n for name, n in lengths.items() if n > 300} == {}
