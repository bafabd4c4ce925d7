"""The commands `flowpose bundle`, `unbundle`, `deploy` and `halve`."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from tiny_graphs import make_artifact
from typer.testing import CliRunner

from flowpose import cli_bundle, cli_halve, own_wheel
from flowpose.artifact import Artifact
from flowpose.errors import ArtifactError, FlowposeError, IntegrityError, MissingDependency, SpecError

app = typer.Typer(pretty_exceptions_enable=False)
for command in (cli_bundle.bundle, cli_bundle.unbundle, cli_bundle.deploy, cli_halve.halve):
    app.command()(command)


def call(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(result.exception, FlowposeError):
        raise result.exception
    return result


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "tiny").path


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "flowpose-0.1.0-py3-none-any.whl"
    path.write_bytes(b"a wheel")
    return path


def test_bundle_unbundle_and_the_printed_commands(tmp_path: Path, model: Path, wheel: Path) -> None:
    made = call("bundle", model, "--target", "cpu", "-o", tmp_path / "b.tar", "--wheel", wheel, "--json")
    record = json.loads(made.stdout)
    assert (record["targets"], record["signed"]) == ({"cpu": "targets/cpu.yaml"}, False)
    opened = json.loads(call("unbundle", tmp_path / "b.tar", "--into", tmp_path / "o", "--json").stdout)
    assert opened["sha256"] == record["sha256"]
    text = call("deploy", tmp_path / "b.tar", "--host", "me@board", "--target", "cpu").stdout
    assert text.startswith("#!/bin/sh\nset -eu\n\n# 1 check: ")
    plan = json.loads(
        call("deploy", tmp_path / "b.tar", "--host", "me@board", "--target", "cpu", "--json").stdout
    )
    assert not plan["run"]
    assert all(shlex.join(step["argv"]) in text for step in plan["steps"])


def test_the_next_command_is_said(tmp_path: Path, model: Path) -> None:
    made = call("bundle", model, "--target", "cpu", "-o", tmp_path / "b", "--no-wheel")
    assert made.stdout == f"{tmp_path / 'b'}\n"


def test_deploy_from_a_step_prints_the_rest(tmp_path: Path, model: Path, wheel: Path) -> None:
    call("bundle", model, "--target", "cpu", "-o", tmp_path / "b.tar", "--wheel", wheel)
    text = call("deploy", tmp_path / "b.tar", "--host", "b", "--target", "cpu", "--from", "bench").stdout
    assert "# 1 bench: " in text
    assert "# 2 fetch: " in text
    assert "compile: " not in text


def test_a_release_is_given_as_owners_know_it(tmp_path: Path, model: Path, wheel: Path) -> None:
    board, packed = "jetson-orin-nano-8gb", tmp_path / "b.tar"
    call("bundle", model, "--target", board, "-o", packed, "--wheel", wheel, "--no-fp16")

    def planned(*release: str) -> str:
        text: str = call("deploy", packed, "--host", "b", "--target", board, *release).stdout
        return text

    assert planned("--jetpack", "6.2.1") == planned("--jetpack", "6.2.2") == planned("--jetpack", "6.2")
    assert planned("--jetpack", "7.2.1") == planned("--jetpack", "7.2") != planned("--jetpack", "6.2")
    with pytest.raises(SpecError, match=r"got '6\.1', expected one of 6\.2, 6\.2\.1, 6\.2\.2, 7\.2, 7\.2\.1"):
        planned("--jetpack", "6.1")
    with pytest.raises(SpecError, match=r"jetpack: got None, expected one of 6\.2, 7\.2"):
        planned()


def test_a_release_for_a_target_without_any_is_refused(tmp_path: Path, model: Path, wheel: Path) -> None:
    call("bundle", model, "--target", "cpu", "-o", tmp_path / "b.tar", "--wheel", wheel)
    with pytest.raises(SpecError, match=r"target cpu has no releases, got '6\.2\.1', expected none"):
        call("deploy", tmp_path / "b.tar", "--host", "b", "--target", "cpu", "--jetpack", "6.2.1")


def test_deploy_with_a_key_refuses_what_is_not_signed(tmp_path: Path, model: Path, wheel: Path) -> None:
    pytest.importorskip("cryptography")
    call("bundle", model, "--target", "cpu", "-o", tmp_path / "b.tar", "--wheel", wheel)
    with pytest.raises(IntegrityError, match="is not signed, expected a signature by"):
        call("deploy", tmp_path / "b.tar", "--host", "b", "--target", "cpu", "--key", tmp_path / "me.pub")


def test_deploy_with_a_key_checks_every_file(tmp_path: Path, model: Path, wheel: Path) -> None:
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    from cryptography.hazmat.primitives import serialization as form

    key, pem = ed25519.Ed25519PrivateKey.generate(), form.Encoding.PEM
    (tmp_path / "me").write_bytes(key.private_bytes(pem, form.PrivateFormat.PKCS8, form.NoEncryption()))
    public = key.public_key().public_bytes(pem, form.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "me.pub").write_bytes(public)
    packed, asked = tmp_path / "b.tar", ("--host", "b", "--target", "cpu", "--key", tmp_path / "me.pub")
    call("bundle", model, "--target", "cpu", "-o", packed, "--wheel", wheel, "--key", tmp_path / "me")
    assert "# 4 key: " in call("deploy", packed, *asked).stdout
    packed.write_bytes(packed.read_bytes().replace(b"a wheel", b"a whale"))
    with pytest.raises(IntegrityError, match=r"\.whl: was changed"):
        call("deploy", packed, *asked, "--run")


def test_what_is_asked_wrongly(tmp_path: Path, model: Path, wheel: Path) -> None:
    both = call("bundle", model, "--target", "cpu", "-o", tmp_path / "b", "--wheel", wheel, "--no-wheel")
    assert both.exit_code == 2
    with pytest.raises(SpecError, match=r"bundle.precision: unknown value, got 'int7'"):
        call("bundle", model, "--target", "cpu", "-o", tmp_path / "b", "--no-wheel", "--precision", "int7")


@pytest.mark.parametrize(("frames", "target", "asked"), [
    (("fp32", "int8"), "jetson-orin-nano-8gb", True), (("int8",), "jetson-orin-nano-8gb", True),
    (("fp32", "fp16"), "jetson-orin-nano-8gb", False), (("int8",), "cpu", False),
])  # fmt: skip
def test_fp16_is_added_where_a_gpu_wants_it_and_the_model_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: tuple[str, ...], target: str, asked: bool
) -> None:
    model, halved = make_artifact(tmp_path / "tiny", frames), []

    def with_halves(graph: Artifact, root: Path) -> Artifact:
        halved.append(graph.path)
        return graph

    monkeypatch.setattr("flowpose.export.halves.with_halves", with_halves)
    call("bundle", model.path, "--target", target, "-o", tmp_path / "b", "--no-wheel")
    assert halved == [model.path] * asked


@pytest.mark.parametrize("package", ["onnx", "torch"])
def test_without_the_packages_that_make_halves_they_are_named(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in ("halves", "autocast", "costs", "files", "goldens"):
        monkeypatch.delitem(sys.modules, f"flowpose.export.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    for command, *rest in (
        ("halve", model),
        ("bundle", model, "--target", "jetson-orin-nano-8gb", "-o", tmp_path / "b", "--no-wheel"),
    ):
        told = rf"{command}: needs the package {package}\. Fix: .*train,quantize.*make setup"
        with pytest.raises(MissingDependency, match=told):
            call(command, *rest)
    call(
        "bundle", model, "--target", "cpu", "-o", tmp_path / "cpu", "--no-wheel"
    )  # adds nothing, needs nothing


def test_a_wheel_is_built_from_a_checkout_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_wheel, "CHECKOUT", tmp_path)
    with pytest.raises(ArtifactError, match=r"is no checkout of flowpose.*--wheel FILE"):
        own_wheel.build_wheel(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    monkeypatch.setattr(own_wheel, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="needs the package hatchling"):
        own_wheel.build_wheel(tmp_path)


def test_a_wheel_that_cannot_be_built_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hatchling")
    monkeypatch.setattr(own_wheel, "CHECKOUT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(ArtifactError, match="hatchling built no wheel"):
        own_wheel.build_wheel(tmp_path / "out")
