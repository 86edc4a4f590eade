"""scikit-learn's callbacks: told of each pass, shown the model as it stands, and obeyed."""

import io

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from torchkm.cluster import BisectingKMeans, KMeans, MiniBatchKMeans, PassBar

callback = pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")


@pytest.fixture(scope="module")
def digits():
    return load_digits().data


class Recorder:
    """Writes down what it is told."""

    def __init__(self, stop_at=None):
        self.stop_at, self.events, self.inertias, self.scores = stop_at, [], [], []

    def setup(self, estimator, context):
        self.events.append("setup")

    def on_fit_task_begin(self, estimator, context, *, X=None):
        self.events.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X=None, metadata=None, fitted_estimator=None):
        self.events.append(f"end {context.task_name}")
        if context.task_name != "pass":
            return None
        self.inertias.append(metadata["inertia"])
        self.scores.append(-fitted_estimator.score(X))
        return len(self.inertias) == self.stop_at

    def teardown(self, estimator, context):
        self.events.append("teardown")


@pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans, BisectingKMeans])
def test_each_pass_is_told(digits, cls):
    recorder = Recorder()
    cls(5, random_state=0).set_callbacks(recorder).fit(digits)
    assert recorder.events[:2] == ["setup", "begin fit"]
    assert recorder.events[-2:] == ["end fit", "teardown"]
    passes = recorder.events[2:-2]
    assert passes == ["begin pass", "end pass"] * (len(passes) // 2)
    assert len(passes) > 4


def test_the_model_is_shown_as_each_pass_leaves_it(digits):
    recorder = Recorder()
    fitted = KMeans(5, init=digits[:5]).set_callbacks(recorder).fit(digits)
    assert len(recorder.inertias) == fitted.n_iter_
    # A pass measures the centroids that the one before it left.
    np.testing.assert_allclose(recorder.scores[:-1], recorder.inertias[1:], rtol=1e-9)
    assert recorder.scores[-1] == pytest.approx(fitted.inertia_)


@pytest.mark.parametrize("init", ["k-means++", "array"])
@pytest.mark.parametrize("cls", [KMeans, MiniBatchKMeans])
def test_a_true_answer_ends_the_fit(digits, cls, init):
    recorder = Recorder(stop_at=2)
    init = digits[:30] if init == "array" else init
    fitted = cls(30, init=init, random_state=0).set_callbacks(recorder).fit(digits)
    assert len(recorder.inertias) == 2
    np.testing.assert_array_equal(fitted.labels_, fitted.predict(digits))


def test_a_fit_that_fails_still_tears_down(digits):
    class Fails(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("enough")

    recorder = Fails()
    estimator = KMeans(3, random_state=0).set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="enough"):
        estimator.fit(digits)
    assert recorder.events[-1] == "teardown"
    assert not hasattr(estimator, "cluster_centers_")


def test_a_pipeline_hands_its_progress_bar_down(digits, capsys):
    pytest.importorskip("rich")
    pipeline = make_pipeline(StandardScaler(), KMeans(4, random_state=0))
    pipeline.set_callbacks(callback.ProgressBar()).fit(digits)
    assert "KMeans" in capsys.readouterr().out


def test_the_bar_counts_passes_and_stays_quiet_without_a_terminal(digits, capsys):
    seen = io.StringIO()
    estimator = KMeans(4, init=digits[:4]).set_callbacks(PassBar(file=seen, disable=False))
    fitted = estimator.fit(digits)
    assert f"KMeans: {fitted.n_iter_}pass" in seen.getvalue()
    assert f"inertia={fitted.inertia_:.6g}" in seen.getvalue()
    estimator.set_callbacks(PassBar()).fit(digits)
    assert capsys.readouterr() == ("", "")


def test_without_callbacks_nothing_is_printed_or_kept(digits, capsys):
    estimator = KMeans(4, random_state=0).fit(digits)
    assert capsys.readouterr() == ("", "")
    assert not [name for name in vars(estimator) if "callback" in name]
