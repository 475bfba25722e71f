"""The bars, each measured on fresh seeds: what it asks, and what was reached.

Every function returns `Bar`s; `count` is the number of simulated pairs per cell, so that the same code serves the
long run and the fast one in the tests.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ga_audit.evidence import ratio_regression
from ga_audit.finding import Evidence
from ga_audit.grouping import Group
from ga_audit.run import Role

from . import look_alikes
from .judge import both, covers, read
from .quoted import CASES
from .scenarios import SCENARIOS
from .simulator import CLASSES, World, make, pair, simulate

POINTS = (3, 5, 10, 20, 100)
RATIOS = (2, 4, 8)


@dataclass(frozen=True)
class Bar:
    name: str
    bar: str
    reached: float
    ok: bool
    sample: str

    def __str__(self) -> str:
        return f"| {self.name} | {self.bar} | {self.reached:.4g} | {self.sample} | {'yes' if self.ok else 'NO'} |"


def at_most(name: str, share: float, limit: float, n: int, of: str = "pairs") -> Bar:
    return Bar(name, f"<= {limit:g}", share, share <= limit, f"{n} {of}")


def at_least(name: str, share: float, limit: float, n: int, of: str = "pairs") -> Bar:
    return Bar(name, f">= {limit:g}", share, share >= limit, f"{n} {of}")


@dataclass
class Outcome:
    kind: str
    ratio: int
    n: int
    truth: int
    verdict: str
    covered: bool


def outcomes(seed: int, count: int, truths=(0, 1), nuisance: float = 1.0, points=POINTS) -> list[Outcome]:
    """Verdicts on the loss of simulated pairs, all classes of relation, GA ratios and lengths."""
    out = []
    for c, kind in enumerate(CLASSES):
        for ratio in RATIOS:
            for n in points:
                for truth in truths:
                    for i in range(count):
                        rng = np.random.default_rng([seed, c, ratio, n, truth + 1, i])
                        r = read(pair(rng, kind, ratio, n, loss=truth, nuisance=nuisance))
                        out.append(Outcome(kind, ratio, n, truth, r.verdict, covers(r, truth)))
    return out


def pairs(seed: int, count: int) -> Iterator[Bar]:
    """False verdicts, coverage, power, share declared healthy."""
    seen = outcomes(seed, count)
    healthy, summed = [o for o in seen if o.truth == 0], [o for o in seen if o.truth == 1]
    false = [o.verdict not in ("healthy", "inconclusive") for o in healthy]
    yield at_most("`scaled` on a healthy pair, 3 lines or more", float(np.mean(false)), 1e-3, len(false))
    missed = [o.verdict == "healthy" for o in summed]
    yield at_most("`healthy` on a summed pair", float(np.mean(missed)), 1e-3, len(missed))
    other = [o.verdict not in ("healthy", "summed-over-ga", "inconclusive") for o in summed]
    yield at_most("another fault named on a summed pair", float(np.mean(other)), 1e-3, len(other))
    for kind in CLASSES:
        held = [o.covered for o in seen if o.kind == kind]
        yield at_least(f"95% interval covers: {kind}", float(np.mean(held)), 0.95, len(held))
    for ratio, limit in ((8, 0.99), (4, 0.99), (2, 0.92)):
        told = [o for o in summed if o.ratio == ratio and o.n >= 5]
        found = [o.verdict == "summed-over-ga" for o in told]
        yield at_least(f"power for a sum, GA ratio {ratio}, 5 lines or more", float(np.mean(found)), limit, len(found))
        for kind in CLASSES:
            found = [o.verdict == "summed-over-ga" for o in told if o.kind == kind]
            yield Bar(f"- of these: {kind}", "", float(np.mean(found)), True, f"{len(found)} pairs")
    for kind, limit in zip(CLASSES[:3], (0.99, 0.97, 0.95), strict=True):
        found = [o.verdict == "healthy" for o in healthy if o.kind == kind and o.ratio >= 4 and o.n >= 5]
        yield at_least(
            f"`healthy` declared, ratio 4 or more, 5 lines: {kind}", float(np.mean(found)), limit, len(found)
        )
    rough = outcomes(seed + 1, max(1, count // 3), nuisance=3.0)
    held = [o.covered for o in rough]
    yield at_least("95% interval covers, run effects x3", float(np.mean(held)), 0.93, len(held))
    false = [o.verdict not in ("healthy", "inconclusive") for o in rough if o.truth == 0]
    yield at_most("`scaled` on a healthy pair, run effects x3", float(np.mean(false)), 0.01, len(false))


def kinds(seed: int, count: int) -> Iterator[Bar]:
    """Loss only against gradients too, on twins; gradient norms whose batch grows."""
    right = []
    for n in (3, 5, 20):
        for ratio in RATIOS:
            for norm in (0, 1):
                for i in range(count):
                    rng = np.random.default_rng([seed, n, ratio, norm, i])
                    loss, grad = both(pair(rng, "twin", ratio, n, loss=1, norm=norm))
                    wanted = "summed-over-ga" if norm else "healthy"
                    right.append(loss.verdict == "summed-over-ga" and grad.verdict == wanted)
    yield at_least("loss only against gradients too, twins, 3 lines", float(np.mean(right)), 0.99, len(right))
    wrong, n = 0, 0
    for kind in CLASSES:
        for ratio in RATIOS:
            for i in range(count):
                rng = np.random.default_rng([seed, 7, CLASSES.index(kind), ratio, i])
                grad = read(pair(rng, kind, ratio, 30, loss=0, norm=0), Role.GRAD_NORM)
                wrong += grad.verdict not in ("healthy", "inconclusive")
                n += 1
    yield at_most("`scaled` on healthy gradient norms", wrong / n, 1e-3, n)


def traps(seed: int, count: int) -> Iterator[Bar]:
    """Scenarios: share of verdicts that are not wrong; norms logged after clipping apart."""
    wrong, n, clipped, n_clipped = 0, 0, 0, 0
    for at, (name, scenario) in enumerate(SCENARIOS.items()):
        for i in range(count):
            loss, norm = both(scenario.build(np.random.default_rng([seed, at, i])))
            wrong += (loss.verdict not in scenario.loss) + (norm.verdict not in scenario.norm)
            n += 1
            if name.startswith("norms after clipping"):
                clipped += norm.evidence is not None
                n_clipped += 1
    yield at_most(f"wrong verdicts over {len(SCENARIOS)} traps", wrong / n, 0.005, n, "cases")
    yield at_most(
        "evidence on gradients from norms logged after clipping", clipped / n_clipped, 0.0, n_clipped, "cases"
    )


def console(seed: int, count: int) -> Iterator[Bar]:
    """Console logs with GA as the only metadata: unrelated runs that look alike, and matched runs."""
    wrong = list(look_alikes.false_verdicts(seed, count))
    yield at_most("`scaled` on unrelated look-alikes, 3 to 10 lines", float(np.mean(wrong)), 0.0, len(wrong))
    wrong = list(look_alikes.unrecorded(seed, max(1, count // 4)))
    yield at_most("wrong verdicts, all relations, GA alone recorded", float(np.mean(wrong)), 0.0, len(wrong))
    known = float(np.mean(list(look_alikes.decided(seed, max(1, count // 2), record=True))))
    alone = list(look_alikes.decided(seed, max(1, count // 2), record=False))
    yield Bar("matched runs decided, all settings recorded", "", known, True, f"{len(alone)} pairs")
    yield at_least("matched runs decided, GA alone recorded", float(np.mean(alone)), 0.97, len(alone))


def quoted() -> Iterator[Bar]:
    """Numbers that people posted."""
    good = 0
    for case in CASES:
        r = read(case.runs(), case.role)
        assert r.evidence is not None
        assert r.evidence.estimate is not None
        good += r.verdict == case.verdict and case.low <= r.evidence.estimate.value <= case.high
    yield at_least("quoted real cases: the verdict of the table", good / len(CASES), 1.0, len(CASES), "cases")


def cost(*, million: bool = True) -> Iterator[Bar]:
    """CPU time of one quantity of a pair, and of 200 runs."""
    sizes = ((1_000, 5.0), (1_000_000, 100.0)) if million else ((1_000, 5.0),)
    for n, limit in sizes:
        rng = np.random.default_rng(0)
        step = np.arange(1, n + 1)
        runs = [
            make(f"r{i}", step, np.exp(1 + rng.normal(0, 0.1, n)), None, 1, ga=g, micro=8 // g, world_size=1, seed=i,
                 lr=1e-4, model="m", dataset="d") for i, g in enumerate((1, 4))
        ]  # fmt: skip
        tries = 20 if n < 10_000 else 5
        spent = min(_timed(runs) for _ in range(tries))
        yield Bar(f"CPU ms, a pair of {n:,} points per run", f"< {limit:g}", spent, spent < limit, f"best of {tries}")
    rng = np.random.default_rng(1)
    world = World.draw(rng)
    fleet = [
        simulate(world, rng, name=f"r{i}", ga=int(rng.choice([1, 2, 4, 8])), micro=4, seed=i, n=500) for i in range(200)
    ]
    spent = min(_timed(fleet) for _ in range(2)) / 1e3
    yield Bar("CPU s, 200 runs in a group, loss and grad_norm", "< 0.5", spent, spent < 0.5, "best of 2")


def _timed(runs) -> float:
    start = time.process_time()
    found = [e for e in ratio_regression.gather(Group(tuple(runs))) if isinstance(e, Evidence)]
    assert found
    return (time.process_time() - start) * 1e3
