"""Whether a recipe and a target fit together, before any work starts."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import SpecError
from .find import find
from .quantization import FP8_OPSET
from .recipe import DEPTHS, AutoencoderSpec, PrunedStudent, Recipe
from .target import Target

OPTIONAL = ("regressor", "teacher_finish", "finish")
"""Stages that a recipe has where the part of that name is not None."""

_STRIDE = 8  # pixels a latent, in each direction


def check(recipe: Recipe, target: Target) -> None:
    """Raises when a recipe cannot be carried out, or not for this target.

    Raises:
        SpecError: with every problem found.
    """
    problems = [*_recipe(recipe), *_compile(recipe, target)]
    if problems:
        raise SpecError(f"recipe {recipe.name} on target {target.name}", problems)


def check_recipe(recipe: Recipe) -> None:
    """Raises when a recipe cannot be carried out on any target.

    Raises:
        SpecError: with every problem found.
    """
    problems = _recipe(recipe)
    if problems:
        raise SpecError(f"recipe {recipe.name}", problems)


def _recipe(recipe: Recipe) -> list[str]:
    return [
        *_image(recipe),
        *_windows(recipe),
        *_detail(recipe),
        *_sharpened(recipe),
        *_pruned(recipe),
        *_runs(recipe),
        *_calibration(recipe),
        *_quantized(recipe),
        *_gates(recipe),
    ]


def _image(recipe: Recipe) -> Iterator[str]:
    """The picture must divide into patches, and hold the autoencoder's crop."""
    multiple = _STRIDE * _shrink(recipe) * recipe.model.patch
    for side in ("height", "width"):
        pixels = getattr(recipe.image, side)
        if pixels % multiple:
            why = f"a multiple of {multiple} for model.patch {recipe.model.patch}"
            yield f"recipe.image.{side}: not a multiple, got {pixels}, expected {why}"
    smaller = min(recipe.image.height, recipe.image.width)
    if isinstance(recipe.autoencoder, AutoencoderSpec) and recipe.autoencoder.crop > smaller:
        yield (
            f"recipe.autoencoder.crop: larger than the picture, got {recipe.autoencoder.crop}, "
            f"expected at most {smaller}"
        )


def _shrink(recipe: Recipe) -> int:
    return recipe.autoencoder.shrink if isinstance(recipe.autoencoder, AutoencoderSpec) else 1


def _windows(recipe: Recipe) -> Iterator[str]:
    """Windows of pictures are cut in latents of STRIDE pixels."""
    if _shrink(recipe) == 1:
        return
    for name in ("distill", *OPTIONAL):
        part = getattr(recipe, name)
        if part is not None and part.crop:
            yield f"recipe.{name}.crop: not with autoencoder.shrink, got {part.crop}, expected 0"


def _detail(recipe: Recipe) -> Iterator[str]:
    """Pixels are carried along the match of limbs, which a drawn skeleton does not have."""
    if recipe.model.pose == "limb-field":
        return
    if recipe.teacher_finish is not None:
        yield f"recipe.teacher_finish: needs model.pose limb-field, got {recipe.model.pose!r}, expected none"
    for name in ("distill", "regressor"):
        part = getattr(recipe, name)
        if part is not None and part.detail and part.student.kind != "edge":
            yield f"recipe.{name}.detail: needs model.pose limb-field, got {recipe.model.pose!r}, expected detail false"


def _sharpened(recipe: Recipe) -> Iterator[str]:
    """A model has one source graph, which the networks that it is compared with use too."""
    if not recipe.distill.detail:
        return
    for name, part in (("regressor", recipe.regressor), ("teacher_finish", recipe.teacher_finish)):
        carries = part is not None and getattr(part, "detail", True)
        if part is not None and carries and part.sharpen != recipe.distill.sharpen:
            why = f"distill.sharpen {recipe.distill.sharpen:g}: one source graph serves both"
            yield f"recipe.{name}.sharpen: another than the student's, got {part.sharpen:g}, expected {why}"


def _pruned(recipe: Recipe) -> Iterator[str]:
    """What is left of a teacher must be in it."""
    depth = DEPTHS[recipe.model.size]
    for name in ("distill", "regressor"):
        part = getattr(recipe, name)
        if part is None or not isinstance(part.student, PrunedStudent):
            continue
        where, student = f"recipe.{name}.student", part.student
        blocks = student.blocks or ()
        if list(blocks) != sorted(set(blocks) & set(range(depth))):
            why = f"rising numbers below {depth}, the blocks of model.size {recipe.model.size}"
            yield f"{where}.blocks: not blocks of the teacher, got {list(blocks)}, expected {why}"
        if student.decoder is not None:
            yield from _narrower(recipe, f"{where}.decoder", student.decoder)


def _narrower(recipe: Recipe, where: str, decoder: tuple[int, ...]) -> Iterator[str]:
    if not isinstance(recipe.autoencoder, AutoencoderSpec):
        yield f"{where}: not with a pretrained autoencoder, got {list(decoder)}, expected null"
    elif any(own > there for own, there in zip(decoder, recipe.autoencoder.widths, strict=True)):
        most = list(recipe.autoencoder.widths)
        yield f"{where}: wider than the teacher's, got {list(decoder)}, expected at most {most}"


def _runs(recipe: Recipe) -> Iterator[str]:
    """A warm-up must end before its run does, and a sheet shows pairs that were evaluated."""
    runs = {
        "train.joints": recipe.train.joints,
        "train.optim": recipe.train.optim,
        "distill.optim": recipe.distill.optim,
    }
    runs |= {f"{name}.optim": part.optim for name in OPTIONAL if (part := getattr(recipe, name)) is not None}
    if recipe.features is not None:
        runs["features.optim"] = recipe.features.optim
    if recipe.quantize.tune is not None:
        runs["quantize.tune.optim"] = recipe.quantize.tune.optim
    if isinstance(recipe.autoencoder, AutoencoderSpec):
        runs["autoencoder.optim"] = recipe.autoencoder.optim
    for name, optim in runs.items():
        if optim.iterations and optim.warmup >= optim.iterations:
            yield (
                f"recipe.{name}.warmup: as long as the run, got {optim.warmup}, "
                f"expected less than {optim.iterations} iterations"
            )
    if recipe.train.optim.batch % recipe.train.targets:
        yield (
            f"recipe.train.optim.batch: not a multiple of train.targets, got {recipe.train.optim.batch}, "
            f"expected a multiple of {recipe.train.targets}"
        )
    if recipe.evaluate.sheet > recipe.evaluate.pairs:
        got, limit = recipe.evaluate.sheet, recipe.evaluate.pairs
        yield f"recipe.evaluate.sheet: more than evaluate.pairs, got {got}, expected at most {limit}"


def _calibration(recipe: Recipe) -> Iterator[str]:
    """The calibration set must be found now, not after hours of training."""
    name = recipe.quantize.calibration
    try:
        find("calib", name)
    except SpecError as error:
        yield f"recipe.quantize.calibration: {error.problems[0]}, got {name!r}. Fix: {error.fix}"


def _quantized(recipe: Recipe) -> Iterator[str]:
    """FP8 is in ONNX since opset 19, and what the student is not quantized to cannot be all that is exported."""
    precisions, method = recipe.export.precisions, recipe.quantize.method
    own = "fp8" if method == "fp8" else "int8"
    if "fp8" in precisions and own == "fp8" and recipe.export.opset < FP8_OPSET:
        yield f"recipe.export.opset: has no FP8, got {recipe.export.opset}, expected {FP8_OPSET} or more"
    for other in {"int8", "fp8"} & {*precisions} - {own}:
        yield (
            f"recipe.export.precisions: quantize.method {method} makes no {other}, got {', '.join(precisions)}, "
            f"expected of fp32, fp16, {own}"
        )


def _gates(recipe: Recipe) -> Iterator[str]:
    """A gate must have a limit, and a stage of this recipe: another's would never be judged."""
    for index, gate in enumerate(recipe.gates):
        where = f"recipe.gates.{index}"
        if gate.min is None and gate.max is None:
            yield f"{where}: no limit, expected min or max"
        elif gate.min is not None and gate.max is not None and gate.min > gate.max:
            yield f"{where}: min is above max, got {gate.min} and {gate.max}"
        if gate.stage in OPTIONAL and getattr(recipe, gate.stage) is None:
            yield f"{where}.stage: not a stage of this recipe, got {gate.stage!r}, expected recipe.{gate.stage}"
        if gate.of is not None and ("." not in gate.of or gate.of == gate.metric):
            yield f"{where}.of: got {gate.of!r}, expected another measurement, as teacher-16.own_lpips"


def _compile(recipe: Recipe, target: Target) -> Iterator[str]:
    """The target must run the precision, or one that there will be, and have the threads."""
    precision, can = recipe.compile.precision, ", ".join(target.precisions)
    if precision == "auto" and not {*recipe.export.precisions} & {*target.precisions}:
        made = ", ".join(recipe.export.precisions)
        yield f"recipe.export.precisions: none is one of target {target.name}, got {made}, expected one of {can}"
    if precision not in ("auto", *target.precisions):
        yield (
            f"recipe.compile.precision: not one of target {target.name}, got {precision!r}, "
            f"expected auto or one of {can}"
        )
    if target.threads is not None and recipe.compile.threads > target.threads:
        yield (
            f"recipe.compile.threads: more than target {target.name} has, got {recipe.compile.threads}, "
            f"expected at most {target.threads}"
        )
