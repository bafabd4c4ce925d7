"""Records what NVIDIA's bindings hold of the names that flowpose uses: python record_tensorrt_api.py WHEEL...

Takes wheels of `tensorrt_cu12_bindings` and `cuda_bindings` for this interpreter and writes tensorrt_api.json beside
this file. Neither a GPU nor libnvinfer is needed: the bindings import nine functions of it, which a library of stubs
offers (made with gcc), and pybind11 writes every signature into a docstring when a module is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

RECORD = Path(__file__).parent / "tensorrt_api.json"

CLASSES = """Runtime ICudaEngine IExecutionContext EngineInspector Builder IBuilderConfig ITimingCache OnnxParser
ParserError IHostMemory ILogger IProgressMonitor DataType TensorIOMode TensorLocation MemoryPoolType ProfilingVerbosity
LayerInformationFormat BuilderFlag NetworkDefinitionCreationFlag"""

CUDA = """cudaMemGetInfo cudaGetDevice cudaGetDeviceProperties cudaDriverGetVersion cudaHostAlloc cudaFreeHost
cudaHostGetDevicePointer cudaMalloc cudaFree cudaMemcpyAsync cudaStreamCreateWithFlags cudaStreamSynchronize
cudaStreamDestroy
cudaStreamBeginCapture cudaStreamEndCapture cudaGraphGetNodes cudaGraphInstantiate cudaGraphDestroy cudaGraphLaunch
cudaGraphExecDestroy cudaHostAllocDefault cudaHostAllocMapped cudaStreamNonBlocking cudaError_t cudaMemcpyKind
cudaStreamCaptureMode cudaDeviceProp"""

STUBS = """createInferBuilder_INTERNAL createInferRefitter_INTERNAL createInferRuntime_INTERNAL getPluginRegistry
createNvOnnxParserRefitter_INTERNAL createNvOnnxParser_INTERNAL getBuilderPluginRegistry getNvOnnxParserVersion
initLibNvInferPlugins"""

IN_TENSORRT = """
import json, re, sys
import tensorrt_bindings as trt

def names(text):
    inside, depth, found = text[text.index("(") + 1:], 0, [""]
    for sign in inside:
        depth += (sign in "([<") - (sign in ")]>")
        if depth < 0:
            break
        if sign == "," and depth == 0:
            found.append("")
        else:
            found[-1] += sign
    return [part.split(":")[0].split("=")[0].strip() for part in found if part.strip()]

def signatures(name, member):
    lines = [re.sub(r"^\\d+\\. ", "", line) for line in (member.__doc__ or "").splitlines()]
    return [names(line) for line in lines if re.match(rf"{name}\\((?!\\*args)", line)]

def record(kind):
    if hasattr(kind, "__members__"):
        return {name: int(value) for name, value in kind.__members__.items()}
    found = {}
    for name, member in sorted(vars(kind).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(member, type) and hasattr(member, "__members__"):
            found[name] = record(member)
        else:
            found[name] = signatures(name, member) if type(member).__name__ == "instancemethod" else None
    return found

classes = {name: record(getattr(trt, name)) for name in sys.argv[1].split() if hasattr(trt, name)}
print(json.dumps({"__version__": trt.__version__, **classes}))
"""

IN_CUDA = """
import json, sys
from importlib.metadata import version
from cuda.bindings import runtime

def record(name):
    thing = getattr(runtime, name)
    if hasattr(thing, "__members__"):
        return {each: int(value) for each, value in thing.__members__.items()}
    if isinstance(thing, int):
        return thing
    if isinstance(thing, type):
        return sorted(each for each in dir(thing) if not each.startswith("_"))
    line = thing.__doc__.strip().splitlines()[0]
    inside = line[line.index("(") + 1:line.rindex(")")]
    return [part.split(":")[0].split("=")[0].split()[-1] for part in inside.split(",") if part.strip()]

print(json.dumps({name: record(name) for name in sys.argv[1].split() if hasattr(runtime, name)}))
"""


def stub_libraries(folder: Path) -> None:
    """What the bindings link to, for TensorRT 10 and 11."""
    code = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in STUBS.split())
    for major in (10, 11):
        for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
            name = f"lib{library}.so.{major}"
            command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", folder / name, f"-Wl,-soname,{name}"]
            subprocess.run(command, input=code, text=True, check=True)


def recorded(wheel: Path, folder: Path) -> dict[str, object]:
    """What a wheel's modules hold."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    program, names = (IN_CUDA, CUDA) if wheel.name.startswith("cuda") else (IN_TENSORRT, CLASSES)
    if program is IN_CUDA:  # looks for libraries when a function is called, which none is
        (folder / "cuda" / "pathfinder").mkdir()
        (folder / "cuda" / "pathfinder" / "__init__.py").write_text("load_nvidia_dynamic_lib = None\n")
    else:
        stub_libraries(folder)
    env = {**os.environ, "PYTHONPATH": str(folder), "LD_LIBRARY_PATH": str(folder)}
    command = [sys.executable, "-c", program, " ".join(names.split())]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    found: dict[str, dict[str, object]] = {"tensorrt": {}, "cuda": {}}
    for wheel in map(Path, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            library = "cuda" if wheel.name.startswith("cuda") else "tensorrt"
            found[library][wheel.name.split("-")[1]] = recorded(wheel, Path(folder))
    parts = [
        f"{json.dumps(library)}: {{\n"
        + ",\n".join(
            f" {json.dumps(version)}: {{\n"
            + ",\n".join(
                f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(names.items())
            )
            + "\n }"
            for version, names in sorted(versions.items())
        )
        + "\n}"
        for library, versions in found.items()
    ]
    RECORD.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
