"""What scikit-learn asks of every estimator."""

import joblib
import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from torchkm.cluster import (
    BisectingKMeans,
    InvalidParameterError,
    KMeans,
    MiniBatchKMeans,
    k_means,
)

# The only two that scikit-learn's own k-means are excused from (its issue #16298): weights and
# repeated rows have other random draws.
_WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "draws differ from those of repeated rows",
    "check_sample_weight_equivalence_on_sparse_data": "draws differ from those of repeated rows",
}
# These checks have rows of zeros: cast to whole numbers, or sparse.
_DIRECTIONS = dict.fromkeys(
    [
        "check_estimators_dtypes",
        "check_estimator_sparse_tag",
        "check_estimator_sparse_array",
        "check_estimator_sparse_matrix",
    ],
    "a row of zeros has no direction",
)


def excused(estimator):
    return _WEIGHTS | (_DIRECTIONS if estimator.metric == "cosine" else {})


@parametrize_with_checks(
    [
        cls(n_clusters=2, metric=metric)
        for cls in (KMeans, MiniBatchKMeans, BisectingKMeans)
        for metric in ("euclidean", "cosine")
    ],
    expected_failed_checks=excused,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_estimator(estimator, check):
    check(estimator)


ROWS = np.random.RandomState(0).rand(60, 3)


@pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans, BisectingKMeans])
def test_flags_are_of_python_or_numpy(cls):
    flags = {"copy_x", "compute_labels"} & set(cls().get_params())
    for name in flags:
        cls(3, **{name: np.True_}).fit(ROWS)
        for bad in (1, None, "yes"):
            with pytest.raises(InvalidParameterError, match=f"{name} must be True or False, got"):
                cls(3, **{name: bad}).fit(ROWS)
    cls(3, verbose=np.False_).fit(ROWS)
    with pytest.raises(InvalidParameterError, match="verbose must be an integer"):
        cls(3, verbose="much").fit(ROWS)


def test_values_that_no_fit_can_use_are_named():
    for estimator, message in (
        (KMeans(2, random_state=2**32), "KMeans: random_state must be at most 4294967295, got"),
        (MiniBatchKMeans(2, reassignment_ratio=5), "reassignment_ratio must be at most 1, got 5"),
    ):
        with pytest.raises(InvalidParameterError, match=message):
            estimator.fit(ROWS)
    with pytest.raises(InvalidParameterError, match="k_means: return_n_iter must be True or False"):
        k_means(ROWS, 2, return_n_iter="yes")


@pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans, BisectingKMeans])
def test_joblib_tells_what_was_learnt_alike(cls):
    one, other = (cls(3, random_state=0).fit(ROWS) for _ in range(2))
    assert joblib.hash(one) == joblib.hash(other)
    assert joblib.hash(one) != joblib.hash(cls(3, random_state=0).fit(ROWS[1:]))
