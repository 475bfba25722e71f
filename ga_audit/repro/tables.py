"""What was measured, as text: the cells of one matrix, and several matrices a line each."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from ga_audit.repro.measurement import MAX_WEIGHTING_ERROR, Measured, OddStep, is_misaligned
from ga_audit.repro.verdict import Judgement, MatrixVerdict, Scale, parameter_distance
from ga_audit.run import Note

FACTOR_SAID = 0.02  # a factor of every cell that is farther from 1 is worth a line


def table(judgement: Judgement) -> str:
    """The cells, the exponents and the verdict of one matrix."""
    cells = judgement.cells
    ranks = any(cell.world_size > 1 for cell in cells)
    head = f"{'GA':>4}  {'ranks':>5}  " if ranks else f"{'GA':>4}  "
    head += "logged loss  logged grad_norm  real gradient  cosine  clipped steps  parameters differ  held-out loss"
    lines = [f"trained: {text}"] if (text := str(judgement.training)) else []
    lines += [head, *(_cell(cell, cells[0], ranks) for cell in cells)]
    if len(judgement.gas) > 1:
        lines.append(_on("GA", {name: scale.ga for name, scale in _by_name(judgement).items()}))
    lines += [*_details(judgement), *filter(None, [_precision(judgement)]), *_throughput(cells)]
    return "\n".join([*lines, f"verdict: {judgement.verdict}"])


def _on(driver: str, exponents: Mapping[str, float | None]) -> str:
    return f"exponent on {driver}: {', '.join(f'{name} {_exponent(value)}' for name, value in exponents.items())}"


def _details(judgement: Judgement) -> Iterator[str]:
    """What exponents on GA do not say: ranks, what no power describes, factors, odd steps, what else must be known."""
    scales = _by_name(judgement)
    if len(judgement.world_sizes) > 1:
        yield _on("world size", {name: scale.world for name, scale in scales.items()})
    if odd := [name for name, scale in scales.items() if scale.ratios and scale.rest is None]:
        yield f"no power of GA and of world size describes the factors of {' and '.join(odd)}"
    if line := common_factor(judgement):
        yield line
    yield from _odd_lines(judgement)
    if line := unequal_weights(judgement):
        yield line
    for cell in judgement.cells:
        if cell.diverged:
            yield f"{cell.name}: the training diverged at {cell.diverged} of {cell.n_measured} measured steps"
    yield from (f"note: {note}" for note in judgement.notes)


def unequal_weights(judgement: Judgement) -> str:
    """How far a gradient is from that of the full batch, where it is unequally weighted; else empty."""
    worst = judgement.weighting
    if judgement.verdict is not MatrixVerdict.UNEQUAL_WEIGHTS or worst is None:
        return ""
    cell, error = worst
    return (
        f"{cell.name}: micro-batches are unequally weighted: the accumulated gradient differs from that of the full batch "
        f"by {100 * error:.1f} % of its norm (cosine {cell.cosine:.4f}), which no scale factor corrects"
    )


def _precision(judgement: Judgement) -> str:
    """How exactly the gradients agree, where they do; empty where that is not known."""
    worst = judgement.weighting
    if worst is None or worst[1] > MAX_WEIGHTING_ERROR:
        return ""
    return f"gradient against the full batch, in float32: relative error {max(worst[1], 1e-8):.0e} at most, at {worst[0].name}"


def _odd_lines(judgement: Judgement) -> Iterator[str]:
    """Steps and cells whose gradient is not what a factor describes."""
    for cell in judgement.cells:
        if cell.odd_steps:
            shown = ", ".join(map(_odd, cell.odd_steps[:4]))
            yield f"{cell.name}: real gradient at {shown}{' ...' if len(cell.odd_steps) > 4 else ''}"
        if line := _astray(cell):
            yield line


def _odd(step: OddStep) -> str:
    ratio = f"x{step.ratio:.3f}" if math.isfinite(step.ratio) else "not a number, where that of the whole batch is one"
    return f"step {step.step} {ratio}" + (f" (cosine {_number(step.cosine)})" if is_misaligned(step.cosine) else "")


def common_factor(judgement: Judgement) -> str:
    """What multiplies every cell alike, and what would tell its cause; empty where nothing does."""
    gas, worlds = judgement.gas, judgement.world_sizes
    if gas == {1} and worlds == {1}:
        return "GA 1 on one rank: nothing was accumulated; give another GA too (--ga 1,8)"
    scales = _by_name(judgement)
    if not any(s.rest is not None and abs(s.rest - 1) > FACTOR_SAID for s in scales.values()):
        return ""
    rests = ", ".join(f"{name} {_times(s.rest)}" for name, s in scales.items())
    (ga, *more), several = sorted(gas), len(worlds) == 1 and max(worlds) > 1
    ranks = f"--world-size 1,{max(worlds)} tells whether the {max(worlds)} ranks are the cause" if several else ""
    if more:
        line = f"additional factor, independent of GA: {rests}"
        return f"{line}; {ranks}" if ranks else line
    if ga == 1:
        return f"at GA 1: {rests}; {ranks}"
    powers = ", ".join(f"{name} {_exponent(math.log(s.rest) / math.log(ga))}" for name, s in scales.items() if s.rest)
    told = f"--ga 1,{ga} tells" + (f"; {ranks}" if ranks else "")
    return f"at GA {ga} alone: {rests}; if GA is the cause, its exponents are {powers}: {told}"


def _by_name(judgement: Judgement) -> dict[str, Scale]:
    return {"loss": judgement.on_loss, "grad_norm": judgement.on_grad_norm, "gradient": judgement.on_gradient}


def _astray(cell: Measured) -> str:
    """What a low cosine means, for the cells that have one."""
    if not is_misaligned(cell.cosine):
        return ""
    return (
        f"{cell.name}: the accumulated gradient is not parallel to the full-batch gradient (cosine {_number(cell.cosine)}): "
        "micro-batches were dropped or unequally weighted; no scale factor corrects it"
    )


def _cell(cell: Measured, first: Measured, ranks: bool) -> str:
    start = f"{cell.ga:>4}  {cell.world_size:>5}  " if ranks else f"{cell.ga:>4}  "
    differ = None if cell is first else parameter_distance(first, cell)
    return (
        f"{start}{_times(cell.loss):>11}  {_times(cell.grad_norm):>16}  {_times(cell.gradient):>13}  "
        f"{_number(cell.cosine):>6}  {_percent(cell.clipped):>13}  {_percent(differ):>17}  {_number(cell.held_out_loss):>13}"
    )


def _throughput(cells: Sequence[Measured]) -> list[str]:
    """Tokens a second, and the share of what the device multiplies at best; nothing where no cell says it."""
    speeds = [(cell.speed, cell.world_size) for cell in cells if cell.speed is not None]
    if not speeds:
        return []
    tokens = _large(statistics.median(speed.tokens for speed, _ in speeds)).replace(" ", "")
    line = f"throughput: {tokens} tokens/s (median of the cells, without first steps and measuring)"
    limit, dtype = next(((s.limit, s.limit_dtype) for s, _ in speeds if s.limit), (None, None))
    if limit is None:
        return [line]
    share = statistics.median(speed.flops / (limit * ranks) for speed, ranks in speeds)
    why = ": so small a model waits for its operations to be started" if share < 0.1 else ""
    return [
        line,
        f"  {100 * share:.2g}% of the {_large(limit)}FLOP/s that a matrix product in {dtype} reaches here{why}",
    ]


def _large(value: float) -> str:
    """Three digits and a prefix: 21.4 k."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g} "


_LOGS = {
    "measurement-agrees": "agree", "measurement-decides": "open", "measurement-disagrees": "contradict",
}  # fmt: skip


def summary(
    judgements: Mapping[str, Judgement | str], logs: Mapping[str, Sequence[Note]] = MappingProxyType({})
) -> str:
    """One line for each matrix, by its name; a text in place of a judgement says why there is none.

    `logs` are the notes of `confirmed.comparison` on each matrix: whether its logs say what was measured.
    """
    wide = max(len(name) for name in judgements)
    broad = max([7, *(len(found.verdict) for found in judgements.values() if not isinstance(found, str))])
    first = next((found for found in judgements.values() if not isinstance(found, str)), None)
    gas = " / ".join(str(cell.ga) for cell in _ends(first)) if first else ""
    lines = [
        f"{'':<{wide}}  {'loss':>6}  {'norm':>6}  {'grad':>6}  clipped at GA  parameters  held-out  {'verdict':<{broad}}  logs",
        f"{'':<{wide}}  {'exponents on GA':^22}  {gas:>13}      differ  loss      {'':<{broad}}  alone",
    ]
    for name, found in judgements.items():
        if isinstance(found, str):
            lines.append(f"{name:<{wide}}  {found}")
            continue
        exponents = "  ".join(
            f"{_exponent(e.ga, 2):>6}" for e in (found.on_loss, found.on_grad_norm, found.on_gradient)
        )
        clipped = " / ".join(_percent(cell.clipped) for cell in _ends(found))
        lines.append(
            f"{name:<{wide}}  {exponents}  {clipped:>13}  {_percent(found.parameters_differ):>10}  "
            f"{_signed(found.held_out_loss_differs):>8}  {found.verdict:<{broad}}  {_of_logs(logs.get(name, ()))}"
        )
    judged = {name: found for name, found in judgements.items() if not isinstance(found, str)}
    lines += [f"{name}: {line}" for name, found in judged.items() for line in _details(found)]
    lines += [
        f"{name}: {note.message}" for name, notes in logs.items() for note in notes if _of_logs([note]) == "contradict"
    ]
    lines += [f"{name}: {what}" for name, found in judged.items() if (what := _described(name, found))]
    trained = (str(replace(found.training, what="")) for found in judged.values())
    lines += dict.fromkeys(f"trained with {text}" for text in trained if text)
    lines += _throughput([cell for found in judged.values() for cell in found.cells])
    return "\n".join(line.rstrip() for line in lines)


def _described(name: str, found: Judgement) -> str:
    """What was trained under a name: `B (the model's forward has no **kwargs)` without the name."""
    return found.training.what.removeprefix(f"{name} (").removesuffix(")")


def _ends(judgement: Judgement) -> tuple[Measured, ...]:
    """The smallest and the largest GA on the fewest ranks."""
    alike = [cell for cell in judgement.cells if cell.world_size == judgement.cells[0].world_size]
    return tuple(dict.fromkeys((alike[0], alike[-1])))


def _of_logs(notes: Sequence[Note]) -> str:
    """Whether the logs alone say what was measured; the worst of several groups."""
    words = {_LOGS[note.code] for note in notes}
    return next((word for word in ("contradict", "open", "agree") if word in words), "-")


def sentences(judgement: Judgement) -> tuple[str, ...]:
    """The measurement in words, for a report."""
    cells = judgement.cells
    first, last = cells[0], cells[-1]
    trained = f" ({judgement.training.what})" if judgement.training.what else ""
    beside = f" (at {first.name} {_times(first.gradient)})" if first is not last else ""
    lines = [
        f"Measured on the installed stack{trained}: the real gradient at {last.name} is {_times(last.gradient)} that of "
        f"the whole batch{beside}, cosine {_number(last.cosine)}; the logged loss is {_times(last.loss)}, the logged "
        f"grad_norm {_times(last.grad_norm)}."
    ]
    lines += [f"{line}." for line in (*_odd_lines(judgement), unequal_weights(judgement)) if line]
    if line := common_factor(judgement):
        lines.append(f"{line[0].upper()}{line[1:]}.")
    if judgement.parameters_differ is not None:
        line = f"After training, the parameters at {last.name} differ from those at {first.name} by "
        line += f"{_percent(judgement.parameters_differ)} of the way that they moved"
        if judgement.held_out_loss_differs is not None:
            line += f", the held-out loss by {_signed(judgement.held_out_loss_differs)}"
        lines.append(f"{line}.")
    lines += [f"Measured with {note}." for note in judgement.notes]
    return tuple(lines)


def _times(value: float | None) -> str:
    return "-" if value is None else f"x{value:.3f}"


def _number(value: float | None) -> str:
    return _shown(value, ".3f")


def _exponent(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # no minus zero


def _signed(value: float | None) -> str:
    return _shown(value, "+.3f")


def _percent(value: float | None) -> str:
    return _shown(value, ".1%" if value and value < 0.0995 else ".0%")


def _shown(value: float | None, how: str) -> str:
    if value is None:
        return "-"
    return format(value, how) if math.isfinite(value) else "diverged"
