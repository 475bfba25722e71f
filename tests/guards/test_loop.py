"""`guard` in a plain loop: each fault has its name, a right training is silent, and nothing changes."""

from __future__ import annotations

import logging

import pytest

torch = pytest.importorskip("torch")

import ga_audit  # noqa: E402
from ga_audit.guards._result import Fault, GradientFault, Reason, Unit  # noqa: E402
from guards import tiny  # noqa: E402

pytestmark = pytest.mark.torch
GA = 4


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def guarded(**options):
    return lambda model, optimizer: ga_audit.guard(model, optimizer, **options)


def summed(loss, batch, step):
    return loss


def of_means(loss, batch, step):
    return loss / len(step)


def divided_twice(loss, batch, step):
    return tiny.right(loss, batch, step) / len(step)


def forget_half(model, step, i):
    if i == 2:
        model.zero_grad()


def turn(model, step):
    for p in model.parameters():
        p.grad.copy_(p.grad.flatten().roll(1).view_as(p.grad))


def scale_all(model, step):
    for p in model.parameters():
        p.grad.mul_(1.7)


FAULTS = {
    Fault.SUMMED: {"weigh": lambda loss, batch, step: tiny.right(loss, batch, step) * len(step)},
    Fault.DIVIDED_TWICE: {"weigh": divided_twice},
    Fault.UNEQUAL_WEIGHTS: {"weigh": of_means},
    Fault.LOST_MICRO_BATCHES: {"weigh": tiny.right, "prepare": forget_half},
    Fault.STALE: {"weigh": tiny.right, "zero": False},
    Fault.FACTOR: {"weigh": lambda loss, batch, step: tiny.right(loss, batch, step) * 1.7},
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("explicit", [False, True], ids=["model's loss", "loss_fn"])
def test_a_planted_fault_is_named_within_three_steps(fault, explicit, caplog):
    options = {"loss_fn": lambda model, batch: model(**batch)["loss"]} if explicit else {}
    _, guard, _ = tiny.train(steps=3, ga=GA, attach=guarded(**options), **FAULTS[fault])
    assert guard.reading.fault is fault
    assert len([r for r in caplog.records if r.name == "ga_audit"]) == 1
    assert guard.message == caplog.records[-1].getMessage()


def test_what_is_summed_over_unequal_micro_batches_is_both():
    _, guard, _ = tiny.train(summed, steps=3, ga=GA, attach=guarded())
    assert (guard.reading.fault, guard.reading.gradient) == (Fault.UNEQUAL_WEIGHTS, (1, 0))
    assert "not divided by gradient accumulation (4)" in guard.message


def test_the_lost_micro_batches_are_listed():
    _, guard, _ = tiny.train(steps=3, ga=GA, attach=guarded(), **FAULTS[Fault.LOST_MICRO_BATCHES])
    assert guard.reading.micro_batches == (0, 1)
    assert "micro-batch 1, 2 of 4 is not in the gradient" in guard.message


def test_a_rotated_gradient_is_named_where_it_is_read_after_the_change():
    """The change is one of the gradient after the backward pass: `check` says that it is the one the optimizer gets."""

    def after(model, step):
        turn(model, step)
        held[0].check()

    held = []

    def attach(model, optimizer):
        held.append(ga_audit.guard(model, optimizer))
        return held[0]

    _, guard, _ = tiny.train(tiny.right, steps=3, ga=GA, attach=attach, finish=after)
    assert guard.reading.fault is Fault.ROTATED


@pytest.mark.parametrize("ga", [2, 4, 8])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_right_training_is_silent(ga, clip, caplog):
    _, guard, _ = tiny.train(tiny.right, ga=ga, clip=clip, attach=guarded(max_grad_norm=clip))
    assert guard.reading.fault is None
    assert guard.reason is None
    assert not caplog.records
    assert [m.step for m in guard.measurements] == [1, 2]
    for m in guard.measurements:
        assert m.grad_factor == pytest.approx(1, abs=1e-5)
        assert m.relative_error < 1e-5
        assert (m.unit, m.verified) == (Unit.SHIFTED_TOKENS, True)


@pytest.mark.parametrize("norm", [False, True], ids=["dropout", "batch norm"])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_weights_buffers_and_random_numbers_are_bit_for_bit_the_same(norm, clip):
    model = lambda: tiny.TinyLM(norm=norm)  # noqa: E731
    plain = tiny.train(summed, model=model, clip=clip)
    watched = tiny.train(summed, model=model, clip=clip, attach=guarded(on_fault="ignore"))
    assert len(watched[1].measurements) == 2
    assert tiny.same(plain[0], watched[0])
    assert plain[2] == watched[2]


def test_raise_stops_before_the_optimizer_step():
    seen = {}

    def attach(model, optimizer):
        seen["model"], seen["before"] = model, {k: v.clone() for k, v in model.state_dict().items()}
        return ga_audit.guard(model, optimizer, on_fault="raise")

    with pytest.raises(GradientFault, match="the gradient is 4 times that of the whole batch"):
        tiny.train(attach=attach, **FAULTS[Fault.SUMMED])
    assert all(torch.equal(v, seen["before"][k]) for k, v in seen["model"].state_dict().items())


def test_a_clipping_that_is_not_seen_is_not_taken_for_a_fault(caplog):
    """`clip_grad_norm_` imported by name, or one of the user's own."""

    def own_clip(model, step):
        norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
        for p in model.parameters():
            p.grad.mul_(0.05 / norm)

    _, guard, _ = tiny.train(tiny.right, attach=guarded(), finish=own_clip)
    assert guard.reason is Reason.CLIPPED
    assert "check()" in caplog.text
    assert guard.message is None


def test_logged_values_are_checked(caplog):
    logged = []

    class Logging:
        def __init__(self, model, optimizer):
            self.guard = ga_audit.guard(model, optimizer)
            optimizer.register_step_post_hook(lambda *_: self.log())

        def log(self):
            m = self.guard.measurements[-1] if self.guard.measurements else None
            if m is not None and not logged:
                logged.append(m)
                self.guard.log(loss=4 * m.reference_loss, grad_norm=m.accumulated_norm)

        def micro_batch(self, batch):
            self.guard.micro_batch(batch)

    _, watched, _ = tiny.train(tiny.right, steps=1, attach=Logging)
    guard = watched.guard
    assert guard.reading.fault is Fault.LOGGED_LOSS
    assert guard.measurements[0].loss_factor == pytest.approx(4)
    assert "the loss is logged 4 times too high; the gradient is right" in caplog.text


def test_one_micro_batch_is_nothing_to_say(caplog):
    _, guard, _ = tiny.train(tiny.right, ga=1, attach=guarded())
    assert guard.reason is Reason.NOTHING_ACCUMULATED
    assert not caplog.records


def test_two_forward_passes_for_one_backward_pass_are_no_fault(caplog):
    class Twice(tiny.TinyLM):
        pass

    def train():
        tiny.seed()
        model = tiny.TinyLM()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        guard = ga_audit.guard(model, optimizer)
        for step in tiny.batches(2, 4):
            for one, other in zip(step[::2], step[1::2], strict=True):
                ((model(**one)["loss"] + model(**other)["loss"]) / 4).backward()
            optimizer.step()
            optimizer.zero_grad()
        return guard

    assert train().reason is Reason.SEVERAL_LOSSES


class Counting(tiny.TinyLM):
    """Draws from a generator of its own, so that no second run is like the first."""

    def __init__(self):
        super().__init__()
        self.own = torch.Generator().manual_seed(0)

    def forward(self, input_ids, labels=None):
        output = super().forward(input_ids, labels)
        output["loss"] = output["loss"] * (1 + torch.rand((), generator=self.own))
        return output


class Learning(tiny.TinyLM):
    """Changes a weight in its forward pass."""

    def forward(self, input_ids, labels=None):
        with torch.no_grad():
            self.head.bias.data += 0.01
        return super().forward(input_ids, labels)


class Stateful(tiny.TinyLM):
    """Counts its calls, and the count is in the loss."""

    calls = 0

    def forward(self, input_ids, labels=None):
        self.calls += 1
        output = super().forward(input_ids, labels)
        output["loss"] = output["loss"] * (1 + 0.1 * self.calls)
        return output


@pytest.mark.parametrize(
    ("model", "reason"),
    [(Counting, Reason.NOT_REPEATABLE), (Learning, Reason.WEIGHTS_CHANGE), (Stateful, Reason.NOT_REPEATABLE)],
)
def test_a_model_that_cannot_be_run_again_is_left_alone(model, reason, caplog):
    plain = tiny.train(of_means, model=model)
    _, guard, _ = watched = tiny.train(of_means, model=model, attach=guarded())
    assert guard.reason is reason
    assert guard.message is None
    assert len(caplog.records) == 1
    if model is not Counting:
        assert tiny.same(plain[0], watched[0])
    assert plain[2] == watched[2]


def test_out_of_memory_in_the_probe_is_survived(caplog):
    class Full(tiny.TinyLM):
        calls = 0

        def forward(self, input_ids, labels=None):
            output = super().forward(input_ids, labels)
            if input_ids is full:
                output["loss"].register_hook(self.fail)
            return output

        def fail(self, gradient):
            Full.calls += 1
            if Full.calls > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    tiny.seed()
    model = Full()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = ga_audit.guard(model, optimizer)
    steps = tiny.batches(2, 4)
    full = steps[0][1]["input_ids"]
    for step in steps:
        for batch in step:
            tiny.right(model(**batch)["loss"], batch, step).backward()
        gradients = [p.grad.clone() for p in model.parameters()]
        optimizer.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
        optimizer.zero_grad()
    assert guard.reason is Reason.OUT_OF_MEMORY
    assert "not enough memory for a second gradient" in caplog.text


def test_an_optimizer_inside_the_backward_pass_is_left_alone():
    def learn(p):
        p.data.add_(p.grad, alpha=-0.01)

    def attach(model, optimizer):
        for p in model.parameters():
            p.register_post_accumulate_grad_hook(learn)
        return ga_audit.guard(model, optimizer)

    _, guard, _ = tiny.train(tiny.right, attach=attach)
    assert guard.reason is Reason.OPTIMIZER_IN_BACKWARD


def test_another_number_of_micro_batches_is_measured_again():
    tiny.seed()
    model = tiny.TinyLM()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = ga_audit.guard(model, optimizer)
    for ga in (2, 2, 1, 2, 4, 4, 4, 4):  # 1: the last step of an epoch
        for batch in tiny.batches(1, ga)[0]:
            tiny.right(model(**batch)["loss"], batch, [batch] * ga).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert [(m.step, m.micro_batches) for m in guard.measurements] == [(1, 2), (2, 2), (7, 4), (8, 4)]


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("fault", [None, Fault.SUMMED])
def test_a_grad_scaler_is_no_factor(clip, fault):
    """The scale is undone before the optimizer step, and a clipping comes after."""

    def train(watched):
        tiny.seed()
        model = tiny.TinyLM()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        guard = ga_audit.guard(model, optimizer, on_fault="ignore", max_grad_norm=clip) if watched else None
        for step in tiny.batches(3, 4):
            for batch in step:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    loss = model(**batch)["loss"]
                loss = tiny.right(loss, batch, step) * (4 if fault else 1)
                scaler.scale(loss).backward()
            if clip is not None:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        return model, guard

    plain, _ = train(False)
    model, guard = train(True)
    assert guard.reason is None
    assert guard.reading.fault is fault
    assert tiny.same(plain, model)


def test_short_memory_compares_a_part_of_the_parameters():
    from ga_audit.guards._reference import MicroBatch, Step, measure_step
    from ga_audit.guards._state import RandomState
    from ga_audit.guards._words import reference

    tiny.seed()
    model = tiny.TinyLM(dropout=0.0)
    step = tiny.batches(1, 4)[0]
    for batch in step:
        model(**batch)["loss"].backward()
    now = RandomState.now()
    micro = [
        MicroBatch(loss=lambda b=b: model(**b)["loss"], rng=now, inputs=b, counts={Unit.SAMPLES: 2.0}) for b in step
    ]
    m = measure_step(Step(model=model, micro_batches=micro, number=1, memory=3000, unit=Unit.SAMPLES))
    assert 0.1 < m.share < 0.9
    assert m.grad_factor == pytest.approx(4, abs=1e-4)
    assert f"on {m.share:.1%} of the parameters, because memory is short" in reference(m)


def test_nothing_is_left_behind():
    model = tiny.TinyLM()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    clip = torch.nn.utils.clip_grad_norm_
    guard = ga_audit.guard(model, optimizer)
    for batch in tiny.batches(1, 4)[0]:
        model(**batch)["loss"].backward()
    assert torch.nn.utils.clip_grad_norm_ is not clip
    guard.remove()
    assert torch.nn.utils.clip_grad_norm_ is clip
    assert not model._forward_pre_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


def test_wrong_options_are_refused():
    model = tiny.TinyLM()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ga_audit.AuditError, match="on_fault='shout' is none of"):
        ga_audit.guard(model, optimizer, on_fault="shout")
    with pytest.raises(ga_audit.AuditError, match="at least one step"):
        ga_audit.guard(model, optimizer, steps=0)


logging.getLogger("ga_audit").propagate = True
