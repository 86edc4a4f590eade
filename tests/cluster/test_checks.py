"""What scikit-learn asks of every estimator."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from torchkm.cluster import BisectingKMeans, KMeans, MiniBatchKMeans

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
