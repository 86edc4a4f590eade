"""Going in and out: scikit-learn, modules, faiss, copies and what a notebook shows."""

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
import sklearn.cluster
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import torchkm
from torchkm.cluster import KMeans, MiniBatchKMeans
from torchkm.solvers import Decay

BOTH = pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans])


@pytest.fixture
def x(blobs):
    return blobs.numpy()


def peer(kind):
    return getattr(sklearn.cluster, kind.__name__)


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_to_sklearn(x, kind, dtype):
    rows = x.astype(dtype)
    fitted = kind(6, random_state=3, tol=1e-3).fit(rows)
    theirs = fitted.to_sklearn()
    assert type(theirs) is peer(kind)
    assert theirs.get_params() == {name: getattr(fitted, name) for name in theirs.get_params()}
    assert theirs.cluster_centers_.dtype == dtype
    assert theirs.labels_.dtype == np.int32
    assert np.array_equal(theirs.labels_, fitted.labels_)
    assert (theirs.inertia_, theirs.n_iter_) == (fitted.inertia_, fitted.n_iter_)
    assert np.array_equal(theirs.predict(rows), fitted.predict(rows))
    np.testing.assert_allclose(theirs.transform(rows), fitted.transform(rows), rtol=1e-3)
    np.testing.assert_allclose(theirs.score(rows), fitted.score(rows), rtol=1e-5)
    assert theirs.get_feature_names_out().tolist() == fitted.get_feature_names_out().tolist()
    assert theirs.fit(rows).cluster_centers_.shape == (6, 5)


@BOTH
def test_from_sklearn_and_back(x, kind, same):
    theirs = peer(kind)(6, random_state=3, n_init=1).fit(x)
    mine = kind.from_sklearn(theirs)
    assert mine.get_params()["random_state"] == 3
    assert np.array_equal(mine.predict(x), theirs.predict(x))
    assert (mine.inertia_, mine.n_iter_) == (theirs.inertia_, theirs.n_iter_)
    back = vars(mine.to_sklearn())
    wanted = {n: v for n, v in vars(theirs).items() if n.endswith("_") or n == "_counts"}
    assert all(same(value, back[name]) for name, value in wanted.items())


@pytest.mark.parametrize("as_kind", [np.asarray, torch.as_tensor])
def test_what_goes_out_is_a_copy(x, as_kind):
    fitted = MiniBatchKMeans(6, random_state=0).fit(as_kind(x))
    before = pickle.dumps(fitted)
    fitted.to_sklearn().partial_fit(x)
    fitted.to_module().update(x)
    assert pickle.dumps(fitted) == before
    theirs = fitted.to_sklearn()
    centers = theirs.cluster_centers_.copy()
    MiniBatchKMeans.from_sklearn(theirs).partial_fit(x)
    assert np.array_equal(theirs.cluster_centers_, centers)


def test_batches_go_on_in_scikit_learn(x):
    fitted = MiniBatchKMeans(6, random_state=0, reassignment_ratio=0).fit(x)
    theirs = fitted.to_sklearn().partial_fit(x[:200])
    fitted.partial_fit(x[:200])
    np.testing.assert_allclose(theirs.cluster_centers_, fitted.cluster_centers_)
    assert theirs.n_steps_ == fitted.n_steps_


def test_batches_go_on_from_scikit_learn(x):
    theirs = sklearn.cluster.MiniBatchKMeans(6, random_state=0, reassignment_ratio=0)
    theirs.partial_fit(x[:300])
    mine = MiniBatchKMeans.from_sklearn(theirs)
    theirs.partial_fit(x[300:])
    mine.partial_fit(x[300:])
    np.testing.assert_allclose(mine.cluster_centers_, theirs.cluster_centers_)
    assert mine.n_steps_ == 2


def test_when_rare_clusters_are_looked_for_goes_along(x):
    fitted = MiniBatchKMeans(6, init=x[::100]).partial_fit(x[::20]).partial_fit(x[::30])
    theirs = fitted.to_sklearn()
    assert theirs._n_since_last_reassign == fitted._n_since > 0
    assert MiniBatchKMeans.from_sklearn(theirs)._n_since == fitted._n_since


@BOTH
def test_parameters_that_scikit_learn_does_not_take(x, kind):
    tensor = torch.from_numpy(x).float()
    theirs = kind(6, init=tensor[:6], device="cpu", precision="float32").fit(tensor).to_sklearn()
    assert isinstance(theirs.init, np.ndarray)
    assert theirs.fit(x).n_features_in_ == 5
    theirs = kind(6, init="k-means||", random_state=0).fit(x).to_sklearn()
    assert isinstance(theirs.init, str)
    assert theirs.init == "k-means++"


def test_names_of_columns_go_along(x):
    import pandas as pd

    frame = pd.DataFrame(x, columns=list("abcde"))
    theirs = KMeans(3, random_state=0).fit(frame).to_sklearn()
    assert theirs.feature_names_in_.tolist() == list("abcde")
    assert KMeans.from_sklearn(theirs).feature_names_in_.tolist() == list("abcde")
    with pytest.raises(ValueError, match="feature names should match"):
        theirs.predict(frame[list("edcba")])


@BOTH
def test_what_estimators_were_told_goes_along(x, kind):
    ours = kind(3, random_state=0).set_output(transform="pandas").fit(x)
    with sklearn.config_context(enable_metadata_routing=True):
        ours.set_fit_request(sample_weight=True)
    theirs = ours.to_sklearn()
    again = kind.from_sklearn(theirs)
    assert type(theirs.transform(x)) is type(again.transform(x)) is type(ours.transform(x))
    for other in (theirs, again):
        assert other.get_metadata_routing().fit.requests == {"sample_weight": True}
    theirs.set_output(transform="default")
    assert again.transform(x).shape == (len(x), 3)
    assert hasattr(again.transform(x), "columns")  # told on its own


@BOTH
def test_scikit_learn_is_refused_what_it_cannot_be(x, kind):
    with pytest.raises(ValueError, match=r"metric must be 'euclidean'.*got 'cosine'"):
        kind(3, metric="cosine", random_state=0).fit(x).to_sklearn()
    with pytest.raises(TypeError, match=rf"sklearn.cluster.{kind.__name__}, got a Birch"):
        kind.from_sklearn(sklearn.cluster.Birch())
    with pytest.raises(NotFittedError):
        kind.from_sklearn(peer(kind)())
    for way in ("to_sklearn", "to_module", "to_onnx", "to_faiss"):
        with pytest.raises(NotFittedError):
            getattr(kind(), way)()


@BOTH
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_to_module_and_back(blobs, kind, metric):
    fitted = kind(6, random_state=0, metric=metric).fit(blobs)
    module = fitted.to_module(rule=Decay(100))
    assert isinstance(module, torchkm.nn.KMeans)
    assert (module.metric, module.rule, module.centroids.dtype) == (metric, Decay(100), blobs.dtype)
    assert torch.equal(module(blobs).labels, fitted.predict(blobs))
    back = kind.from_module(module, max_iter=7)
    assert (back.n_clusters, back.metric, back.max_iter) == (6, metric, 7)
    assert torch.equal(back.predict(blobs), fitted.predict(blobs))
    assert back.predict(blobs.numpy()).dtype == np.int32
    assert back.n_features_in_ == 5
    assert not hasattr(back, "labels_")
    module.centroids.zero_()
    assert back.cluster_centers_.any()


@BOTH
def test_from_module_to_scikit_learn_and_back(blobs, kind):
    module = torchkm.nn.KMeans.from_centroids(blobs[::100])
    theirs = kind.from_module(module).to_sklearn()
    assert np.array_equal(theirs.predict(blobs.numpy()), module.predict(blobs).numpy())
    assert kind.from_sklearn(theirs).to_module().counts.tolist() == [0] * 6


def test_a_module_goes_on_with_what_rows_weighed(x, blobs, generator):
    weight = torch.rand(600, generator=generator, dtype=torch.float64)
    fitted = KMeans(6, random_state=0).fit(x, sample_weight=weight.numpy())
    module = fitted.to_module()
    counts = np.bincount(fitted.labels_, weight.numpy(), minlength=6)
    np.testing.assert_allclose(module.counts.numpy(), counts)
    module.update(blobs[:50])
    _, stats = torchkm.functional.assign_and_accumulate(
        blobs[:50], torch.from_numpy(fitted.cluster_centers_)
    )
    past = counts[:, None] * fitted.cluster_centers_
    wanted = (past + stats.sums.numpy()) / (counts + stats.counts.numpy())[:, None]
    np.testing.assert_allclose(module.centroids.numpy(), wanted)


def test_a_failed_fit_keeps_the_counts(x, monkeypatch):
    fitted = KMeans(6, random_state=0).fit(x)
    before = pickle.dumps(fitted)

    def fail(*_):
        raise RuntimeError("a callback failed")

    monkeypatch.setattr("torchkm.cluster.kmeans.Watcher.end", fail)
    with pytest.raises(RuntimeError, match="a callback failed"):
        fitted.fit(x[:100])
    assert pickle.dumps(fitted) == before


def test_a_stream_goes_on_from_a_module(blobs):
    module = MiniBatchKMeans(6, random_state=0).fit(blobs).to_module()
    fitted = MiniBatchKMeans.from_module(module, reassignment_ratio=0, random_state=0)
    module.update(blobs[:100])
    fitted.partial_fit(blobs[:100])
    torch.testing.assert_close(fitted.cluster_centers_, module.centroids)
    assert fitted.n_steps_ == 1


def test_modules_that_are_refused(x):
    with pytest.raises(ValueError, match=r"rule must be one of .* got 'foo'"):
        KMeans(2).fit(x).to_module("foo")
    with pytest.raises(ValueError, match="module must have centroids"):
        KMeans.from_module(torchkm.nn.KMeans(3, 2))
    with pytest.raises(TypeError, match=r"a torchkm.nn.KMeans, got a Linear"):
        KMeans.from_module(torch.nn.Linear(2, 2))


# In a process of its own: faiss brings another OpenMP runtime than torch.
FAISS = """
import faiss, numpy as np, warnings
from torchkm.cluster import KMeans
x = (np.random.RandomState(0).randn(200, 5) * 3 + 1).astype(np.float32)
for metric, number in (("euclidean", faiss.METRIC_L2), ("cosine", faiss.METRIC_INNER_PRODUCT)):
    fitted = KMeans(6, random_state=0, metric=metric).fit(x)
    index = fitted.to_faiss()
    assert (index.ntotal, index.d, index.metric_type) == (6, 5, number)
    assert (index.search(x, 1)[1][:, 0] == fitted.labels_).all()
    lists = faiss.IndexIVFFlat(index, 5, 6, number)
    assert lists.is_trained
    lists.add(x)
    sizes = [lists.invlists.list_size(j) for j in range(6)]
    assert sizes == np.bincount(fitted.labels_, minlength=6).tolist()
print("as predicted")
"""


def test_faiss_quantises_as_predict():
    assert subprocess.check_output([sys.executable, "-c", FAISS], text=True) == "as predicted\n"


@pytest.mark.parametrize("missing", ["faiss", "onnx"])
def test_what_is_missing_says_what_to_install(x, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "torchkm.cluster.onnx_graph", raising=False)
    fitted = KMeans(2, random_state=0).fit(x)
    with pytest.raises(ImportError, match=rf'pip install -e "\.\[{missing}\]"'):
        getattr(fitted, f"to_{missing}")()


@BOTH
@pytest.mark.parametrize("as_kind", [np.asarray, torch.as_tensor])
def test_copies(x, kind, as_kind, tmp_path, same, agree):
    rows = as_kind(x)
    fitted = kind(6, random_state=0).fit(rows)
    joblib.dump(fitted, tmp_path / "fitted.joblib")
    for twin in (
        pickle.loads(pickle.dumps(fitted)),
        copy.deepcopy(fitted),
        joblib.load(tmp_path / "fitted.joblib"),
    ):
        assert agree(twin, fitted)
        assert same(twin.predict(rows), fitted.predict(rows))
    bare = clone(fitted)
    assert bare.get_params() == fitted.get_params()
    assert not hasattr(bare, "cluster_centers_")


def test_clones_keep_given_centroids(x, agree):
    twin = clone(KMeans(6, init=torch.from_numpy(x[:6])))
    assert torch.equal(twin.init, torch.from_numpy(x[:6]))
    assert agree(twin.fit(torch.from_numpy(x)), KMeans(6, init=twin.init).fit(torch.from_numpy(x)))


@BOTH
@pytest.mark.parametrize("prefer", ["threads", "processes"])
def test_predicts_in_parallel(x, kind, prefer):
    fitted = kind(6, random_state=0).fit(x)
    parts = joblib.Parallel(n_jobs=2, prefer=prefer)(
        joblib.delayed(fitted.predict)(part) for part in np.array_split(x, 3)
    )
    assert np.array_equal(np.concatenate(parts), fitted.predict(x))


class ElsewhereTensor(torch.Tensor):
    """A tensor that says when it is brought to the CPU, as one on a GPU would be."""

    def cpu(self):
        return self.as_subclass(torch.Tensor) + 1


def test_pickles_hold_what_the_cpu_can_load(blobs):
    fitted = KMeans(6, random_state=0).fit(blobs)
    fitted.cluster_centers_ = fitted.cluster_centers_.as_subclass(ElsewhereTensor)
    twin = pickle.loads(pickle.dumps(fitted))
    assert type(twin.cluster_centers_) is torch.Tensor
    assert torch.equal(twin.cluster_centers_, fitted.cluster_centers_.as_subclass(torch.Tensor) + 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@BOTH
def test_what_was_learnt_on_a_gpu_goes_out(blobs, kind, tmp_path):
    fitted = kind(6, random_state=0).fit(blobs.cuda())
    twin = pickle.loads(pickle.dumps(fitted))
    fitted.save(tmp_path / "fitted.safetensors")
    loaded = kind.load(tmp_path / "fitted.safetensors")
    assert twin.cluster_centers_.device.type == loaded.cluster_centers_.device.type == "cpu"
    wanted = fitted.predict(blobs.cuda()).cpu()
    assert fitted.to_module().centroids.is_cuda
    assert torch.equal(fitted.to_module()(blobs.cuda()).labels.cpu(), wanted)
    for other in (twin, loaded, fitted.to_sklearn()):
        assert np.array_equal(other.predict(blobs.numpy()), wanted.numpy())


@BOTH
def test_a_notebook_shows_the_parameters(x, kind):
    estimator = kind(6, random_state=0)
    for shown in (estimator._repr_html_(), estimator.fit(x)._repr_html_()):
        assert kind.__name__ in shown
        for name in estimator.get_params():
            assert f'<td class="param">{name}</td>' in shown


@BOTH
def test_every_parameter_has_a_description_to_show(monkeypatch, kind):
    """scikit-learn shows them beside links to pages, of which there are none yet."""
    monkeypatch.setattr(kind, "_doc_link_module", "torchkm")
    monkeypatch.setattr(kind, "_doc_link_template", "https://example.org/{estimator_name}.html")
    shown = kind()._repr_html_()
    assert shown.count("param-doc-description") >= len(kind().get_params())
    assert "How the first centroids are found" in shown
