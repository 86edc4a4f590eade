"""Kinds in, same kinds out."""

import sys

import array_api_strict
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.datasets import load_iris

from torchkm.cluster import BisectingKMeans, KMeans, MiniBatchKMeans

ESTIMATORS = [KMeans, MiniBatchKMeans, BisectingKMeans]


@pytest.fixture(scope="module")
def iris():
    return load_iris().data


def fitted(cls, X, **kwargs):
    return cls(3, random_state=0).fit(X, **kwargs)


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_frames_and_lists_are_read_as_arrays(iris, cls):
    names = ["a", "b", "c", "d"]
    plain = fitted(cls, iris)
    frames = [pd.DataFrame(iris, columns=names), pl.DataFrame(iris, schema=names)]
    for frame in frames:
        of_frame = fitted(cls, frame)
        np.testing.assert_array_equal(of_frame.labels_, plain.labels_)
        assert isinstance(of_frame.predict(frame), np.ndarray)
        assert list(of_frame.feature_names_in_) == names
        assert of_frame.n_features_in_ == 4
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            of_frame.predict(iris)
    np.testing.assert_array_equal(fitted(cls, iris.tolist()).labels_, plain.labels_)


@pytest.mark.parametrize(("name", "frame"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)])
def test_set_output_names_the_columns(iris, name, frame):
    out = KMeans(3, random_state=0).set_output(transform=name).fit_transform(iris)
    assert isinstance(out, frame)
    assert list(out.columns) == ["kmeans0", "kmeans1", "kmeans2"]


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_tensors_stay_tensors(iris, cls, dtype):
    rows = torch.from_numpy(iris).to(dtype)
    one = fitted(cls, rows, sample_weight=torch.ones(150))
    other = fitted(cls, rows.numpy())
    for value in (one.cluster_centers_, one.labels_, one.predict(rows), one.transform(rows)):
        assert isinstance(value, torch.Tensor)
    assert one.labels_.dtype == torch.int64
    assert one.cluster_centers_.dtype == one.transform(rows).dtype == dtype
    np.testing.assert_array_equal(one.labels_, other.labels_)
    np.testing.assert_array_equal(one.cluster_centers_, other.cluster_centers_)
    assert isinstance(one.inertia_, float)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.uint8, torch.int64])
def test_tensors_of_any_dtype(iris, dtype):
    rows = (torch.from_numpy(iris) * 10).to(dtype)
    one = fitted(KMeans, rows)
    assert one.cluster_centers_.dtype == (torch.float64 if dtype == torch.int64 else torch.float32)
    assert torch.equal(one.labels_, one.predict(rows))


def test_a_tensor_never_passes_through_numpy(iris, monkeypatch):
    rows = torch.from_numpy(iris)
    monkeypatch.setattr(torch.Tensor, "__array__", None)
    seen = []
    numpy = torch.Tensor.numpy

    def spy(tensor):
        caller = sys._getframe(1).f_globals["__name__"]
        if not caller.startswith("torchkm.kernels"):  # these may look at memory through NumPy
            seen.append(tensor.data_ptr())
        return numpy(tensor)

    monkeypatch.setattr(torch.Tensor, "numpy", spy)
    fitted(KMeans, rows).predict(rows)
    assert rows.data_ptr() not in seen


def test_gradients_are_cut(iris):
    rows = torch.from_numpy(iris).requires_grad_()
    assert not fitted(KMeans, rows).transform(rows).requires_grad


@pytest.mark.parametrize("cls", ESTIMATORS)
def test_arrays_that_speak_dlpack_come_back_as_what_they_are(iris, cls):
    rows = array_api_strict.asarray(iris)
    one = fitted(cls, rows)
    for value in (one.cluster_centers_, one.labels_, one.predict(rows), one.transform(rows)):
        assert type(value) is type(rows)
    np.testing.assert_array_equal(
        torch.from_dlpack(one.labels_), fitted(cls, iris).labels_.astype(np.int64)
    )


class OnlyDLPack:
    """An array that can be handed over and nothing else."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **kwargs):
        return self.tensor.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


def test_without_a_namespace_dlpack_gives_tensors(iris):
    one = fitted(KMeans, OnlyDLPack(torch.from_numpy(iris)))
    assert isinstance(one.labels_, torch.Tensor)


def test_what_is_fitted_on_one_kind_predicts_any(iris):
    rows = torch.from_numpy(iris)
    of_numpy, of_torch = fitted(KMeans, iris), fitted(KMeans, rows)
    assert isinstance(of_numpy.predict(rows), torch.Tensor)
    assert isinstance(of_torch.predict(iris), np.ndarray)
    np.testing.assert_array_equal(of_numpy.predict(rows), of_torch.predict(iris))
    of_numpy.cluster_centers_ = of_numpy.cluster_centers_[::-1].copy()
    np.testing.assert_array_equal(of_numpy.predict(iris), 2 - of_torch.predict(iris))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X, t: KMeans(3).fit(t, sample_weight=np.ones(150)), "sample_weight .* NumPy"),
        (lambda X, t: KMeans(3).fit(X, sample_weight=torch.ones(150)), "sample_weight .* torch"),
        (lambda X, t: KMeans(3, init=X[:3]).fit(t), "init must be of the kind of X"),
        (lambda X, t: KMeans(3, init=t[:3]).fit(X), "init must be of the kind of X"),
        (lambda X, t: KMeans(3).fit(X).score(t, sample_weight=X[:, 0]), "sample_weight"),
    ],
)
def test_kinds_that_are_mixed_are_named(iris, call, message):
    with pytest.raises(TypeError, match=message):
        call(iris, torch.from_numpy(iris))


def test_lists_go_with_any_kind(iris):
    rows = torch.from_numpy(iris)
    assert KMeans(3, init=iris[:3].tolist()).fit(rows).labels_.shape == (150,)
    assert KMeans(3).fit(rows, sample_weight=[1.0] * 150).labels_.shape == (150,)


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.zeros(2, 3, 4), torch.zeros(0, 4)])
def test_tensors_of_a_wrong_shape_are_named(bad):
    with pytest.raises(ValueError, match=r"2D array|n_samples=0"):
        KMeans(1).fit(bad)


def test_tensors_of_a_wrong_width_or_value_are_named(iris):
    rows = torch.from_numpy(iris)
    one = fitted(KMeans, rows)
    with pytest.raises(ValueError, match="X has 3 features, but KMeans is expecting 4"):
        one.predict(rows[:, :3])
    with pytest.raises(ValueError, match="1 of 150 rows hold NaN"):
        fitted(KMeans, rows.index_fill(0, torch.tensor([3]), float("nan")))
    with pytest.raises(TypeError, match="complex64"):
        fitted(KMeans, rows.to(torch.complex64))


def test_device_is_where_it_is_computed_and_not_what_is_given_back(iris):
    one = KMeans(3, random_state=0, device="cpu").fit(iris)
    assert isinstance(one.labels_, np.ndarray)
    np.testing.assert_array_equal(one.labels_, fitted(KMeans, iris).labels_)


class View(np.ndarray):
    """An array as other libraries make a class of their own of it."""


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize("rows", [lambda X: X, lambda X: X[::-1], lambda X: X.astype(">f8")])
def test_classes_of_others_that_are_arrays_of_numpy(iris, cls, rows):
    plain = rows(iris)
    weight = np.arange(len(iris)) % 3
    found = fitted(cls, plain.view(View), sample_weight=weight.view(View))
    want = fitted(cls, plain, sample_weight=weight)
    assert type(found.labels_) is type(found.cluster_centers_) is np.ndarray
    assert found.labels_.dtype == np.int32
    np.testing.assert_array_equal(found.cluster_centers_, want.cluster_centers_)


def test_objects_and_wide_numbers_are_read_as_numbers(iris):
    init, weight = iris[:3], np.arange(len(iris)) % 3 + 1.0
    want = KMeans(3, init=init, n_init=1).fit(iris, sample_weight=weight).labels_
    for given in (
        pd.DataFrame(init).astype("Float64"),
        pd.DataFrame({0: init[:, 0]}).assign(**dict(zip("abc", init[:, 1:].T, strict=True))),
        init.astype(object),
        init.astype(np.longdouble),
        [[str(number) for number in row] for row in init],
    ):
        for weights in (weight, weight.astype(object), pd.Series(weight).astype("Int64")):
            found = KMeans(3, init=given, n_init=1).fit(iris, sample_weight=weights)
            np.testing.assert_array_equal(found.labels_, want)
    with pytest.raises(ValueError, match=r"sample_weight must be an array of numbers: .*'many'"):
        KMeans(3).fit(iris, sample_weight=["many"] * len(iris))
    with pytest.raises(ValueError, match="init must be an array of numbers: "):
        KMeans(3, init=[[1.0], [2.0, 3.0]], n_init=1).fit(iris)


@pytest.mark.parametrize("cls", ESTIMATORS)
@pytest.mark.parametrize(
    "method", ["fit", "fit_predict", "fit_transform", "predict", "transform", "score"]
)
def test_messages_call_the_rows_by_the_name_of_the_parameter(iris, cls, method):
    bad = iris.copy()
    bad[7, 2] = np.nan
    estimator = fitted(cls, iris)
    with pytest.raises(ValueError, match=r"^X must be finite: 1 of 150 rows"):
        getattr(estimator, method)(bad)
    bad[7] = 0
    estimator = cls(3, metric="cosine", random_state=0).fit(iris)
    with pytest.raises(ValueError, match="1 of 150 rows of X are all zero, the first is row 7"):
        getattr(estimator, method)(bad)
