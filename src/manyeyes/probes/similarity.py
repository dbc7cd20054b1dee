"""How alike two sets of features of the same pictures are: unbiased linear CKA, and that of sets.

    K_ij = <x_i, x_j>       A = K, U-centred: 0 on the diagonal, rows that sum to 0
    CKA(X, Y) = <A_X, A_Y> / (|A_X| |A_Y|)

<A_X, A_Y> / (n (n - 3)) is the estimate of HSIC without bias (Song et al. 2012, in the form of
Szekely and Rizzo 2014), and CKA of it is that of Nguyen et al. 2021: features of independent
pictures score 0 on average, whatever their width. The plain CKA of Kornblith et al. 2019 grows
with the width. Neither rotation, scale nor translation of a space changes it.

Shapes: n pictures, D width (each space its own), m spaces. Everything is float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

LEAST = 4
"""Pictures below which nothing can be estimated without bias."""
_FLAT = 1e-12
"""A Gram matrix that is smaller after centring, as a share of before, holds rounding alone."""


def gram(features: ArrayLike) -> FloatArray:
    """Return the inner products ``[n, n]`` of features ``[n, D]`` around their mean.

    Raises:
        ValueError: not a table of finite numbers.
    """
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError("features must be a table [pictures, width] of finite numbers")
    x = x - x.mean(axis=0)
    return x @ x.T


def u_centred(products: FloatArray) -> FloatArray:
    """Return inner products ``[n, n]`` with diagonal 0 and rows and columns that sum to 0.

    Raises:
        ValueError: fewer than ``LEAST`` pictures.
    """
    n = len(products)
    if n < LEAST:
        raise ValueError(f"similarity needs at least {LEAST} pictures, got {n}")
    rows = (products.sum(axis=1) - np.diagonal(products)) / (n - 2)
    centred = products - rows[:, None] - rows[None, :] + rows.sum() / (n - 1)
    np.fill_diagonal(centred, 0.0)
    return centred


def similarities(products: Sequence[FloatArray]) -> FloatArray:
    """Return the CKA ``[m, m]`` of every two spaces, from their inner products (see ``gram``).

    Raises:
        ValueError: too few pictures, or a space in which all of them lie at one point.
    """
    flat = [_direction(one) for one in products]
    table = np.stack(flat)
    return table @ table.T


def _direction(products: FloatArray) -> FloatArray:
    centred = u_centred(products).ravel()
    length = float(np.linalg.norm(centred))
    if length <= _FLAT * max(1e-300, float(np.linalg.norm(products))):
        raise ValueError("the features do not vary from picture to picture")
    return centred / length


def cka(one: ArrayLike, other: ArrayLike) -> float:
    """Return the unbiased linear CKA of features ``[n, D]`` and ``[n, D']`` of the same pictures.

    1 = the same up to rotation and scale; about 0 = nothing in common; it can be below 0.

    Raises:
        ValueError: see ``gram`` and ``similarities``.
    """
    return float(similarities([gram(one), gram(other)])[0, 1])


def set_score(similarity: FloatArray, members: Sequence[int], target: int) -> float:
    """Return how alike a set of encoders is to the target space, redundancy punished.

        score(S) = sum_e a_e / sqrt(sum_e sum_f r_ef)         a_e: CKA of e with the target
                 = k a / sqrt(k + k (k - 1) r)                r_ef: CKA of e with f, r_ee = 1

    with a and r the means over the k members and over their pairs. This *is* the unbiased CKA of
    the target with the members' features side by side, each scaled to |A_e| = 1. One encoder
    scores its own CKA; a copy of it adds nothing; one that has nothing in common with it but is as
    like the target multiplies the score by sqrt(2). The form is that of the merit of a set of
    features by Hall 1999 (correlation-based selection); that it is taken for encoders is ours.

    Args:
        similarity: CKA of all spaces, ``[m, m]``. members: of the set. target: the text's space.
    """
    chosen = list(members)
    with_target = float(similarity[chosen, target].sum())
    among = float(similarity[np.ix_(chosen, chosen)].sum())
    return with_target / np.sqrt(max(among, _FLAT))
