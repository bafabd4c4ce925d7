"""What machine this is, whether its backends run, and what would make it faster. Needs no PyTorch, onnx or YAML.

`flowpose.device.facts` and what it imports know nothing of the runtime, so any module above the errors may import
them; `kernels` opens backends. `flowpose.doctoring` asks all of it.
"""

from __future__ import annotations
