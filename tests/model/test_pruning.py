"""Pruned students: what is dead can go without a trace, what is left keeps its weights and names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from distill.micro_setting import latents_of
from quantize.tiny_student import generator, make_artifact, recipe
from torch import Tensor, nn

from flowpose.artifact import Artifact
from flowpose.distill import distill
from flowpose.errors import SpecError
from flowpose.export.files import slimmed, traced
from flowpose.export.modules import OneStep
from flowpose.job import Job
from flowpose.model.autoencoder import Decoder, Residual, Upsample
from flowpose.model.generator import Generator
from flowpose.model.pruning import Skipped, keep_blocks, narrowed, with_narrow_decoder
from flowpose.model.transformer import SIZES
from flowpose.model.weights import load_generator
from flowpose.spec.check import check_recipe
from flowpose.spec.recipe import DEPTHS

WIDE = (6, 8, 10, 12)
NARROW = (4, 5, 7, 9)
LATENTS = 5
PRUNED = "distill.student={kind: pruned, blocks: [1], decoder: [4, 4, 8, 8]}"


def decoder(seed: int = 0, blocks: int = 2) -> Decoder:
    torch.manual_seed(seed)
    made = Decoder(WIDE, LATENTS, blocks).eval()
    nn.init.normal_(made.layers[-1].weight, std=0.1)
    return made


def convs(of: Decoder) -> list[tuple[nn.Conv2d, int]]:
    """Every convolution that writes a width, with how many channels `NARROW` leaves there; coarsest first."""
    found, stage = [], len(NARROW)
    for layer in of.layers[:-1]:
        if isinstance(layer, Residual):
            found += [(layer.first, NARROW[stage]), (layer.second, NARROW[stage])]
        elif isinstance(layer, Upsample | nn.Conv2d):
            stage -= 1
            found.append((layer.conv if isinstance(layer, Upsample) else layer, NARROW[stage]))
    return found


def killed(of: Decoder) -> Decoder:
    """The decoder with the first channels of every width silent, as many as `NARROW` leaves out."""
    with torch.no_grad():
        for conv, kept in convs(of):
            dead = conv.out_channels - kept
            conv.weight[:dead] = 0
            conv.bias[:dead] = 0
    return of


@torch.no_grad()
@pytest.mark.parametrize("blocks", [1, 2])
def test_channels_that_are_never_written_go_without_a_trace(blocks: int) -> None:
    old = killed(decoder(blocks=blocks))
    new, z = narrowed(old, NARROW), torch.randn(2, LATENTS, 3, 2)
    assert sum(p.numel() for p in new.parameters()) < 0.7 * sum(p.numel() for p in old.parameters())
    torch.testing.assert_close(new(z), old(z), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_widths_that_are_there_change_nothing() -> None:
    old, z = decoder(), torch.randn(1, LATENTS, 2, 3)
    assert torch.equal(narrowed(old, WIDE)(z), old(z))


@torch.no_grad()
def test_a_narrow_decoder_is_nearer_to_its_teacher_than_the_first_channels_are() -> None:
    """The rule chooses: with the weightiest channels last, leading ones alone are worse."""
    old = decoder(3)
    for conv, _ in convs(old):
        conv.weight.mul_(torch.linspace(0.1, 1.0, conv.out_channels)[:, None, None, None])
    z = torch.randn(4, LATENTS, 3, 3)
    chosen, first = narrowed(old, NARROW), decoder_of_first(old)
    assert (chosen(z) - old(z)).abs().mean() < 0.7 * (first(z) - old(z)).abs().mean()


def decoder_of_first(old: Decoder) -> Decoder:
    """The plain cut: the leading channels of everything."""
    made = Decoder(NARROW, LATENTS, old.blocks)
    there = old.state_dict()
    made.load_state_dict(
        {name: there[name][tuple(slice(n) for n in value.shape)] for name, value in made.state_dict().items()}
    )
    return made


def test_without_widths_the_autoencoder_is_the_same_one() -> None:
    whole = generator(recipe()).autoencoder
    assert with_narrow_decoder(whole, None) is whole


@torch.no_grad()
def test_a_block_whose_gates_are_closed_can_be_left_out() -> None:
    made = generator(recipe())
    flow, width = made.flow, made.flow.table.shape[-1]
    first = slice(0, 6 * width)
    flow.time.project.weight[first] = 0
    flow.time.project.bias[first] = 0
    flow.blocks[0].near.conv.weight.zero_()
    flow.blocks[0].near.conv.bias.zero_()
    pictures, poses = torch.rand(1, 3, 48, 32), torch.rand(1, 133, 3) * 32
    before, names = made(pictures, poses), set(flow.state_dict())
    keep_blocks(flow, [1])
    torch.testing.assert_close(made(pictures, poses), before)
    assert isinstance(flow.blocks[0], Skipped)
    assert {name for name in names if not name.startswith("blocks.0.")} == set(flow.state_dict())


@pytest.fixture
def student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """Two iterations of the whole stage, not measured."""
    latents = latents_of(generator(recipe()))
    monkeypatch.setattr("flowpose.distill.student.encode_all", lambda *_: latents)
    monkeypatch.setattr("flowpose.distill.measure", lambda *_: ())
    job = Job(
        recipe=recipe(PRUNED, "distill.optim={iterations: 2, batch: 4, warmup: 1}"), stage="distill",
        key="0" * 64, root=tmp_path / "out", parent=make_artifact(tmp_path, "model"),
    )  # fmt: skip
    return distill(job)


@torch.no_grad()
def test_a_pruned_student_comes_back_and_its_graph_is_smaller_and_says_the_same(student: Artifact) -> None:
    found, whole = load_generator(student), generator(recipe(), student=True)
    blocks = [isinstance(block, Skipped) for block in found.flow.blocks]
    assert blocks == [True, False] and found.autoencoder.decoder.layers[0].out_channels == 8
    picture, pose = torch.randint(0, 256, (48, 32, 3), dtype=torch.uint8), torch.rand(133, 3) * 32
    shown = picture.permute(2, 0, 1)[None].float() / 127.5 - 1
    small, large = (frame_graph(made, shown, pose) for made in (found, whole))
    assert small.ByteSize() < 0.75 * large.ByteSize()
    context = found.context(found.autoencoder.encode(shown), shown)[0]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(small.SerializeToString(), options, ["CPUExecutionProvider"])
    (frame,) = session.run(["frame"], {"context": context.numpy(), "keypoints": pose.numpy()})
    expected = (found(shown, pose[None])[0] * 127.5 + 127.5).clamp(0, 255).round().permute(1, 2, 0)
    assert np.abs(frame.astype(int) - expected.numpy()).max() <= 1


def frame_graph(made: Generator, shown: Tensor, pose: Tensor) -> Any:
    context = made.context(made.autoencoder.encode(shown), shown)[0]
    return slimmed(traced(OneStep(made), {"context": context, "keypoints": pose}, ["frame"], 17))


@pytest.mark.parametrize(
    ("student", "expected"),
    [
        (
            "blocks: [1, 0]",
            "student.blocks: not blocks of the teacher, got [1, 0], expected rising numbers below 2",
        ),
        ("blocks: [2]", "student.blocks: not blocks of the teacher, got [2]"),
        ("blocks: [1, 1]", "student.blocks: not blocks of the teacher, got [1, 1]"),
        (
            "decoder: [8, 16, 32, 65]",
            "student.decoder: wider than the teacher's, got [8, 16, 32, 65], expected at most",
        ),
    ],
)
def test_what_no_teacher_has_cannot_be_kept(student: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        check_recipe(recipe(f"distill.student={{kind: pruned, {student}}}"))
    assert expected in str(caught.value)


def test_depths_are_those_of_the_sizes() -> None:
    assert {name: size.depth for name, size in SIZES.items()} == dict(DEPTHS)
