"""Every judgement of the statistics, with what it means and where it was calibrated.

"simulator": `python -m tests.calibration`, a model of training (curve families, run effects of 1-3 %, AR(1) noise
with t tails), which is not training. "judgement": chosen by reasoning, checked on the simulator only; where in doubt
the wide side was taken. "Real training": `python -m tests.calibration.real`, a small language model, whose run effects
are smaller than those assumed here. Figures of both: `tests/calibration/RESULTS.md`.
Scales are standard deviations of natural logarithms unless said otherwise.
"""

from typing import Final

# --- run effects: how far two right runs differ, as the sd tau of their contrast (judgement, simulator) ---
TAU_SPREAD: Final = 0.7
"""sd of log tau around its centre: a factor of two either way is ordinary. Simulator."""
TAU_GRID: Final = (0.002, 1.2, 25)
"""Lowest, highest and number of grid points of tau, log-spaced. Numerical; denser changes no digit that is printed."""
TAU_TWIN: Final = 0.01
"""Same data, seed, effective batch, learning rate: only float order differs."""
TAU_SAME_DATA: Final = 0.03
"""Same data and model; seed, batch or learning rate differ."""
TAU_UNRECORDED: Final = 0.25
"""Data, model or learning rate not recorded: may or may not be the same."""
TAU_OTHER_DATA: Final = 0.5
"""Data or model known to differ, two runs: an ordinary dataset difference is as large as log 2."""
TAU_GRAD_NORM_FACTOR: Final = 2.0
"""Gradient norms scatter about twice as much between runs as losses."""
TAU_GRAD_NORM_FLOOR: Final = 0.1
"""Least centre of tau for gradient norms unless the runs are twins."""
UNKNOWN_SEED_TWIN_SHARE: Final = 0.5
"""All else equal and the seed not recorded: trainers default to 42, so half of such runs are twins."""

LOSS_PER_LOG_BATCH: Final = 0.07
"""kB: loss moves by this per unit of log effective batch, sign unknown. Real training: 0.04."""
LOSS_PER_LOG_LEARNING_RATE: Final = 0.15
"""klr: loss moves by this per unit of log learning rate, sign unknown. Real training: 0.15; first quarter 0.06."""
CONFOUNDER_LATE: Final = 0.6
"""Share of a learning rate's or batch's effect on the loss that comes after the first quarter of a log. Real training
(`tests/calibration/real.py`): rms contrast at a learning rate x3 is .07 in the first quarter, .16 in all."""
CONFOUNDER_SLACK: Final = 0.04
"""Drift that healthy runs show anyway."""
CONFOUNDER_LEAST: Final = 0.5
"""However still the ratio, kB and klr shrink to no less than this share: an effect may precede the first line."""
CONFOUNDER_FALL: Final = 0.15
"""Nor do they shrink unless the common log curve falls by this much: where nothing is learned nothing drifts."""
GRAD_NORM_LEARNING_RATE_FACTOR: Final = 1.5
"""klr of gradient norms, as a multiple of that of the loss."""
GRAD_NORM_BATCH_EXPONENT: Final = (0.0, 0.5)
"""gamma: a healthy norm falls as B^-gamma, E|g|^2 = |G|^2 + tr(Sigma)/B (McCandlish et al. 2018, arXiv:1812.06162)."""
GRAD_NORM_BATCH_GRID: Final = 13
"""Points of the midpoint rule over gamma. Numerical."""

# --- noise of one point when residuals cannot tell (judgement) ---
NOISE_LOSS_PER_SEQUENCE: Final = 0.4
"""Noise of a loss averaged over n sequences is this / sqrt(n)."""
NOISE_LOSS_UNKNOWN: Final = 0.12
"""The same where the number of sequences is unknown."""
NOISE_GRAD_NORM: Final = 0.35
"""Noise of one logged norm (one step, never a mean). A prior scaled by B covered only 0.68-0.92; flat covers 0.96."""
NOISE_PRIOR_WEIGHT: Final = 0.11
"""Weight of that noise against dof/2 when log s^2 is shrunk; shrinking s^2 itself ruins twins."""
NOISE_FLOOR: Final = 1e-6
"""Least sd of a level: averages quoted with the same digits have no residual at all."""
AUTOCORRELATION_UNKNOWN: Final = 0.3
"""Lag-1 autocorrelation assumed below 4 bins."""
AUTOCORRELATION_MAX: Final = 0.97
"""Above this (1+r)/(1-r) is without meaning."""

# --- robustness and window ---
BINS: Final = 64
"""Most bins per comparison: residual autocorrelation of bin means is small, cost is bounded."""
WINSOR_SD: Final = 4.0
"""Points further than this many robust sd from their block's median are moved there."""
WINSOR_BLOCKS: Final = 16
"""Blocks over which the curve counts as flat for that purpose."""
WINSOR_SAMPLE: Final = 257
"""Points per block from which median and MAD are taken (strided): O(n) without sorting all."""
HUBER: Final = 1.5
"""Huber's k: 96 % efficient for Gaussian bins, bounded influence (Huber 1964)."""
LEPSKI_SE: Final = 2.0
LEPSKI_SLACK: Final = 0.04
"""The window grows while the contrast moves by at most 2 se + 0.04 (Lepski 1991). Simulator."""
WANDER_BINS: Final = 8
"""Fewest bins from which slow wandering inside the runs is judged."""
BF16_RELATIVE: Final = 2.0**-9
"""Largest relative rounding of bfloat16 (8 significant bits)."""

# --- same data in the same order, measured (simulator) ---
KINDRED_BINS: Final = 8
"""Fewest bins that can show it; twice as many to deny it."""
KINDRED_SAME: Final = 0.9
KINDRED_OTHER: Final = 0.5
"""Correlation of second differences from which noise counts as shared, and below which as not."""
KINDRED_NOISE_LAG: Final = -0.2
"""Their lag-1 autocorrelation must lie below this: white noise has -2/3, a smooth curve about 1."""
MATCHED_BINS: Final = 5
"""Fewest bins whose agreement up to one factor is measured."""
MATCHED_PRIOR: Final = 4.0
"""Log odds of unrelated against matched runs before their curves are compared. Judgement, on the wide side."""
MATCHED_MOST: Final = 0.3
"""Largest scatter of matched curves, as a share of that of unrelated ones (correlation .95): other batches that overlap by
half reach 0.7. Simulator."""
MATCHED_EDGE: Final = 0.25
"""sd of the fall above it, of a natural log."""
MATCHED_SMOOTH: Final = 4.0
"""Powers of ten by which the noise counts less per unit of lag-1 autocorrelation of second differences above
`KINDRED_NOISE_LAG`: at that of a smooth curve it counts for nothing. Judgement."""
MATCHED_SHAPE: Final = 0.01
"""Unrelated smooth curves differ by at least this share of their departure from a straight line. Judgement: run effects are
1 % of the loss and more, the departure is a tenth of it."""
MATCHED_SHAPE_DOF: Final = 4
"""Degrees of freedom of a smooth shape."""

# --- hypotheses and decision ---
PRIOR: Final = {"healthy": 0.55, "summed": 0.25, "divided": 0.08, "world": 0.05, "ga-world": 0.05, "other": 0.02}
"""Prior by exponents on (GA, world size): (0, 0), (1, 0), (-1, 0), (0, 1), (1, 1), any other; what a user who asks this
question meets. Judgement. A release in the metadata that is known to be bad multiplies the odds of its exponent."""
PRIOR_RARE: Final = 0.01
"""Prior of a named hypothesis that `PRIOR` does not list: divided by GA squared (known of one release of DeepSpeed),
divided by the world size (`nn.DataParallel`)."""
SLAB: Final = 0.06
"""Half of a hypothesis' mass is uniform within this exponent: token against micro-batch means move it by .01-.05."""
OTHER_RANGE: Final = 2.5
"""`other`: an exponent uniform within +- this. The average over it is the Occam penalty."""
DECIDE_AT: Final = 0.95
"""Posterior from which a verdict is given."""
LIKELY_AT: Final = 0.8
"""Posterior from which an inconclusive quantity is called likely scaled or likely healthy."""
EQUIVALENCE: Final = {"loss": 0.35, "grad_norm": 0.5}
"""`healthy` needs the 90 % interval inside +- this (two one-sided tests, Schuirmann 1987). 0.25 refuses half of the
confounded healthy pairs, 0.5 lets sqrt(GA) through. Simulator."""
MISFIT: Final = 0.35
"""A run further than this from the middle of three or more, which another hypothesis would bring back to it, is of other code
or another release: no verdict on all of them. Judgement, as wide as the margin of equivalence."""
MANY_RUNS: Final = 400
"""Contrasts from which the noise of the runs is taken as equal and independent. Numerical: a cubic cost otherwise."""
TIE: Final = 0.05
"""Hypotheses whose centred factors differ by less than this in every run cannot be told apart by ratios."""
COUPLING: Final = {
    "healthy": {"healthy": 0.90, "summed": 0.05},
    "summed": {"summed": 0.65, "healthy": 0.25},
    "divided": {"divided": 0.45, "healthy": 0.45},
    "world": {"world": 0.65, "healthy": 0.25},
    "ga-world": {"ga-world": 0.65, "healthy": 0.25},
}
"""P(exponent of the gradient norm | that of the loss); the rest is spread as PRIOR. Judgement from released bugs."""

# --- the logged norm after clipping ---
CLIP_WITHIN: Final = 0.01
CLIP_SHARE: Final = 0.2
"""More than this share within 1 % of the largest value, or of max_grad_norm: the norm was logged after clipping."""
CLIP_LEAST: Final = 3
"""Fewer norms are no pile."""
CLIP_EXACT: Final = 1e-4
CLIP_EXACT_SHARE: Final = 0.02
"""A pile of (nearly) identical largest values, smaller but sharper, says the same."""

# --- an unscaled term in the loss ---
OFFSET_CORRELATION: Final = 0.98
"""Least correlation of matched bins for a regression of levels: elsewhere errors in variables attenuate it."""
OFFSET_T: Final = 6.0
"""|t| of log ratio on log level from which an offset is considered: 120 with, below 0.9 without (simulator)."""
OFFSET_INTEGER: Final = 0.02
"""The regression must restore an integer exponent within this."""
