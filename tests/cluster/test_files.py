"""Files: what was saved comes back, and nothing else is let in."""

import json
import pickle
import sys

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from torchkm.cluster import KMeans, MiniBatchKMeans

BOTH = pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fitted.safetensors"


@BOTH
@pytest.mark.parametrize("as_kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_comes_back(blobs, kind, as_kind, dtype, path, same, agree):
    rows = as_kind(blobs.to(dtype))
    given = {"init": rows[:6], "metric": "cosine", "device": "cpu", "random_state": 0}
    fitted = kind(6, tol=np.float64(0.01), **given).fit(rows)
    fitted.save(path)
    loaded = kind.load(path)
    assert agree(loaded.set_params(tol=np.float64(0.01)), fitted)
    assert same(loaded.predict(rows), fitted.predict(rows))
    assert agree(loaded.fit(rows), fitted.fit(rows))


def test_streams_go_on(blobs, path):
    fitted = MiniBatchKMeans(6, random_state=0)
    for batch in blobs.split(100):
        fitted.partial_fit(batch)
    fitted.save(path)
    loaded = MiniBatchKMeans.load(path).partial_fit(blobs[:100])
    fitted.partial_fit(blobs[:100])
    assert torch.equal(loaded.cluster_centers_, fitted.cluster_centers_)
    assert torch.equal(loaded._counts, fitted._counts)
    assert loaded.n_steps_ == 7


def test_names_of_columns_come_back(blobs, path):
    frame = pl.DataFrame(blobs.numpy(), schema=list("abcde"))
    KMeans(3, random_state=0).fit(frame).save(path)
    loaded = KMeans.load(path)
    assert loaded.feature_names_in_.dtype == object
    assert loaded.feature_names_in_.tolist() == list("abcde")
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.predict(frame.select(list("edcba")))


def test_what_set_output_was_told_comes_back(blobs, path):
    frame = pl.DataFrame(blobs.numpy(), schema=list("abcde"))
    init = frame[:6]  # an init of numbers, whatever holds them
    fitted = KMeans(6, init=init, n_init=1).set_output(transform="polars").fit(frame)
    fitted.save(path)
    loaded = KMeans.load(path)
    assert loaded.transform(frame).equals(fitted.transform(frame))
    assert np.array_equal(loaded.init, init.to_numpy())


def test_lists_devices_and_views_are_saved(blobs, path):
    given = [[0.0, 1.0], [2.0, np.float64(3.0)]]
    KMeans(2, init=given, device=torch.device("cuda:1")).save(path)
    loaded = KMeans.load(path)
    assert (loaded.init, loaded.device) == (given, "cuda:1")
    assert not hasattr(loaded, "cluster_centers_")
    KMeans(3, init=blobs.numpy()[::200, ::-2]).save(path)  # neither contiguous nor forwards
    assert np.array_equal(KMeans.load(path).init, blobs.numpy()[::200, ::-2])


def test_arrays_of_other_kinds_become_numpy(blobs, path):
    import array_api_strict as xp

    rows = xp.asarray(blobs.numpy())
    fitted = KMeans(6, random_state=0).fit(rows)
    fitted.save(path)
    loaded = KMeans.load(path)
    assert isinstance(loaded.cluster_centers_, np.ndarray)
    assert np.array_equal(loaded.predict(blobs.numpy()), np.asarray(fitted.labels_))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("random_state", np.random.RandomState(0)),
        ("init", lambda X, n_clusters, random_state: X[:n_clusters]),
        ("tol", 1j),
        ("init", [[0.0, object()]]),
    ],
)
def test_what_cannot_be_written_is_named(path, name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be .* change it with set_params\({name}="):
        KMeans(1, **{name: value}).save(path)
    assert not path.exists()


def edited(path, **changes):
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    save_file(load_file(path), path, metadata={**header, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "pt"}, "must hold an estimator of torchkm.cluster, and does not"),
        ({"version": "2"}, "must be of format version 1, which this torchkm reads, got 2"),
        ({"estimator": "MiniBatchKMeans"}, "must hold a KMeans, got a MiniBatchKMeans"),
        ({"parameters": '{"gamma": 1}'}, "holds parameters that this torchkm does not have"),
        ({"parameters": "{"}, "is damaged"),
        ({"learnt": "[]"}, "is damaged"),
        ({"learnt": '{"labels_": {"array": "numpy", "tensor": "gone"}}'}, "is damaged"),
    ],
)
def test_other_files_are_refused(blobs, path, changes, message):
    KMeans(2, random_state=0).fit(blobs).save(path)
    edited(path, **changes)
    with pytest.raises(ValueError, match=rf"fitted.safetensors {message}"):
        KMeans.load(path)


def test_files_without_a_header_are_refused(path):
    save_file({"centroids": torch.zeros(2, 2)}, path)
    with pytest.raises(ValueError, match="must hold an estimator"):
        KMeans.load(path)
    with pytest.raises(FileNotFoundError):
        KMeans.load(path.with_name("missing"))
    with pytest.raises(ValueError, match=f"{path.parent} must be a safetensors file"):
        KMeans.load(path.parent)


class Bomb:
    def __reduce__(self):
        return sys.exit, ("a pickle ran",)


def test_a_pickle_is_refused_unread(path):
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="must be a safetensors file"):
        KMeans.load(path)


def test_a_file_cannot_replace_methods(blobs, path):
    KMeans(2, random_state=0).fit(blobs).save(path)
    edited(path, learnt=json.dumps({"fit": 1, "__class__": 2, "n_iter_": 3, "_checks": 4}))
    loaded = KMeans.load(path)
    assert loaded.n_iter_ == 3
    assert callable(loaded.fit)
    assert "_checks" not in vars(loaded)
