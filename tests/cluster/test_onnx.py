"""ONNX: onnxruntime gives the labels of ``predict`` and the distances of ``transform``."""

import numpy as np
import onnx
import onnxruntime
import pytest

from torchkm.cluster import KMeans, MiniBatchKMeans


def run(model, x):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(["labels", "distances"], {"X": x})


@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_and_distances(blobs, kind, metric, dtype):
    x = blobs.numpy().astype(dtype)
    fitted = kind(6, metric=metric, random_state=0).fit(x)
    model = fitted.to_onnx()
    onnx.checker.check_model(model, full_check=True)
    read = {name for node in model.graph.node for name in node.input}
    assert {constant.name for constant in model.graph.initializer} <= read
    for rows in (x, x[:1]):  # any number of rows
        labels, distances = run(model, rows)
        assert labels.dtype == np.int64
        assert distances.dtype == dtype
        assert np.array_equal(labels, fitted.predict(rows))
        wanted = fitted.transform(rows)
        assert distances.shape == wanted.shape
        np.testing.assert_allclose(distances, wanted, rtol=4 * np.finfo(dtype).eps, atol=1e-12)


@pytest.mark.parametrize(("dtype", "offset"), [(np.float32, 1e4), (np.float64, 1e10)])
def test_a_common_offset_cancels_nothing(blobs, dtype, offset):
    x = (blobs.numpy() + offset).astype(dtype)
    fitted = KMeans(6, random_state=0).fit(x)
    labels, distances = run(fitted.to_onnx(), x)
    assert np.array_equal(labels, fitted.labels_)
    exact = np.asarray(x, np.longdouble)[:, None] - np.asarray(
        fitted.cluster_centers_, np.longdouble
    )
    np.testing.assert_allclose(distances, np.sqrt((exact**2).sum(2)).astype(dtype), rtol=1e-6)


def test_rows_on_their_centroids(blobs):
    x = blobs.float().numpy()
    fitted = KMeans(600, init=x).fit(x)
    labels, distances = run(fitted.to_onnx(), x)
    assert np.array_equal(labels, np.arange(600))
    assert np.diag(distances).max() < 1e-6


def test_directions_of_any_length(blobs):
    x = blobs.numpy()
    fitted = KMeans(6, metric="cosine", random_state=0).fit(x)
    labels, distances = run(fitted.to_onnx(), np.concatenate([x * 1e-200, x * 1e200]))
    assert np.array_equal(labels, np.tile(fitted.labels_, 2))
    np.testing.assert_allclose(distances[:600], fitted.transform(x), rtol=1e-9)


def test_a_model_is_written_where_it_is_wanted(blobs, tmp_path):
    fitted = KMeans(6, random_state=0).fit(blobs)
    model = fitted.to_onnx(tmp_path / "kmeans.onnx")
    assert onnx.load(tmp_path / "kmeans.onnx") == model
    (given,) = model.graph.input
    assert given.name == "X"
    assert [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim] == ["n", 5]
