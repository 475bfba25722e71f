"""Numbers that people posted in public issues, as they posted them, and what must be said of them.

Only the lines quoted in the threads; where one number was given per run there is one. `known` is what the post tells
of the runs beside GA: data, model and learning rate the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from ga_audit.run import Role, Run

from .simulator import make


@dataclass(frozen=True)
class Quoted:
    source: str
    ga: tuple[int, int]
    micro: tuple[int | None, int | None]
    values: tuple[tuple[float, ...], tuple[float, ...]]
    verdict: str
    low: float  # the estimate must lie in [low, high]
    high: float
    role: Role = Role.LOSS
    known: bool = True

    def runs(self) -> list[Run]:
        out = []
        for i in (0, 1):
            v = self.values[i]
            loss, norm = (v, None) if self.role is Role.LOSS else (None, v)
            extra = {"model": "m", "dataset": "d", "lr": 1e-4} if self.known else {}
            out.append(make(f"ga{self.ga[i]}", range(1, len(v) + 1), loss, norm, 1, ga=self.ga[i],
                            micro=self.micro[i], world_size=1 if self.known else None, **extra))  # fmt: skip
        return out


_LOSS = (10.5949, 8.2312, 7.8988, 8.0197, 6.0704, 5.8247), (21.1898, 16.4623, 15.7976, 16.0394, 12.1408, 11.6494)
_NORM = (
    (
        188.29049682617188,
        87.74673461914062,
        74.35655212402344,
        52.913124084472656,
        51.57878875732422,
        56.05608367919922,
    ),
    (
        376.5796203613281,
        175.4936065673828,
        148.7130889892578,
        105.82550811767578,
        103.15972137451172,
        112.11367797851562,
    ),
)
_PR = "https://github.com/huggingface/transformers/pull/35207"
_FIX = "https://github.com/huggingface/transformers/pull/35438"
_GA2 = "summed-over-ga"

CASES = (
    Quoted(_PR, (1, 2), (6, 3), _LOSS, _GA2, 0.95, 1.05),
    Quoted(_PR, (1, 2), (6, 3), _NORM, _GA2, 0.9, 1.1, Role.GRAD_NORM),
    Quoted(_PR, (1, 2), (6, 3), ((10.5949,), (21.1898,)), _GA2, 0.95, 1.05),
    Quoted(_PR, (1, 2), (None, None), ((10.5949,), (21.1898,)), "inconclusive", 0.9, 1.1, known=False),
    Quoted("GA2 2.715 against GA8 10.848", (2, 8), (4, 1), ((2.715,), (10.848,)), _GA2, 0.95, 1.05),
    Quoted("the same, only GA known", (2, 8), (None, None), ((2.715,), (10.848,)), _GA2, 0.9, 1.1, known=False),
    Quoted("https://github.com/axolotl-ai-cloud/axolotl/issues/2262", (1, 8), (None, None),
           ((10.5, 6.8), (83.7, 50.0)), _GA2, 0.9, 1.1),
    Quoted("the same, start only", (1, 8), (None, None), ((10.5,), (83.7,)), _GA2, 0.9, 1.1),
    Quoted(_FIX, (1, 8), (8, 1), ((0.92,), (0.92,)), "healthy", -0.05, 0.05),
    Quoted(_FIX, (1, 8), (8, 1), ((0.45,), (0.44,)), "healthy", -0.1, 0.1, Role.GRAD_NORM),
    Quoted("https://github.com/agokrani/distillKitPlus/issues/5", (8, 32), (None, None), ((6.0,), (26.0,)),
           _GA2, 0.9, 1.2),
    Quoted("https://github.com/BottleCapAI/NoCap-Test/pull/2", (1, 32), (32, 1), ((10.9,), (0.34,)),
           "divided-by-ga", -1.05, -0.95),
    Quoted("https://github.com/axolotl-ai-cloud/axolotl/issues/1100", (1, 8), (None, None), ((8.0,), (3.8,)),
           "inconclusive", -0.6, -0.2, known=False),
)  # fmt: skip
