"""What several processes compute together, and what one computes alone; `ranks_driver.py` runs it."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from distill.micro_setting import distillation, pictures, setting, student_of
from micro_line import micro_recipe
from test_optimize import error, network, spec
from torch import Tensor, nn

from flowpose.distill import METHODS, adversarial
from flowpose.distill.adversarial import Adversarial
from flowpose.distill.compared import Compared, carried_loss, truth_losses, weighted
from flowpose.distill.student import Learner, made_by
from flowpose.distill.teacher import Painter, solved_conditions, teacher_spec, with_detail
from flowpose.distill.trajectory import CHUNK, teacher_ends, trajectories
from flowpose.errors import DataError
from flowpose.optimize import CHECKPOINT, Draw, Losses, Task, run
from flowpose.pipeline import Run
from flowpose.ranks import agree, by_main, current, together
from flowpose.ranks.tensors import share_gradients
from flowpose.spec.recipe import AdversarialFinish, FeaturesSpec, TeacherFinish
from flowpose.train.autoencoder import crops
from flowpose.train.features import FeatureNetwork, FeatureTask, draw_people
from flowpose.train.teacher import Scored, draw_batch, draw_pictures, flow_losses

BATCH = 6  # of three processes' batches the first quarter, half and last half are odd
OPTIM = {"iterations": 2, "batch": BATCH, "warmup": 1}
FINISH = {
    "steady": 2.5, "seams": 0.5, "texture": 0.6, "decoded": 0.2, "feature": 1.0, "heads": 8, "optim": OPTIM,
}  # fmt: skip
KEY = "a" * 64

Differentiated = tuple[nn.Module, Losses]


def teacher(folder: Path, draw: Draw) -> Differentiated:
    made = setting(folder, distillation("trajectory"))
    flow, recipe = copy.deepcopy(made.teacher.flow).requires_grad_(True), made.job.recipe
    assert recipe.train.targets == 3, "two sources, each with its targets in one process"
    batch = draw_batch(made.latents, recipe.train, draw.rng, BATCH, draw.share)
    return flow, flow_losses(flow, batch, recipe.train, draw.noise, draw.share)


def joints(folder: Path, draw: Draw) -> Differentiated:
    made = setting(folder, distillation("trajectory"))
    module = Scored(copy.deepcopy(made.teacher.flow.source.joints).requires_grad_(True))
    return module, {"loss": module(*draw_pictures(made.latents, draw.rng, BATCH, True, draw.share))}


def autoencoder(folder: Path, draw: Draw) -> Differentiated:
    from flowpose.model.losses import charbonnier, gradient
    from flowpose.model.pictures import signed

    module = copy.deepcopy(setting(folder, distillation("trajectory")).teacher.autoencoder)
    module.requires_grad_(True)
    x = signed(torch.from_numpy(crops(pictures(), draw.rng, BATCH, 16, draw.share)))
    raw = module.raw(x)
    y = module.decoder(raw + 0.1 * draw.normal(raw.shape))
    return module, {"loss": charbonnier(y, x) + gradient(y, x) + raw.square().mean()}


def features(folder: Path, draw: Draw) -> Differentiated:
    torch.manual_seed(3)
    module = FeatureTask(FeatureNetwork())
    crop = FeaturesSpec(optim=OPTIM).crop
    images, keypoints = draw_people(pictures(), draw.rng, 2 * BATCH, crop, draw.share)
    given = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    found, who = module(given, torch.from_numpy(keypoints), draw.share)
    return module, {"loss": found + who, "joints": found, "identity": who}


def method(name: str, **changes: Any) -> Callable[[Path, Draw], Differentiated]:
    """One step of a distillation, put together as flowpose.distill.distill does."""

    def step(folder: Path, draw: Draw) -> Differentiated:
        made = setting(folder, distillation(name, detail=True, steps=2, **changes))
        torch.manual_seed(4)
        works, module = METHODS[type(made.spec)](made), Learner(student_of(made), 0.5)
        opened(module)
        batch = works.draw(draw.rng, BATCH, draw.share).looking(draw.rng, made.spec.crop)
        drawn = made_by(module, batch)
        own = {
            **works.losses(module, batch, drawn, draw),
            **carried_loss(drawn, drawn.truth(batch), made.spec.carried),
        }
        compared = Compared(drawn.pictures, drawn.truth(batch), made.features)
        real = weighted(truth_losses(compared, made.spec), drawn.weight)
        return module, {"loss": sum(own.values(), start=real["real"]), **own, **real}

    return step


def opened(module: nn.Module) -> None:
    """Makes the pose matter: the head is zero at the start, and everything before it would have no gradient."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.endswith("flow.head.weight"):
                weight.normal_(0, 0.2)


def finish(folder: Path, draw: Draw) -> Differentiated:
    made = setting(folder, distillation("trajectory", detail=True, steps=2))
    torch.manual_seed(5)
    contest = Adversarial(made, AdversarialFinish.parse(FINISH, "f"), Learner(student_of(made), 0.5))
    opened(contest.module)
    return contest.module, believed(contest, draw)


def believed(contest: Adversarial, draw: Draw) -> Losses:
    """The losses with a critic that has its whole share: at chance, as a new one is, it has none."""
    with mock.patch.object(adversarial, "trust", lambda critic: 1 + 0.1 * critic):
        return contest.losses(contest.module, draw)


def teacher_finish(folder: Path, draw: Draw) -> Differentiated:
    own = TeacherFinish.parse({**FINISH, "pairs": 2 * CHUNK + 4, "intervals": 2}, "f")
    made = setting(folder, teacher_spec(own))
    contest = Adversarial(made, own, Painter(with_detail(made.teacher, own)), solved_conditions(made))
    return contest.module, believed(contest, draw)


STEPS: Mapping[str, Callable[[Path, Draw], Differentiated]] = {
    "autoencoder": autoencoder,
    "joints": joints,
    "teacher": teacher,
    "features": features,
    "trajectory": method("trajectory"),
    "windows": method("trajectory", crop=16),
    "bootstrap": method("bootstrap"),
    "flowmap": method("flowmap"),
    "finish": finish,
    "teacher_finish": teacher_finish,
}
"""Every kind of training step."""


def gradients(folder: Path) -> None:
    """The mean losses and gradients of one step of each kind, in `gradients-WORLD.pt`."""
    share, found = current(), {}
    for name, step in STEPS.items():
        module, losses = step(folder / name, Draw.at(0, 3, 0, share))
        losses["loss"].backward()
        share_gradients(module, share)
        shown = {each: float(share.mean(value)) for each, value in losses.items() if each != "loss"}
        reached = {each: p.grad for each, p in module.named_parameters() if p.grad is not None}
        found[name] = {"losses": shown, "gradients": reached}
    if share.main:
        torch.save(found, folder / f"gradients-{share.world}.pt")


def ends(folder: Path) -> None:
    """The teacher's ends of 2.25 chunks, the first of them there already, in `ends-WORLD.pt`."""
    made = setting(folder / f"ends-{current().world}", distillation("trajectory", pairs=2 * CHUNK + 4))
    solved = teacher_ends(made, made.spec).ends
    agree("ends", solved.tolist())
    path = trajectories(made)

    def all_but_one() -> None:
        torch.save({"ends": torch.load(path, weights_only=True)["ends"][:1]}, path)

    by_main(all_but_one)
    again = teacher_ends(made, made.spec).ends
    agree("ends", torch.equal(again, solved))
    if current().main:
        torch.save(solved, folder / f"ends-{current().world}.pt")


def toy(folder: Path, stop: int | None = None, **changes: Any) -> Task:
    """A small network on shares of a batch of 4; `stop` ends the run at its so many-th micro-batch."""
    calls: list[int] = []

    def losses(module: nn.Module, draw: Draw) -> Losses:
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt
        x = draw.share.of(torch.from_numpy(draw.rng.standard_normal((4, 3)).astype("float32")))
        noise = draw.normal((len(x), 2))
        loss = (module(x) - x[:, :2] * 0.5 + 0.01 * noise).square().mean()
        return {"loss": loss, "double": 2 * loss}

    fields = {"title": "toy", "module": network(), "losses": losses, "directory": folder, "key": KEY}
    return Task(**{**fields, **changes})


def trained(folder: Path, *stops: int) -> dict[str, Tensor]:
    """The toy's weights after a run that was stopped some times."""
    for stop in stops:
        try:
            run(toy(folder, stop), spec(accumulate=2))
        except KeyboardInterrupt:
            continue
        raise AssertionError("it did not stop")
    return dict(run(toy(folder), spec(accumulate=2)).state_dict())


def toys(folder: Path) -> None:
    """Weights of a whole run and of one that was stopped twice, in `toys-WORLD.pt`; and a checkpoint for others."""
    share = current()
    whole = trained(folder / f"whole-{share.world}")
    parts = trained(folder / f"parts-{share.world}", 13, 9)
    try:
        run(toy(folder / f"left-{share.world}", 23), spec(accumulate=2))
    except KeyboardInterrupt:
        if share.main:
            torch.save({"whole": whole, "parts": parts}, folder / f"toys-{share.world}.pt")


def taken_over(folder: Path) -> None:
    """What the other number of processes left after 10 iterations, finished by these, in `over-WORLD.pt`."""
    share = current()
    left = folder / f"left-{2 if share.world == 1 else 1}"
    assert torch.load(left / CHECKPOINT, weights_only=True)["iteration"] == 10
    weights = trained(left)
    if share.main:
        torch.save(weights, folder / f"over-{share.world}.pt")


def last_process_alone(act: Callable[[], object]) -> Callable[[nn.Module, Draw], Losses]:
    """Losses in whose seventh iteration the last process does something of its own."""
    calls: list[int] = []

    def losses(module: nn.Module, draw: Draw) -> Losses:
        calls.append(1)
        found = error(module, draw)
        if len(calls) == 7 and draw.share.rank == draw.share.world - 1:
            act()
            return {name: value * float("nan") for name, value in found.items()}
        return found

    return losses


def broken_data() -> None:
    raise DataError("picture 7", "cannot be read", fix="replace it")


def failing(act: Callable[[], object]) -> Callable[[Path], None]:
    def work(folder: Path) -> None:
        run(toy(folder, losses=last_process_alone(act)), spec())

    return work


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main_fails(folder: Path) -> None:
    by_main(broken_data)


def disagreeing(folder: Path) -> None:
    agree("number", current().rank)


def drifting(folder: Path) -> None:
    """Weights of the last process that an own hand changed between two checkpoints."""
    task = toy(folder)

    def losses(module: nn.Module, draw: Draw) -> Losses:
        if draw.share.rank and draw.share.world > 1:
            with torch.no_grad():
                next(module.parameters()).add_(0.01)
        return task.losses(module, draw)

    run(toy(folder, losses=losses), spec())


def uneven(folder: Path) -> None:
    run(toy(folder), spec(batch=5))


FAULTS: Mapping[str, Callable[[Path], None]] = {
    "data": failing(broken_data),
    "not finite": failing(lambda: None),
    "killed": failing(killed),
    "main": main_fails,
    "disagreeing": disagreeing,
    "drifting": drifting,
    "uneven": uneven,
}
"""What goes wrong in one of two processes."""


def work(folder: Path) -> None:
    """Everything that goes well."""
    with together():
        for part in (gradients, ends, toys):
            part(folder)


def line(folder: Path) -> None:
    """The micro recipe as far as it trains, by the pipeline, into `folder`/out, without finishes."""
    recipe = micro_recipe(folder, "regressor=null", "teacher_finish=null", "finish=null")
    Run(recipe=recipe, root=folder / "out").stages("distill")


def fault(name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        with together():
            FAULTS[name](folder / name)

    return act
