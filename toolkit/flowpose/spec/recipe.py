"""The recipe: what is made. Data, networks, training, distillation, quantization, export, gates."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from flowpose.spec.base import Spec

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class FolderData(Spec):
    """Pictures with COCO keypoints grouped by identity: tars or folders named `<split>*` under `path`.

    `path` is a folder, or a bare name looked for in the data roots (`--data`, ./data, ../shared/data).
    """

    source: Literal["folder"] = "folder"
    path: str = "people"


class FiguresData(Spec):
    """Procedural dressed figures, drawn when needed: no files at all."""

    source: Literal["figures"] = "figures"
    identities: PositiveInt = 64
    pictures: Annotated[int, Field(ge=2)] = 8
    seed: Annotated[int, Field(ge=0)] = 0


DataSpec = Annotated[FolderData | FiguresData, Field(discriminator="source")]


class ImageSpec(Spec):
    """Height and width of every picture, in pixels; multiples of 8 (the autoencoder's stride)."""

    height: Annotated[int, Field(ge=16, multiple_of=8)]
    width: Annotated[int, Field(ge=16, multiple_of=8)]


class OptimSpec(Spec):
    """One optimization run: AdamW, linear warm-up, cosine decay to a tenth, EMA of the weights."""

    iterations: PositiveInt
    batch: PositiveInt
    lr: PositiveFloat = 3e-4
    warmup: Annotated[int, Field(ge=0)] = 100
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    accumulate: PositiveInt = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: Annotated[int, Field(ge=0)] = 0
    checkpoint_every: PositiveInt = 500
    sample_every: Annotated[int, Field(ge=0)] = 0


class AutoencoderSpec(Spec):
    """The f8 autoencoder (conv + ReLU). `widths` are the channels at strides 1, 2, 4 and 8.

    `crop` trains on random crops of that size (0: whole pictures).
    """

    latents: Annotated[int, Field(ge=1, le=192)] = 16
    widths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (24, 48, 96, 128)
    blocks: PositiveInt = 2
    gradient: Annotated[float, Field(ge=0)] = 1.0
    crop: Annotated[int, Field(ge=0, multiple_of=8)] = 0
    optim: OptimSpec


class PretrainedAutoencoderSpec(Spec):
    """A diffusers autoencoder on disk (`AutoencoderTiny` or `AutoencoderKL`), never downloaded by itself.

    `config` is the network's own configuration; artifacts record it, recipes leave it out.
    """

    pretrained: Literal["AutoencoderTiny", "AutoencoderKL"]
    path: str
    config: dict[str, Any] | None = None


class TransformerSpec(Spec):
    """The RPFM transformer; `size` names a row of flowpose.model.transformer.SIZES."""

    size: Literal["micro", "tiny", "mini", "small", "S", "B", "L"] = "mini"
    patch: Literal[1, 2] = 1


class TrainSpec(Spec):
    """Flow matching on the conditional optimal-transport path (t = 0 noise, t = 1 data).

    Attributes:
        sigma_min: noise left at t = 1 (RPFM's psi_t = (1 - (1 - sigma_min) t) x_0 + t x_1).
        condition_dropout: share of samples trained without source and pose (classifier-free guidance).
        joint_dropout: share of samples whose hands, feet or face are hidden, so that COCO-17 poses work.
        at_noise: share of samples drawn at exactly t = 0, which the one-step student starts from.
        targets: target pictures drawn per source picture; they share one pass of the source branch.
        source_pose: weight of the auxiliary task 'where are the source's own limbs' on the source branch.
    """

    sigma_min: Annotated[float, Field(ge=0.0, lt=0.5)] = 1e-4
    condition_dropout: Share = 0.05
    joint_dropout: Share = 0.2
    at_noise: Share = 0.1
    targets: PositiveInt = 4
    source_pose: Annotated[float, Field(ge=0)] = 0.5
    flip: bool = True
    optim: OptimSpec


class TrajectoryDistillation(Spec):
    """One step from a fixed z*: regression on the teacher's Heun trajectory, on the truth and on features.

    Attributes:
        intervals: Heun intervals of the teacher's end-dense grid (2 x intervals - 1 evaluations).
        pairs: teacher end points made once and kept.
        noise: the fixed z*: `zero`, or `fixed` for the one draw from N(0, I) that teachers start from. One step
            must take z* away again to the last digit, and a short training does not, so zero is the default.
        solved: share of a batch that has teacher end points; the rest are fresh pairs with their truth only.
        teacher, truth: weights of the losses to the end points and to the truth (Charbonnier and edges in
            pixels, and `feature` times own-encoder features).
        latent: weight of the loss to the end points' latents.
    """

    method: Literal["trajectory"] = "trajectory"
    intervals: Annotated[int, Field(ge=2)] = 8
    pairs: PositiveInt = 4096
    noise: Literal["zero", "fixed"] = "zero"
    solved: Share = 0.5
    teacher: Annotated[float, Field(ge=0)] = 1.0
    truth: Annotated[float, Field(ge=0)] = 0.5
    feature: Annotated[float, Field(ge=0)] = 0.5
    latent: Annotated[float, Field(ge=0)] = 0.5
    optim: OptimSpec


class Int8(Spec):
    """nvidia-modelopt INT8: per-channel weights, per-tensor activations, calibrated on `calibration`.

    `keep` are glob patterns of module names that stay in floating point.
    """

    method: Literal["int8"] = "int8"
    calibration: str
    algorithm: Literal["max", "smoothquant"] = "max"
    keep: tuple[str, ...] = ()


class ExportSpec(Spec):
    """ONNX export. `tolerance` is the largest mean absolute difference to torch, in 8-bit levels."""

    opset: Annotated[int, Field(ge=17, le=20)] = 17
    tolerance: PositiveFloat = 0.5


class CompileSpec(Spec):
    """What the compile step builds: the precision of the frame graph and the threads it is measured with."""

    precision: Literal["fp32", "int8"] = "int8"
    threads: PositiveInt = 2


class EvaluateSpec(Spec):
    """How quality is measured: the split, how many pairs, and the teacher's step counts in the table."""

    split: Literal["train", "val", "test"] = "val"
    pairs: PositiveInt = 64
    sheet: PositiveInt = 8
    seed: Annotated[int, Field(ge=0)] = 0
    teacher_steps: tuple[PositiveInt, ...] = (1, 2, 16)
    latency_steps: tuple[PositiveInt, ...] = (16, 50)
    latency_runs: PositiveInt = 100


class Gate(Spec):
    """A limit on one measurement of one stage; the run stops where it is broken."""

    stage: Literal["autoencoder", "train", "distill", "quantize", "export", "compile"]
    metric: str
    min: float | None = None
    max: float | None = None


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
    distill: TrajectoryDistillation
    quantize: Int8
    export: ExportSpec = ExportSpec()
    compile: CompileSpec = CompileSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    gates: tuple[Gate, ...] = ()
    card: dict[str, str] = {}
