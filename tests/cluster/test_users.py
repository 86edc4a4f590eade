"""Code that people wrote against scikit-learn, with one import changed."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn import set_config
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris, make_blobs
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from torchkm.cluster import BisectingKMeans, KMeans, MiniBatchKMeans


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True, as_frame=True)


@pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans, BisectingKMeans])
def test_pipeline(iris, cls):
    X, y = iris
    pipeline = make_pipeline(StandardScaler(), PCA(2), cls(3, random_state=0))
    labels = pipeline.fit_predict(X)
    np.testing.assert_array_equal(labels, pipeline.predict(X))
    assert adjusted_rand_score(y, labels) > 0.5
    assert pipeline.transform(X).shape == (150, 3)
    names = pipeline.get_feature_names_out()
    assert list(names) == [f"{cls.__name__.lower()}{i}" for i in range(3)]


def test_distances_as_features_of_a_classifier(iris):
    X, y = iris
    model = make_pipeline(
        StandardScaler(), KMeans(10, random_state=0), LogisticRegression(max_iter=1000)
    )
    assert cross_val_score(model, X, y, cv=3).mean() > 0.9


def test_grid_search_over_k_and_init():
    X = make_blobs(200, 3, centers=4, cluster_std=0.3, random_state=0)[0]
    pipeline = Pipeline([("scale", StandardScaler()), ("cluster", KMeans(random_state=0))])
    grid = {"cluster__n_clusters": [2, 3, 4], "cluster__init": ["random", "k-means++"]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X)
    assert search.best_params_["cluster__n_clusters"] == 4
    by_silhouette = GridSearchCV(
        KMeans(random_state=0),
        {"n_clusters": [2, 3, 4, 5, 6]},
        scoring=lambda model, X: silhouette_score(X, model.predict(X)),
        cv=[(np.arange(200), np.arange(200))],
    ).fit(X)
    assert by_silhouette.best_params_ == {"n_clusters": 4}


def test_grid_search_in_processes(iris):
    X = iris[0].to_numpy()
    search = GridSearchCV(KMeans(random_state=0), {"n_clusters": [2, 3]}, cv=2, n_jobs=2).fit(X)
    alone = GridSearchCV(KMeans(random_state=0), {"n_clusters": [2, 3]}, cv=2).fit(X)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )


def test_cross_val_score(iris):
    scores = cross_val_score(KMeans(3, random_state=0), iris[0], cv=3)
    assert (scores < 0).all()


def test_column_transformer_and_feature_union(iris):
    X, _ = iris
    columns = ColumnTransformer(
        [
            ("sepal", KMeans(2, random_state=0), list(X.columns[:2])),
            ("petal", MiniBatchKMeans(3, random_state=0), list(X.columns[2:])),
        ]
    )
    assert columns.fit_transform(X).shape == (150, 5)
    assert list(columns.get_feature_names_out())[:2] == ["sepal__kmeans0", "sepal__kmeans1"]
    union = FeatureUnion([("near", KMeans(2, random_state=0)), ("pca", PCA(2))])
    assert union.set_output(transform="pandas").fit_transform(X).shape == (150, 4)


def test_clone_takes_parameters_and_leaves_what_was_learnt(iris):
    fitted = KMeans(3, random_state=0, refine=2, metric="cosine").fit(iris[0])
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "cluster_centers_")


def test_metadata_routing(iris):
    X = iris[0].to_numpy()
    weight = np.random.RandomState(0).rand(150)
    set_config(enable_metadata_routing=True)
    try:
        cluster = KMeans(3, random_state=0).set_fit_request(sample_weight=True)
        cluster.set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, cluster).fit(X, sample_weight=weight)
    finally:
        set_config(enable_metadata_routing=False)
    scaled = StandardScaler().fit_transform(X)
    alone = KMeans(3, random_state=0).fit(scaled, sample_weight=weight)
    np.testing.assert_array_equal(pipeline[-1].labels_, alone.labels_)
    assert not np.array_equal(
        alone.cluster_centers_, KMeans(3, random_state=0).fit(scaled).cluster_centers_
    )


def test_yellowbrick_finds_the_elbow():
    # In a process of its own: yellowbrick 1.5 warns of Matplotlib and distutils as it loads.
    code = """
import matplotlib
matplotlib.use("Agg")
from sklearn.datasets import make_blobs
from yellowbrick.cluster import KElbowVisualizer
from torchkm.cluster import KMeans, MiniBatchKMeans
corners = [[0, 0], [9, 0], [0, 9], [9, 9]]
X = make_blobs(300, centers=corners, random_state=1, cluster_std=0.5)[0]
for estimator, metric in ((KMeans(random_state=0), "distortion"),
                          (MiniBatchKMeans(random_state=0), "silhouette")):
    print(KElbowVisualizer(estimator, k=(2, 9), metric=metric, timings=False).fit(X).elbow_value_)
"""
    pytest.importorskip("setuptools")  # it asks for distutils
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.check_output(command, text=True).split() == ["4", "4"]
