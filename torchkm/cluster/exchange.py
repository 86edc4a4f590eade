"""Ways out of an estimator, and back in: scikit-learn, modules, files, ONNX and faiss."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from torchkm.cluster import files, peers
from torchkm.cluster.kinds import tensor_of
from torchkm.functional.geometry import unit, uses_unit_rows
from torchkm.solvers import UpdateRule

if TYPE_CHECKING:
    from torchkm import nn


class Exchange(BaseEstimator):
    """For estimators that give each row to its nearest centroid, and know ``_counts`` of them."""

    _peer: ClassVar[Any]  # the class of scikit-learn whose place is taken
    _counts: Tensor

    def to_sklearn(self) -> Any:
        """Return the estimator of scikit-learn that has learnt the same.

        Its parameters are those that both know (``init='k-means||'``, which scikit-learn does
        not, becomes ``'k-means++'``), and its arrays are NumPy's.

        Returns
        -------
        fitted : sklearn.cluster.KMeans or sklearn.cluster.MiniBatchKMeans

        Examples
        --------
        >>> from torchkm.cluster import KMeans
        >>> KMeans(2, random_state=0).fit([[0.0], [1.0], [9.0]]).to_sklearn()
        KMeans(n_clusters=2, random_state=0)
        """
        return peers.to_peer(self, self._peer)

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """Return an estimator that has learnt what one of scikit-learn has.

        Parameters
        ----------
        fitted : sklearn.cluster.KMeans or sklearn.cluster.MiniBatchKMeans
            The class of the same name, fitted. Where it does not keep the weight of its clusters,
            each of its rows counts once.

        Returns
        -------
        estimator : KMeans or MiniBatchKMeans

        Examples
        --------
        >>> import sklearn.cluster, torchkm
        >>> theirs = sklearn.cluster.KMeans(2, random_state=0).fit([[0.0], [1.0], [9.0]])
        >>> torchkm.cluster.KMeans.from_sklearn(theirs).predict([[8.0]]) == theirs.predict([[8.0]])
        array([ True])
        """
        return peers.from_peer(cls, cls._peer, fitted)

    def to_module(self, rule: str | UpdateRule = "minibatch") -> nn.KMeans:
        """Return a ``torchkm.nn.KMeans`` with these centroids and the weight that each has seen.

        Parameters
        ----------
        rule : str or rule, default='minibatch'
            How further batches move the centroids; see ``torchkm.nn.KMeans``.

        Returns
        -------
        module : torchkm.nn.KMeans
            On the device of ``cluster_centers_``.

        Examples
        --------
        >>> import torch
        >>> from torchkm.cluster import KMeans
        >>> module = KMeans(1).fit(torch.tensor([[2.0], [4.0]])).to_module()
        >>> stats = module.update(torch.tensor([[6.0]]))
        >>> module.centroids
        tensor([[4.]])
        """
        from torchkm import nn

        check_is_fitted(self)
        centroids = tensor_of(self.cluster_centers_)
        counts = self._counts.to(centroids.device)
        return nn.KMeans.from_centroids(centroids, counts, rule=rule, metric=self.metric)

    @classmethod
    def from_module(cls, module: nn.KMeans, **params: Any) -> Self:
        """Return an estimator with the centroids of a module, ready to predict.

        Parameters
        ----------
        module : torchkm.nn.KMeans
            With centroids. They are copied.
        **params
            Of the estimator, but for ``n_clusters`` and ``metric``, which the module knows.

        Returns
        -------
        estimator : KMeans or MiniBatchKMeans
            Without ``labels_`` and ``inertia_``: no rows are known. Its arrays are tensors.

        Examples
        --------
        >>> import torch, torchkm
        >>> module = torchkm.nn.KMeans.from_centroids(torch.tensor([[0.0], [8.0]]))
        >>> torchkm.cluster.KMeans.from_module(module).predict([[1.0], [9.0]])
        array([0, 1], dtype=int32)
        """
        from torchkm.nn import KMeans as Module

        if not isinstance(module, Module):
            raise TypeError(f"module must be a torchkm.nn.KMeans, got a {type(module).__name__}")
        if not module.is_seeded:
            raise ValueError("module must have centroids: call its update(x) or seed(x) first")
        learnt = {
            "cluster_centers_": module.centroids.detach().clone(),
            "n_features_in_": module.n_features,
            "_counts": module.counts.detach().clone(),
        }
        return peers.teach(cls(n_clusters=module.k, metric=module.metric, **params), learnt)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the parameters and all that was learnt to a safetensors file.

        Parameters
        ----------
        path : str or path
            Of the file; one that is there is replaced. Functions and ``RandomState`` objects
            among the parameters are refused: a file holds numbers and names alone.

        Examples
        --------
        >>> import tempfile
        >>> from torchkm.cluster import KMeans
        >>> fitted = KMeans(2, random_state=0).fit([[0.0], [1.0], [9.0]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fitted.save(f"{folder}/kmeans.safetensors")
        ...     loaded = KMeans.load(f"{folder}/kmeans.safetensors")
        >>> loaded, loaded.n_iter_ == fitted.n_iter_
        (KMeans(n_clusters=2, random_state=0), True)
        """
        files.save(self, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Return the estimator that ``save`` wrote, without running anything from the file.

        Parameters
        ----------
        path : str or path
            Of a file that holds an estimator of this class.

        Returns
        -------
        estimator : KMeans or MiniBatchKMeans
            With NumPy arrays where such were saved, else with tensors on the CPU.
        """
        return files.load(cls, path)

    def to_onnx(self, path: str | PathLike[str] | None = None) -> Any:
        """Return ``predict`` and ``transform`` as an ONNX model, for any number of rows.

        The input ``X`` has the dtype of ``cluster_centers_``; the outputs are ``labels``, int64,
        and ``distances`` (not squared). Inside it is float64, as in ``transform``. Values are not
        checked: a row with NaN, or of zeros under ``metric='cosine'``, has no meaningful label.

        Parameters
        ----------
        path : str, path or None, default=None
            Where to write the model to.

        Returns
        -------
        model : onnx.ModelProto

        Examples
        --------
        >>> from torchkm.cluster import KMeans
        >>> model = KMeans(1).fit([[2.0], [4.0]]).to_onnx()
        >>> [output.name for output in model.graph.output]
        ['labels', 'distances']
        """
        check_is_fitted(self)
        from torchkm.cluster.onnx_graph import model_of

        model = model_of(tensor_of(self.cluster_centers_).cpu(), self.metric)
        if path is not None:
            Path(path).write_bytes(model.SerializeToString())
        return model

    def to_faiss(self) -> Any:
        """Return a faiss index of the centroids, to search or to quantise with.

        As the quantiser of ``faiss.IndexIVFFlat`` with ``nlist=n_clusters`` (under
        ``metric='cosine'`` with ``faiss.METRIC_INNER_PRODUCT``) it leaves nothing to train. faiss
        computes in float32 and does not shift rows: take a large common offset off before fitting.

        Returns
        -------
        index : faiss.IndexFlatL2, or faiss.IndexFlatIP of unit centroids under 'cosine'

        Examples
        --------
        >>> from torchkm.cluster import KMeans
        >>> KMeans(1).fit([[2.0], [4.0]]).to_faiss().ntotal  # doctest: +SKIP
        1
        """
        check_is_fitted(self)
        try:  # only here: it brings an OpenMP runtime that some systems take badly beside torch's
            import faiss
        except ImportError as error:
            raise ImportError('to_faiss needs faiss: pip install -e ".[faiss]"') from error
        centroids, unit_rows = tensor_of(self.cluster_centers_).cpu(), uses_unit_rows(self.metric)
        n_features = centroids.shape[1]
        index = faiss.IndexFlatIP(n_features) if unit_rows else faiss.IndexFlatL2(n_features)
        index.add((unit(centroids) if unit_rows else centroids).float().numpy())
        return index
