"""The adversarial finish: what the heads see, whom each gradient reaches, and how large it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from distill.micro_setting import SHAPE, batch_of, distillation, setting, student_of
from torch import Tensor, nn

from flowpose.distill import adversarial
from flowpose.distill.adversarial import Adversarial, jittered, shifted
from flowpose.distill.compared import Compared, truth_losses
from flowpose.distill.heads import Eyes, Heads
from flowpose.distill.student import Conditions, Learner, Output, Setting
from flowpose.flow import interpolate
from flowpose.model import detail
from flowpose.model.detail import HALF
from flowpose.model.transformer import modulate
from flowpose.optimize import Draw
from flowpose.spec.recipe import AdversarialFinish

OF_FOUR = {"iterations": 2, "batch": 4, "warmup": 1}


def finishing(**changes: Any) -> AdversarialFinish:
    return AdversarialFinish.parse({"optim": OF_FOUR, "heads": 8, **changes}, "recipe.finish")


@pytest.fixture
def base(tmp_path: Path) -> Setting:
    return setting(tmp_path, distillation("trajectory"))


def contest_of(base: Setting, **changes: Any) -> Adversarial:
    torch.manual_seed(5)
    return Adversarial(base, finishing(**changes), Learner(student_of(base), 0.5))


@torch.no_grad()
def test_the_heads_see_what_the_teacher_sees(base: Setting) -> None:
    """The teacher's velocity is its head on the last tokens that are looked at."""
    eyes, batch = Eyes(base.teacher), batch_of(base)
    known = eyes.condition(batch.source, batch.keypoints)
    context, pose = known
    t, noise = torch.linspace(0.3, 0.9, 4), torch.randn(4, *SHAPE)
    maps = eyes.see(batch.truth, known, t, noise)
    assert [each.shape[1] for each in maps] == eyes.channels((48, 32))
    assert torch.equal(maps[0], batch.truth)
    flow = base.teacher.flow
    tokens = maps[-1].flatten(2).transpose(1, 2)
    shift, scale = flow.modulation(t, t)[:, -2:].unsqueeze(2).unbind(1)
    found = flow.unpatch(flow.head(modulate(tokens, shift, scale)))
    x = interpolate(noise, base.teacher.autoencoder.encode(batch.truth), t)
    torch.testing.assert_close(
        found, flow.velocity(x, flow.modulation(t, t), context, pose), atol=1e-4, rtol=1e-3
    )


def test_windows_ask_the_teacher_for_no_tokens_and_draw_the_same_numbers(
    base: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, windows = contest_of(base), contest_of(base, crop=16)
    draws = Draw.at(0, 0), Draw.at(0, 0)
    whole.losses(whole.module, draws[0])
    monkeypatch.setattr(Eyes, "condition", None)
    losses = windows.losses(windows.module, draws[1])
    assert all(torch.isfinite(value) for value in losses.values())
    assert torch.equal(*(draw.noise.get_state() for draw in draws))


def test_eyes_need_a_transformer(tmp_path: Path) -> None:
    made = setting(tmp_path, distillation("trajectory", student={"kind": "edge", "width": 32}))
    with pytest.raises(TypeError, match="is a transformer"):
        Eyes(student_of(made))


def test_one_head_a_map_and_small_scores() -> None:
    heads = Heads([3, 8, 16], 8)
    maps = [torch.randn(2, c, 16, 8) for c in (3, 8, 16)]
    assert [tuple(score.shape) for score in heads(maps)] == [(2, 1, 4, 2), (2, 1, 8, 4), (2, 1, 16, 8)]


def test_each_gradient_reaches_its_own_network(base: Setting) -> None:
    contest = contest_of(base)
    losses = contest.losses(contest.module, Draw.at(0, 0))
    assert set(losses) == {"loss", "real", "seams", "loose", "fooled", "critic", "scale"}
    assert all(torch.isfinite(value).all() for value in losses.values())
    losses["loss"].backward()
    module = contest.module
    for part in (module.learner.flow.head, module.learner.decoder.block):
        assert part.weight.grad is not None and part.weight.grad.abs().max() > 0
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.heads.parameters())
    encoder = module.learner.student[0].autoencoder.encoder
    for frozen in (base.teacher, base.reference, encoder):
        assert all(p.grad is None for p in frozen.parameters())


class Painted(nn.Module):
    """A student whose pictures are its parameters."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        self.pictures = nn.Parameter(pictures)

    def forward(self, batch: Conditions) -> Output:
        return Output(torch.zeros(len(batch.source), *SHAPE), self.pictures, None)


def gradients(base: Setting, **changes: Any) -> tuple[Tensor, Tensor, Any]:
    """(the whole gradient on the picture, the regression's part of it, the losses)."""
    contest = contest_of(base, **changes)
    truth = batch_of(base).truth  # of Draw.at(0, 0), whose first numbers are the conditions
    pictures = truth.flip(-2).clone()
    painted = Painted(pictures)
    contest.module.learner = painted
    with pytest.MonkeyPatch.context() as still:
        still.setattr(adversarial, "shifted", lambda pictures, *_: pictures)
        losses = contest.losses(contest.module, Draw.at(0, 0))
    losses["loss"].backward()
    alone = pictures.clone().requires_grad_()
    truth_losses(Compared(alone, truth, base.features), contest.spec)["real"].backward()
    assert painted.pictures.grad is not None and alone.grad is not None
    return painted.pictures.grad, alone.grad, losses


@pytest.fixture
def believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversarial, "trust", lambda critic: torch.ones(()))


def test_a_critic_at_chance_has_nothing_to_say() -> None:
    told = [float(adversarial.trust(torch.tensor(loss))) for loss in (2.3, 2.0, 1.5, 1.0, 0.2)]
    assert told == [0, 0, 0.5, 1, 1]


@pytest.mark.usefixtures("believed")
@pytest.mark.parametrize("share", [0.5, 2.0])
def test_on_the_picture_the_heads_have_the_asked_share(base: Setting, share: float) -> None:
    whole, regression, _ = gradients(base, share=share)
    assert float((whole - regression).norm() / regression.norm()) == pytest.approx(share, rel=1e-3)


@pytest.mark.usefixtures("believed")
def test_the_share_does_not_depend_on_the_size_of_the_regression(base: Setting) -> None:
    whole, regression, losses = gradients(base, truth=10.0)
    plain, _, once = gradients(base)
    torch.testing.assert_close(whole, 10 * plain, atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(losses["scale"], 10 * once["scale"], atol=0, rtol=1e-3)
    assert regression.abs().max() > 0


def test_the_critic_costs_two_where_it_knows_nothing(base: Setting) -> None:
    """Hinge: 1 for the real ones and 1 for the made ones, at scores of zero; and no gradient for the student."""
    contest = contest_of(base)
    for head in contest.module.heads.each:
        nn.init.zeros_(head.layers[-1].weight)
        nn.init.zeros_(head.layers[-1].bias)
    losses = contest.losses(contest.module, Draw.at(0, 0))
    assert float(losses["critic"]) == pytest.approx(2.0) and float(losses["fooled"]) == 0


def test_the_same_draw_gives_the_same_losses(base: Setting) -> None:
    contest = contest_of(base)
    contest.module.heads.eval()  # in training every look refines the spectral norm
    first, same, other = (contest.losses(contest.module, Draw.at(0, n)) for n in (0, 0, 1))
    assert float(first["critic"]) == float(same["critic"]) != float(other["critic"])


@pytest.mark.usefixtures("believed")
def test_a_student_comes_to_please_fixed_heads(base: Setting) -> None:
    contest = contest_of(base, share=10.0)
    contest.module.heads.eval().requires_grad_(False)
    learner, fooled = contest.module.learner, []
    optimizer = torch.optim.Adam(learner.parameters(), lr=2e-3)
    for _ in range(3):
        losses = contest.losses(contest.module, Draw.at(0, 0))
        fooled.append(float(losses["fooled"]))
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert fooled[-1] < fooled[0] and fooled[-1] == min(fooled)


def test_second_evaluations_are_judged_beside_their_truth(tmp_path: Path) -> None:
    base = setting(tmp_path, distillation("trajectory", steps=2))
    contest = contest_of(base)
    seen: list[int] = []
    contest.module.heads.register_forward_hook(lambda _, given, __: seen.append(len(given[0][0])))
    assert torch.isfinite(contest.losses(contest.module, Draw.at(0, 0))["loss"])
    assert seen == [6, 6, 6], "four conditions, two of them evaluated twice"


def test_windows_are_judged_without_tokens(base: Setting) -> None:
    contest = contest_of(base, crop=16)
    seen: list[list[tuple[int, ...]]] = []
    contest.module.heads.register_forward_hook(lambda _, given, __: seen.append([m.shape for m in given[0]]))
    losses = contest.losses(contest.module, Draw.at(0, 0))
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    assert [shape[-1] for shape in seen[0]] == [16, 16, 8, 4], "pixels and the encoder's maps"
    assert seen[0] == seen[1] == seen[2]


def test_a_picture_that_jumps_with_its_joints_costs(tmp_path: Path) -> None:
    base = setting(tmp_path, distillation("trajectory"))
    contest = contest_of(base, steady=3.0)
    with torch.no_grad():
        contest.module.learner.flow.head.weight.normal_(0, 0.5)  # zero at the start: blind to the pose
    jumping = float(contest.losses(contest.module, Draw.at(0, 0))["steady"])
    still = contest_of(base, steady=3.0)
    with torch.no_grad():
        still.module.learner.flow.head.weight.zero_()
    assert jumping > 2 * float(still.losses(still.module, Draw.at(0, 0))["steady"])
    assert "steady" not in contest_of(base).losses(contest_of(base).module, Draw.at(0, 0))


def test_texture_opens_the_share_of_detail_and_nothing_else(tmp_path: Path) -> None:
    base = setting(tmp_path, distillation("trajectory", detail=True))
    found, found_loose = [], []
    for weight in (0.0, 1.0):
        contest = contest_of(base, texture=weight)
        losses = contest.losses(contest.module, Draw.at(0, 0))
        found_loose.append(float(losses["loose"]))
        losses["loss"].backward()
        parameters = contest.module.learner.named_parameters()
        found.append({name: p.grad for name, p in parameters if p.grad is not None})
    plain, more = found
    assert found_loose[1] != found_loose[0]
    changed = {
        name for name, grad in more.items() if not torch.allclose(grad, plain[name], atol=1e-7, rtol=1e-4)
    }
    assert changed == {"detail.choice.3.weight", "detail.choice.3.bias"}
    drawn = slice(3 * HALF * HALF)
    for name in changed:
        torch.testing.assert_close(more[name][drawn], plain[name][drawn], atol=1e-7, rtol=1e-4)


def test_what_latents_draw_has_a_loss_that_the_carried_pixels_do_not_hide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the share wide open the joined picture has next to no gradient for the decoder; this loss has."""
    monkeypatch.setattr(detail, "TOLERANCE", 1e3)
    base, reached = setting(tmp_path, distillation("trajectory", detail=True)), {}
    for weight in (0.0, 1.0):
        contest = contest_of(base, decoded=weight, seams=0.5)
        with torch.no_grad():
            contest.module.learner.detail.choice[-1].bias[3 * HALF * HALF :] = 20.0
        losses = contest.losses(contest.module, Draw.at(0, 0))
        losses["loss"].backward()
        reached[weight] = float(contest.module.learner.decoder.block.weight.grad.norm())
        assert ("decoded" in losses) == (weight > 0)
    assert reached[1.0] > 100 * reached[0.0]


@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, -2), (-4, 1), (4, -4)])
def test_pictures_are_shifted_by_those_pixels_and_their_edges_repeated(down: int, right: int) -> None:
    pictures = torch.rand(2, 3, 16, 24)
    rows = (torch.arange(16) - down).clamp(0, 15)
    columns = (torch.arange(24) - right).clamp(0, 23)
    assert torch.equal(shifted(pictures, down, right, 4), pictures[:, :, rows][..., columns])


def test_real_and_made_pictures_are_looked_at_through_one_shift_and_batches_through_several(
    base: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, ...]] = []

    def watched(pictures: Tensor, *shift: int) -> Tensor:
        told.append(shift)
        return shifted(pictures, *shift)

    monkeypatch.setattr(adversarial, "shifted", watched)
    contest = contest_of(base)
    for number in range(12):
        contest.losses(contest.module, Draw.at(0, number))
    assert told[0::2] == told[1::2], "one look each at what is made and at the truth"
    assert len(set(told)) > 6 and all(abs(pixels) <= most for *shift, most in told for pixels in shift)
    assert {most for *_, most in told} == {4}


def test_only_given_joints_are_moved() -> None:
    keypoints = torch.rand(2, 133, 3)
    keypoints[:, 20:] = 0
    moved = jittered(keypoints, 0.5 * torch.randn(2, 133, 2, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(moved[:, 20:], keypoints[:, 20:]) and torch.equal(moved[..., 2], keypoints[..., 2])
    assert float((moved - keypoints)[:, :20, :2].std()) == pytest.approx(0.5, rel=0.25)
