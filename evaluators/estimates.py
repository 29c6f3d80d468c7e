"""What networks are worth behind the noise of their trainings: estimates, ranks, fronts.

A network's score is its worth plus the luck of its seed. Networks vary around what their
covariates say by `A` points, seeds by `s` around each network: the model of Fay and Herriot (1979),
    mean of k_i scores ~ N(theta_i, s^2 / k_i),    theta_i ~ N(x_i' beta, A^2).
With beta and A^2 under flat priors, whose intervals cover in the long run too (Morris 1983), and s
under what its degrees of freedom leave open, theta is a mixture of normals over a grid of (A, s):
exact but for the grid, and sound where A is near 0, where a plug-in of its estimate would call all
networks equal and be sure of it.
Everything that is random draws theta from that mixture, all networks of a draw together, since
they share A, s and beta. Scores are points (100 x share) and more is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]

BETWEEN = 160
"""Values of A, in equal ratios of some 6 %: finer than 100 networks can tell A."""

DEVIATIONS = 9
"""Values of s, of equal probability, where its degrees of freedom are given."""

TAIL = 0.025
"""Each side of a 95 % interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """How much of the differences between networks is noise, at one training each."""

    seed_sd: float
    """Points between trainings of one network."""
    freedom: int
    """Degrees of freedom behind `seed_sd`."""
    between_sd: float
    """Points between networks, noise taken off."""
    reliability: float
    """Share of the variance between scores that is between networks, 0..1."""
    tau_repeat: float
    """Kendall's tau to expect between two trainings of the same networks."""
    tau_ceiling: float
    """Kendall's tau to expect between one training and the truth: no proxy has more."""


def noise(seed_sd: float, freedom: int, between_sd: float) -> Noise:
    """Say what a ranking by one training each can be worth, networks and seeds being normal.

    Two trainings of a network correlate by the reliability R, a training and the truth by its
    root; a normal correlation r has Kendall's tau (2/pi) asin r (Greiner 1909).
    """
    reliability = reliability_of(between_sd, seed_sd)
    return Noise(
        seed_sd=seed_sd,
        freedom=freedom,
        between_sd=between_sd,
        reliability=reliability,
        tau_repeat=2 / math.pi * math.asin(reliability),
        tau_ceiling=2 / math.pi * math.asin(math.sqrt(reliability)),
    )


def reliability_of(between_sd: float, seed_sd: float, seeds: int = 1) -> float:
    """Give A^2 / (A^2 + s^2 / k); 0 where nothing varies, for then nothing can be ranked."""
    signal, luck = between_sd**2, seed_sd**2 / seeds
    return signal / (signal + luck) if signal else 0.0


def seed_deviation(
    groups: Sequence[Sequence[float]], residual: tuple[float, int] | None
) -> tuple[float, int]:
    """Pool the s.d. between seeds: within networks, and of what the factorial left over.

    Args:
        groups: the scores of each network; one with a single score adds nothing.
        residual: s.d. and degrees of freedom of another estimate, as this function gives them.

    Returns:
        The pooled s.d. and its degrees of freedom; (nan, 0) where nothing was repeated.
    """
    repeated = [np.asarray(group, dtype=float) for group in groups if len(group) > 1]
    squares = math.fsum(float(np.sum((group - group.mean()) ** 2)) for group in repeated)
    freedom = sum(len(group) - 1 for group in repeated)
    if residual is not None:
        squares += residual[0] ** 2 * residual[1]
        freedom += residual[1]
    return (math.sqrt(squares / freedom), freedom) if freedom else (math.nan, 0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Posterior:
    """Mixture of normals over theta: C components, each an (A, s) of the grid."""

    scores: Floats
    """(N,) the mean score of each network."""
    seeds: Floats
    """(N,) how many scores it has."""
    columns: Floats
    """(N, P) what is regressed on."""
    weights: Floats
    """(C,) sum to 1."""
    between: Floats
    """(C,) A: points between networks of equal covariates."""
    deviation: Floats
    """(C,) s: points between seeds."""
    beta: Floats
    """(C, P) mean."""
    root: Floats
    """(C, P, P) has, times a standard normal, the covariance of beta."""

    def shrinkage(self, component: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Give (B, N) weights of the networks' own scores, and the variances that remain."""
        own = self.deviation[component, None] ** 2 / self.seeds
        weight = self.between[component, None] ** 2
        weight = weight / (weight + own)
        return weight, weight * own

    def moments(self) -> tuple[Floats, Floats]:
        """Give the mean and the s.d. of each network, (N,) each."""
        weight, variance = self.shrinkage(np.arange(len(self.weights)))
        means = weight * self.scores + (1 - weight) * (self.beta @ self.columns.T)
        loads = self.columns @ self.root
        variance += (1 - weight) ** 2 * np.sum(loads**2, axis=2)
        mean = self.weights @ means
        return mean, np.sqrt(self.weights @ (variance + (means - mean) ** 2))

    def draw(self, rng: np.random.Generator, draws: int) -> Floats:
        """Draw (draws, N): each row one world, with one A, one s and one beta."""
        component = rng.choice(len(self.weights), size=draws, p=self.weights)
        steps = rng.standard_normal((draws, self.columns.shape[1], 1))
        beta = self.beta[component] + (self.root[component] @ steps)[:, :, 0]
        weight, variance = self.shrinkage(component)
        theta = weight * self.scores + (1 - weight) * (beta @ self.columns.T)
        theta += np.sqrt(variance) * rng.standard_normal(theta.shape)
        return theta


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Shrunken:
    """What each network is worth, its scores drawn towards those of its like."""

    mean: Floats
    """(N,) points."""
    sd: Floats
    """(N,) points; of the worth, not of another score."""
    between_sd: float
    """Points between networks that noise does not explain; what covariates tell included."""
    reliability: float
    """Of one training, 0..1."""
    posterior: Posterior


def shrunken(
    scores: Sequence[Sequence[float]],
    covariates: ArrayLike,
    seed_sd: float,
    *,
    freedom: int | None = None,
) -> Shrunken:
    """Estimate what each network is worth from its one or more scores.

    Args:
        scores: N networks, the points of one or more trainings each.
        covariates: (N, Q), such as log MACs or the block of the study; Q may be 0. Columns that
            say nothing new are dropped, and all where there are as many of them as networks.
        seed_sd: points between trainings of one network.
        freedom: degrees of freedom behind `seed_sd`; None takes it for known.

    Raises:
        ValueError: no network, one without a score, numbers that are not finite, a negative s.d.
    """
    if not scores or not all(len(group) for group in scores):
        raise ValueError("there must be at least one network, each with at least one score")
    seeds = np.array([len(group) for group in scores], dtype=float)
    means = np.array([np.mean(group) for group in scores], dtype=float)
    given = np.asarray(covariates, dtype=float).reshape(len(means), -1)
    if not (np.isfinite(means).all() and np.isfinite(given).all() and 0 <= seed_sd < math.inf):
        raise ValueError("scores, covariates and seed_sd must be finite, the last not negative")
    posterior = _posterior(means, seeds, _columns(given), seed_sd, freedom)
    mean, sd = posterior.moments()
    between_sd = _between_sd(means, seed_sd**2 / seeds)
    return Shrunken(
        mean=mean,
        sd=sd,
        between_sd=between_sd,
        reliability=reliability_of(between_sd, seed_sd),
        posterior=posterior,
    )


def _columns(covariates: Floats) -> Floats:
    """Give (N, P) columns to regress on: ones, then an orthogonal basis of what varies."""
    networks = len(covariates)
    ones = np.ones((networks, 1))
    centred = covariates - covariates.mean(axis=0)
    deviations = centred.std(axis=0)
    varies = deviations > 1e-9 * np.abs(covariates).max(axis=0, initial=0)
    if not varies.any():
        return ones
    basis, sizes, _ = np.linalg.svd(centred[:, varies] / deviations[varies], full_matrices=False)
    basis = basis[:, sizes > 1e-6 * sizes[0]] * math.sqrt(networks)
    # One degree of freedom at least must be left to tell A by.
    return np.hstack([ones, basis]) if networks > basis.shape[1] + 1 else ones


def _posterior(
    scores: Floats, seeds: Floats, columns: Floats, seed_sd: float, freedom: int | None
) -> Posterior:
    # Without noise the components would divide by zero at A = 0; so little changes no estimate.
    least = 1e-6 * (float(np.ptp(scores)) or 1.0)
    deviations = np.array([max(seed_sd, least)])
    if freedom is not None:
        levels = (np.arange(DEVIATIONS) + 0.5) / DEVIATIONS
        deviations = deviations * np.sqrt(freedom / stats.chi2.ppf(levels, freedom))
    top = 30 * float(np.hypot(scores.std(), deviations.max()))
    low = 0.01 * float(deviations.min()) / math.sqrt(seeds.max())
    between = np.geomspace(low, top, BETWEEN)
    weights, beta, root = _components(scores, seeds, columns, between, deviations)
    weights *= between**2  # flat in A^2, at even steps of log A
    kept = weights > 1e-5 * weights.max()
    each_seed, each_between = np.broadcast_arrays(deviations[:, None], between)
    return Posterior(
        scores=scores,
        seeds=seeds,
        columns=columns,
        weights=weights[kept] / weights[kept].sum(),
        between=each_between[kept],
        deviation=each_seed[kept],
        beta=beta[kept],
        root=root[kept],
    )


def _components(
    scores: Floats, seeds: Floats, columns: Floats, between: Floats, deviations: Floats
) -> tuple[Floats, Floats, Floats]:
    """Give the likelihood of each (s, A) with beta integrated out, beta's mean and its root.

    Returns:
        (S, A), (S, A, P) and (S, A, P, P); the likelihood is scaled to 1 at its largest.
    """
    networks, width = columns.shape
    variance = between[:, None] ** 2 + deviations[:, None, None] ** 2 / seeds
    products = (columns[:, :, None] * columns[:, None, :]).reshape(networks, width**2)
    information = ((1 / variance) @ products).reshape(*variance.shape[:2], width, width)
    inverse = np.linalg.inv(information)
    beta = (inverse @ ((scores / variance) @ columns)[..., None])[..., 0]
    misses = scores - beta @ columns.T
    log = -0.5 * (
        np.log(variance).sum(axis=-1)
        + np.linalg.slogdet(information)[1]
        + (misses**2 / variance).sum(axis=-1)
    )
    return np.exp(log - log.max()), beta, np.linalg.cholesky(inverse)


def _between_sd(scores: Floats, variances: Floats) -> float:
    """Give the A at which the scores scatter as A and their noise together say.

    Paule and Mandel (1982): the weighted sum of squares around the mean has one d.f. less than
    there are networks. 0 where noise alone scatters as much. With equal variances it is REML.
    """

    def excess(signal: float) -> float:
        weights = 1 / (signal + variances)
        mean = np.average(scores, weights=weights)
        return float(np.sum(weights * (scores - mean) ** 2)) - (len(scores) - 1)

    if not np.ptp(scores):
        return 0.0
    if not variances.all():
        return float(scores.std(ddof=1))
    top = float(np.sum((scores - scores.mean()) ** 2))
    if excess(0.0) <= 0:
        return 0.0
    return math.sqrt(optimize.brentq(excess, 0.0, top, xtol=1e-12))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Standing:
    """Where each of N networks stands, as far as its scores and its costs tell."""

    low: Floats
    """(N,) points; with `high` a 95 % interval of what the network is worth."""
    high: Floats
    rank_low: NDArray[np.int64]
    """(N,) from 1, the best; with `rank_high` a 95 % interval of the rank."""
    rank_high: NDArray[np.int64]
    p_best: Floats
    """(N,) sums to 1."""
    tied: NDArray[np.bool_]
    """(N,) the 95 % interval of what the best estimate is ahead by holds 0."""
    p_front: Floats
    """(N,) probability that none costs less and is worth more; nan where a cost is nan."""


def standing(
    shrunken: Shrunken,
    *,
    cost: ArrayLike,
    cost_sd: ArrayLike | None,
    rng: np.random.Generator,
    draws: int = 4000,
) -> Standing:
    """Draw worlds from the posterior and count in how many each network stands where.

    Args:
        shrunken: the estimates of N networks.
        cost: (N,) or (N, M), less is better; a network with a nan is on no front.
        cost_sd: what the costs may be off by, of a shape that broadcasts to theirs; None: exact.
        rng: the same generator gives the same result.
        draws: worlds; a probability p is off by sqrt(p (1 - p) / draws).
    """
    theta = shrunken.posterior.draw(rng, draws)
    low, high = np.quantile(theta, (TAIL, 1 - TAIL), axis=0)
    order = np.argsort(-theta, axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(1, theta.shape[1] + 1)[None, :], axis=1)
    ahead = theta[:, [int(np.argmax(shrunken.mean))]] - theta
    return Standing(
        low=low,
        high=high,
        rank_low=np.quantile(ranks, TAIL, axis=0, method="lower").astype(np.int64),
        rank_high=np.quantile(ranks, 1 - TAIL, axis=0, method="higher").astype(np.int64),
        p_best=np.bincount(order[:, 0], minlength=theta.shape[1]) / draws,
        tied=np.quantile(ahead, TAIL, axis=0) <= 0,
        p_front=front_probability(theta, cost, cost_sd, rng),
    )


def front_probability(
    theta: Floats, cost: ArrayLike, cost_sd: ArrayLike | None, rng: np.random.Generator
) -> Floats:
    """Count in how many of the (draws, N) worlds of `theta` each network is on the front.

    Args:
        theta: points, more is better, a world a row.
        cost: see `standing`.
        cost_sd: see `standing`.
        rng: draws the costs, where they are not exact.
    """
    draws, networks = theta.shape
    costs = np.asarray(cost, dtype=float).reshape(networks, -1)
    spread = np.zeros(1) if cost_sd is None else np.asarray(cost_sd, dtype=float)
    if spread.ndim == 1 and len(spread) == networks:
        spread = spread[:, None]
    spread = np.broadcast_to(spread, costs.shape)
    known = np.isfinite(costs).all(axis=1)
    costs, spread = costs[known], spread[known]
    counts = np.zeros(int(known.sum()), dtype=np.int64)
    world = np.empty((len(costs), costs.shape[1] + 1))
    for worth in -theta[:, known]:
        world[:, 0] = worth
        world[:, 1:] = costs + spread * rng.standard_normal(costs.shape) if spread.any() else costs
        counts += moocore.is_nondominated(world, keep_weakly=True)
    share = np.full(networks, np.nan)
    share[known] = counts / draws
    return share
