"""The module that goes to a folder in the form of the Hugging Face Hub, offline."""

import importlib
import json
import sys

import pytest
import torch
from safetensors.torch import load_file

import torchkm
from torchkm.nn.hub import KMeans
from torchkm.solvers import RULES, Decay, Lloyd, MiniBatch


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def buffers(module):
    return {name: value.clone() for name, value in module.named_buffers()}


def equal(one, two):
    return all(
        torch.equal(value, two[name]) and value.dtype == two[name].dtype
        for name, value in one.items()
    )


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip(blobs, metric, dtype, generator, tmp_path):
    module = KMeans(6, 5, metric=metric, dtype=dtype, rule="minibatch-sqrt", init="random")
    for batch in blobs.split(200):
        module.update(batch, generator=generator)
    assert module.save_pretrained(tmp_path / "model") is None
    loaded = KMeans.from_pretrained(tmp_path / "model")
    assert isinstance(loaded, torchkm.nn.KMeans)
    assert equal(buffers(module), buffers(loaded))
    assert repr(loaded) == repr(module)
    assert torch.equal(loaded.predict(blobs), module.predict(blobs))
    loaded.update(blobs)  # goes on learning, does not seed again
    assert int(loaded.n_rows_seen) == 1200


def test_files_of_a_folder(blobs, tmp_path):
    module = KMeans(6, 5)
    module.update(blobs)
    module.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == buffers(module).keys()
    assert config_of(tmp_path) == {
        "k": 6,
        "n_features": 5,
        "rule": "minibatch",
        "init": "k-means++",
        "metric": "euclidean",
        "dtype": "float32",
    }
    assert "k-means" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("rule", [*RULES.values(), Decay(100.0), MiniBatch("sqrt"), Lloyd()])
def test_every_rule_comes_back(rule, tmp_path):
    KMeans(6, 5, rule=rule).save_pretrained(tmp_path)
    assert KMeans.from_pretrained(tmp_path).rule == rule


def test_given_centroids_come_back_as_init(blobs, tmp_path):
    KMeans(6, 5, init=blobs[:6]).save_pretrained(tmp_path)
    loaded = KMeans.from_pretrained(tmp_path, dtype=torch.float64)
    loaded.seed(blobs)
    torch.testing.assert_close(loaded.centroids, blobs[:6])


def test_the_dtype_is_that_of_the_centroids(blobs, tmp_path):
    module = KMeans(6, 5).double()
    module.update(blobs)
    module.save_pretrained(tmp_path)
    loaded = KMeans.from_pretrained(tmp_path)
    assert loaded.centroids.dtype == torch.float64
    assert equal(buffers(module), buffers(loaded))


def test_arguments_given_go_first(blobs, tmp_path):
    module = KMeans(6, 5)
    module.update(blobs)
    module.save_pretrained(tmp_path)
    loaded = KMeans.from_pretrained(tmp_path, rule="lloyd", dtype="float64", device="cpu")
    assert loaded.rule == Lloyd()
    assert loaded.centroids.dtype == torch.float64
    assert "device" not in config_of(tmp_path)


def test_from_centroids_is_of_this_class(blobs, tmp_path):
    module = KMeans.from_centroids(blobs[:6], torch.arange(6.0), rule=Decay(10))
    module.save_pretrained(tmp_path)
    loaded = KMeans.from_pretrained(tmp_path)
    assert equal(buffers(module), buffers(loaded))
    assert loaded.rule == Decay(10)


class Still(Lloyd):
    """A rule of somebody else."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": Still()}, "rule must be one of torchkm's to be saved"),
        ({"init": lambda x, k, generator: x[:k]}, "init must be a name or an array to be saved"),
    ],
)
def test_what_cannot_be_saved_is_named(arguments, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        KMeans(6, 5, **arguments).save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("arguments", [{"dtype": "float16"}, {"rule": {"adam": {}}}])
def test_bad_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} must be one of"):
        KMeans(6, 5, **arguments)


def test_what_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "torchkm.nn.hub")
    with pytest.raises(ImportError, match=r'pip install -e "\.\[hub\]"'):
        importlib.import_module("torchkm.nn.hub")
