"""Digits as bags of visual words: a vocabulary learnt batch by batch, counts, a classifier.

    python docs/examples/words.py

draws the vocabulary to docs/gallery/words.png and prints how many digits are told apart by it.
The vocabulary is a step of a scikit-learn pipeline like any other, so a search can choose its size.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from torchkm.cluster import MiniBatchKMeans
from torchkm.plotting import centroid_grid

SIDE, PATCH = 8, 4
PICTURE = Path(__file__).parents[1] / "gallery" / "words.png"


class VisualWords(TransformerMixin, BaseEstimator):
    """Counts how often each word of a learnt vocabulary is seen in each quarter of a picture."""

    def __init__(self, n_words: int = 64, random_state: int | None = None) -> None:
        self.n_words = n_words
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: np.ndarray | None = None) -> Self:
        """Learn the vocabulary from pictures ``(n, 64)``, as they would come from a stream."""
        words = MiniBatchKMeans(self.n_words, random_state=self.random_state)
        for batch in np.array_split(X, max(1, len(X) // 200)):
            words.partial_fit(patches(batch).reshape(-1, PATCH * PATCH))
        self.words_ = words
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return counts ``(n, 4 n_words)``."""
        seen = patches(X)  # (n, 5, 5, 16)
        side = seen.shape[1]
        words = self.words_.predict(seen.reshape(-1, PATCH * PATCH)).reshape(-1, side, side)
        half = side // 2 + 1  # quarters share their middle
        quarters = [words[:, :half, :half], words[:, :half, -half:]]
        quarters += [words[:, -half:, :half], words[:, -half:, -half:]]
        one_hot = [np.eye(self.n_words)[q.reshape(len(X), -1)].sum(1) for q in quarters]
        return np.hstack(one_hot)


def patches(X: np.ndarray) -> np.ndarray:
    """Return all patches ``(n, 5, 5, 16)`` of pictures ``(n, 64)``."""
    windows = np.lib.stride_tricks.sliding_window_view(
        X.reshape(-1, SIDE, SIDE), (PATCH, PATCH), axis=(1, 2)
    )
    return windows.reshape(*windows.shape[:3], PATCH * PATCH)


def main(path: Path = PICTURE) -> None:
    """Choose the size of the vocabulary, classify digits that were held back, and draw it."""
    X, y = load_digits(return_X_y=True)
    train, test, train_y, test_y = train_test_split(X, y, random_state=0, stratify=y)
    pipeline = Pipeline(
        [
            ("words", VisualWords(random_state=0)),
            ("scale", StandardScaler()),
            ("classify", LogisticRegression(max_iter=2000)),
        ]
    )
    search = GridSearchCV(pipeline, {"words__n_words": [8, 64]}, cv=3).fit(train, train_y)
    words = search.best_estimator_["words"].words_
    order = np.argsort(words.cluster_centers_.sum(1))
    vocabulary = torch.from_numpy(words.cluster_centers_[order])
    figure = centroid_grid(vocabulary, (PATCH, PATCH), heading=f"{len(order)} visual words")
    figure.savefig(path, dpi=110)
    for n_words, score in zip((8, 64), search.cv_results_["mean_test_score"], strict=True):
        print(f"{n_words} words: {score:.3f} of the digits right, in cross-validation")
    print(f"held back: {search.score(test, test_y):.3f}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
