"""The recipe: what is made. Data, networks, training, distillation, quantization, export, gates."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from flowpose.spec.base import Precision, Spec
from flowpose.spec.data import DataSpec as DataSpec
from flowpose.spec.data import DeepFashionData as DeepFashionData
from flowpose.spec.data import FiguresData as FiguresData
from flowpose.spec.data import FolderData as FolderData
from flowpose.spec.data import MarketData as MarketData
from flowpose.spec.judging import EvaluateSpec, Gate
from flowpose.spec.optim import OptimSpec
from flowpose.spec.quantization import QuantizeSpec

Share = Annotated[float, Field(ge=0.0, le=1.0)]
MARGIN = 1.1  # times as fast; by less, reduced precision is not worth what it loses


class ImageSpec(Spec):
    """Height and width of every picture, in pixels; multiples of 8 (the autoencoder's stride)."""

    height: Annotated[int, Field(ge=16, multiple_of=8)]
    width: Annotated[int, Field(ge=16, multiple_of=8)]


class AutoencoderSpec(Spec):
    """The f8 autoencoder (conv + ReLU). `widths` are the channels at strides 1, 2, 4 and 8.

    `crop` trains on random crops of that size (0: whole pictures). `noise`, in latent deviations, is added before
    the decoder, which must forgive what a one-step student gets wrong. `shrink` 2 halves pictures before they are
    encoded and enlarges those that are drawn: what is sharper, `detail` brings (flowpose.model.autoencoder). `start` is
    the recipe whose autoencoder, made before, this one starts from, with its latents' scale.
    """

    latents: Annotated[int, Field(ge=1, le=192)] = 16
    widths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (24, 48, 96, 128)
    blocks: PositiveInt = 2
    gradient: Annotated[float, Field(ge=0)] = 1.0
    crop: Annotated[int, Field(ge=0, multiple_of=8)] = 0
    noise: Annotated[float, Field(ge=0)] = 0.02
    shrink: Literal[1, 2] = 1
    start: str | None = None
    optim: OptimSpec


class PretrainedAutoencoderSpec(Spec):
    """A diffusers autoencoder on disk (`AutoencoderTiny` or `AutoencoderKL`), never downloaded by itself.

    `config` is the network's own configuration; artifacts record it, recipes leave it out.
    """

    pretrained: Literal["AutoencoderTiny", "AutoencoderKL"]
    path: str
    config: dict[str, Any] | None = None


DEPTHS: Mapping[str, int] = MappingProxyType(
    {"micro": 2, "tiny": 4, "mini": 4, "small": 8, "S": 12, "B": 12, "L": 24}
)
"""Blocks of the transformer's sizes."""


class TransformerSpec(Spec):
    """The RPFM transformer; `size` names a row of flowpose.model.transformer.SIZES.

    `pose` says how the pose enters: `limb-field` (where every limb is, computed at each token, and source tokens
    matched by limb) or `skeleton-latent` (the paper's: a drawn skeleton through the autoencoder's encoder).
    """

    size: Literal["micro", "tiny", "mini", "small", "S", "B", "L"] = "mini"
    patch: Literal[1, 2] = 1
    pose: Literal["limb-field", "skeleton-latent"] = "limb-field"


class PoseAugmentSpec(Spec):
    """How target poses are spoilt in training, so that poses of detectors and of other formats work.

    Attributes:
        parts: share of poses of which hands, feet, face, all beyond COCO-17, or one joint is hidden.
        limbs: share that lose one arm or leg.
        half_body: share that lose both legs.
        jitter: share whose joints are moved at random, each by a normal step of `spread` picture heights, and
            whose shoulders and hips are moved apart by up to `widen` of their distance: people and detectors
            click them further out than the joints' centres.
    """

    parts: Share = 0.2
    limbs: Share = 0.08
    half_body: Share = 0.04
    jitter: Share = 0.25
    spread: Annotated[float, Field(ge=0, le=0.1)] = 0.005
    widen: Share = 0.2


class TrainSpec(Spec):
    """Flow matching on the conditional optimal-transport path (t = 0 noise, t = 1 data).

    Attributes:
        sigma_min: noise left at t = 1 (RPFM's psi_t = (1 - (1 - sigma_min) t) x_0 + t x_1).
        condition_dropout: share of samples trained without source and pose (classifier-free guidance).
        poses: how target poses are spoilt.
        at_noise: share of samples drawn at exactly t = 0, which the one-step student starts from.
        targets: target pictures drawn per source picture; they share one pass of the source branch.
        joints: the run before the flow's own that trains where the source's own joints are, which limbs are matched
            by; nothing with `skeleton-latent`.
        start: the recipe whose teacher this one starts from, made before, or `models/NAME` for the teacher inside a
            shipped model (its weights are kept in a byte each); weights of other shapes start anew.
    """

    sigma_min: Annotated[float, Field(ge=0.0, lt=0.5)] = 1e-4
    condition_dropout: Share = 0.05
    poses: PoseAugmentSpec = PoseAugmentSpec()
    at_noise: Share = 0.1
    targets: PositiveInt = 4
    joints: OptimSpec = OptimSpec(iterations=1500, batch=32, lr=1e-3, warmup=50, ema=0.995)
    flip: bool = True
    start: str | None = None
    optim: OptimSpec


class FeaturesSpec(Spec):
    """The network whose maps the feature loss compares, trained for joints and identities (flowpose.train.features).

    Attributes:
        crop: side in pixels of the random windows it is trained on; 0 is the whole picture.
        optim: `batch` is a number of pictures, two of each person.
    """

    crop: Annotated[int, Field(ge=0, multiple_of=16)] = 0
    optim: OptimSpec


class SameStudent(Spec):
    """The teacher's own network, started from the teacher's weights."""

    kind: Literal["same"] = "same"


class EdgeStudent(Spec):
    """Convolutions and ReLU, with one attention to the source at half the latents' resolution; made for INT8."""

    kind: Literal["edge"] = "edge"
    width: Annotated[int, Field(ge=32, multiple_of=32)] = 192
    blocks: PositiveInt = 1


class PrunedStudent(Spec):
    """Less of the teacher's own network, started from the teacher's weights (flowpose.model.pruning).

    Attributes:
        blocks: which of the teacher's blocks stay, counted from 0; None is all of them.
        decoder: channels of the decoder at strides 1, 2, 4 and 8, each at most the teacher's; None keeps the teacher's.
    """

    kind: Literal["pruned"]
    blocks: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    decoder: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] | None = None


StudentSpec = Annotated[SameStudent | PrunedStudent | EdgeStudent, Field(discriminator="kind")]


class Distillation(Spec):
    """What all methods share: the student, its steps, z*, and the losses to the true picture.

    Attributes:
        student: which network.
        steps: 1, or 2: then the second evaluation, from `middle`, is trained too, and the same weights do both.
        middle: t of the second evaluation; None takes the teacher's best on val.
        second: share of a batch that trains the second evaluation.
        noise: the fixed z*: `zero`, or `fixed` for the one draw from N(0, I) that teachers start from. One step
            must take z* away again to the last digit, and a short training does not, so zero is the default.
        truth: weight of the losses to the true picture (Charbonnier, and `gradient` times edges).
        feature: weight of the distance of features, beside the pixel losses: of the recipe's `features`, or else of the
            own encoder's.
        crop: side in pixels of the random window that is decoded and compared; 0 is the whole picture. At 256 x 176
            the decoder and the feature loss are most of an iteration.
        detail: whether the source's own pixels are carried to the picture (flowpose.model.detail); needs matched limbs,
            so not with a student of `skeleton-latent`.
        carried: weight of the pixel loss of the carried pixels alone.
        sharpen: how much the source's pixels are sharpened before they are carried, against the blur of sampling
            between pixels (flowpose.model.detail.sharpened); not in training.
        start: the recipe whose student, made before, this one starts from, instead of its teacher and new detail; of
            the same shape, and with its middle where `middle` is None.
    """

    student: StudentSpec = SameStudent()
    steps: Literal[1, 2] = 1
    middle: Annotated[float, Field(gt=0, lt=1)] | None = None
    second: Annotated[float, Field(gt=0, le=1)] = 0.25
    noise: Literal["zero", "fixed"] = "zero"
    truth: Annotated[float, Field(ge=0)] = 1.0
    gradient: Annotated[float, Field(ge=0)] = 1.0
    feature: Annotated[float, Field(ge=0)] = 0.5
    crop: Annotated[int, Field(ge=0, multiple_of=8)] = 0
    detail: bool = False
    carried: Annotated[float, Field(ge=0)] = 0.2
    sharpen: Annotated[float, Field(ge=0, le=2)] = 0.0
    start: str | None = None
    optim: OptimSpec


class TrajectoryDistillation(Distillation):
    """Regression on the ends of the teacher's Heun trajectories from z*.

    Attributes:
        intervals: Heun intervals of the teacher's end-dense grid (2 x intervals - 1 evaluations).
        pairs: teacher end points made once and kept.
        solved: share of a batch that has teacher end points; 0 trains on the truth alone.
        teacher: weight of the losses to the end points' pictures.
        latent: weight of the loss to the end points' latents.
    """

    method: Literal["trajectory"] = "trajectory"
    intervals: Annotated[int, Field(ge=2)] = 8
    pairs: PositiveInt = 4096
    solved: Share = 0.5
    teacher: Annotated[float, Field(ge=0)] = 1.0
    latent: Annotated[float, Field(ge=0)] = 0.5


class BootstrapDistillation(Distillation):
    """The Lagrangian identity along the teacher's path from z* (BOOT, arXiv 2306.05544), in the student's own words.

    With F(z, d) the mean velocity over [0, d]: (d + h) F(z, d + h) = d F(z, d) + h v_T(z + d F(z, d), d). No
    trajectories are stored and no derivative is taken.

    Attributes:
        step: h.
        solver: of the teacher over h.
        weight: of this loss.
    """

    method: Literal["bootstrap"]
    step: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    solver: Literal["euler", "midpoint"] = "midpoint"
    weight: Annotated[float, Field(ge=0)] = 1.0


class FlowMapDistillation(Distillation):
    """MeanFlow (arXiv 2505.13447) with the teacher's velocity and a finite difference for the total derivative.

    u(x_t, t, r) = v + (r - t) du/dt; any number of steps.

    Attributes:
        epsilon: half the width of the central difference in t.
        anchor: share of samples with r = t, plain flow matching.
        weight: of this loss.
    """

    method: Literal["flowmap"]
    epsilon: Annotated[float, Field(gt=0, le=0.1)] = 5e-3
    anchor: Share = 0.5
    weight: Annotated[float, Field(ge=0)] = 1.0


DistillSpec = Annotated[
    TrajectoryDistillation | BootstrapDistillation | FlowMapDistillation, Field(discriminator="method")
]


class AdversarialFinish(Spec):
    """Finishing against heads on frozen features (in the manner of LADD, arXiv 2403.12015).

    The heads look at the frozen teacher's tokens of the re-encoded, noised picture under the same pose and source,
    at the frozen encoder's maps, and at the pixels.

    Attributes:
        share: size of the adversarial gradient on the picture, as a share of the regression's, where the critic tells
            real from made well; less where it does not.
        truth, gradient, feature: weights of the losses to the true picture that stay.
        seams: weight of how unevenly contrast lies over the places of the autoencoder's blocks
            (flowpose.model.losses.seams): a critic and features ask for contrast, and what repeats with the blocks is
            the cheapest.
        texture: weight of the difference in local contrast, of edges and own-encoder maps, wherever it lies
            (flowpose.model.losses.texture), beside that of mean colours: how much of the carried pixels is let in is
            trained by these two. 0 leaves that to the pixel loss, which lets in next to nothing.
        decoded: weight of the pixel loss, and of `seams`, of what the latents alone draw, before pixels are carried in.
        steady: weight of how much the picture changes when the joints of a still pose are moved as the noise of a
            detector moves them (`train.poses.spread`), on a quarter of the batch; 0 leaves it out. A critic alone
            rewards detail that jumps with every joint.
        times: range of t in which teacher tokens are looked at.
        heads: channels of the heads.
        reopen: whether the share of carried pixels starts anew, open, where `texture` trains it; off for a student that
            was finished before.
        crop: as in distillation; windows have no tokens, so only encoder maps and pixels are looked at.
    """

    method: Literal["adversarial"] = "adversarial"
    share: Annotated[float, Field(gt=0, le=10)] = 0.5
    truth: Annotated[float, Field(ge=0)] = 1.0
    gradient: Annotated[float, Field(ge=0)] = 1.0
    feature: Annotated[float, Field(ge=0)] = 0.5
    seams: Annotated[float, Field(ge=0)] = 0.0
    texture: Annotated[float, Field(ge=0)] = 0.0
    decoded: Annotated[float, Field(ge=0)] = 0.0
    steady: Annotated[float, Field(ge=0)] = 0.0
    times: tuple[Share, Share] = (0.4, 0.95)
    heads: PositiveInt = 64
    reopen: bool = True
    crop: Annotated[int, Field(ge=0, multiple_of=8)] = 0
    optim: OptimSpec


class TeacherFinish(AdversarialFinish):
    """The finish that a student gets, for the teacher it is compared with: decoder and detail, on what it samples.

    Its latents stay as they are. Without it a student that carries pixels is compared with a teacher that has none.

    Attributes:
        pairs: ends of the teacher's paths from z*, made once.
        intervals: Heun intervals of each (2 x intervals - 1 evaluations).
        carried: weight of the pixel loss of the carried pixels alone.
        sharpen: as in distillation.
        steady: as for a student, of what is carried alone: latents are not sampled again.
    """

    pairs: PositiveInt = 2048
    intervals: Annotated[int, Field(ge=2)] = 8
    carried: Annotated[float, Field(ge=0)] = 0.2
    sharpen: Annotated[float, Field(ge=0, le=2)] = 0.0


class RegressorSpec(Spec):
    """The baseline that distillation must beat: a student's network from the teacher's weights and z* = 0, L1 alone.

    `student`, `crop`, `detail` and `sharpen` are as in distillation.
    """

    student: StudentSpec = SameStudent()
    crop: Annotated[int, Field(ge=0, multiple_of=8)] = 0
    detail: bool = False
    sharpen: Annotated[float, Field(ge=0, le=2)] = 0.0
    optim: OptimSpec


class ExportSpec(Spec):
    """ONNX export.

    Attributes:
        opset: of ONNX.
        tolerance: the largest mean absolute difference to torch, in 8-bit levels.
        precisions: of the frame graphs that are kept; INT8 and FP8 only where the line has such a student. FP16 is made
            from the fp32 graph (nvidia-modelopt AutoCast), which keeps in fp32 what would overflow.
        weights: how the fp32 frame graph keeps its large weights: two bytes each, or one with a scale a channel, as
            everything that is only compared with is kept.
        references: whether teacher, L1 baseline and two steps are kept beside the student, to be measured with it.
    """

    opset: Annotated[int, Field(ge=17, le=20)] = 17
    tolerance: PositiveFloat = 0.5
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)] = ("fp32", "int8")
    weights: Literal["fp16", "int8"] = "fp16"
    references: bool = True


class CompileSpec(Spec):
    """What the compile step builds on the device.

    Attributes:
        precision: of the frame graph; `auto` measures all that graph and target have, and takes a reduced one only
            where it is faster by the margin and its gates hold.
        margin: how many times as fast it must be, by the median and by p95.
        threads: of one run.
    """

    precision: Literal["auto", "fp32", "fp16", "int8", "fp8"] = "auto"
    margin: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = MARGIN
    threads: PositiveInt = 2


class Recipe(Spec):
    """A whole line: data, autoencoder, teacher, student, INT8, graphs, and the gates between them."""

    format: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    description: str = ""
    data: DataSpec
    image: ImageSpec
    autoencoder: AutoencoderSpec | PretrainedAutoencoderSpec
    model: TransformerSpec
    train: TrainSpec
    features: FeaturesSpec | None = None
    distill: DistillSpec
    finish: AdversarialFinish | None = None
    teacher_finish: TeacherFinish | None = None
    regressor: RegressorSpec | None = None
    quantize: QuantizeSpec
    export: ExportSpec = ExportSpec()
    compile: CompileSpec = CompileSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    gates: tuple[Gate, ...] = ()
    card: dict[str, str] = {}
