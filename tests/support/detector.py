"""A YOLO checkpoint with real weights, made of the exported file that the tests have: `python -m tests.support.detector FROM TO`.

The exported file holds YOLOv8n in 8-bit numbers, which only a CPU computes with; a checkpoint is what runs on a GPU, and what
a hub gives to users. One is the other without what 8 bits lost.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from workers.models import prepare_ultralytics


def write_checkpoint(exported: Path, path: Path) -> None:
    """Write `path`, a .pt, from `exported`, a .tflite of YOLOv8n. It takes seconds and imports torch."""
    prepare_ultralytics(None)
    import torch
    from ultralytics.models import YOLO
    from ultralytics.utils import ROOT, YAML

    yolo = YOLO("yolov8n.yaml")
    yolo.model.names = YAML.load(ROOT / "cfg/datasets/coco.yaml")["names"]
    *_, head = yolo.model.model
    body: list[Any] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: body.append(module))
        for module in yolo.model.modules()
        if isinstance(module, torch.nn.Conv2d) and module not in set(head.modules())
    ]
    yolo.model.eval()(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    # The export looks for large things first, and for each size at boxes before labels.
    order = [one for both in zip(reversed(head.cv2), reversed(head.cv3), strict=True) for one in both]
    ordered = [*body, *(one for branch in order for one in branch.modules() if isinstance(one, torch.nn.Conv2d))]
    norms = {
        block.conv: block.bn
        for block in yolo.model.modules()
        if isinstance(getattr(block, "bn", None), torch.nn.BatchNorm2d)
    }
    with torch.no_grad():
        for module, (weight, bias) in zip(ordered, _convolutions(exported)[:-1], strict=True):  # the last one is a constant
            module.weight.copy_(torch.from_numpy(weight))
            if (norm := norms.get(module)) is None:
                module.bias.copy_(torch.from_numpy(bias))
                continue
            # The export has them in one: what is left to the norm is the bias.
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
            norm.weight.fill_(1)
            norm.bias.copy_(torch.from_numpy(bias))
    yolo.save(str(path))


def _convolutions(exported: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(weights: outputs × inputs × rows × columns, biases) in the order in which they are computed, as float32."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(exported))
    interpreter.allocate_tensors()
    tensors = {one["index"]: one for one in interpreter.get_tensor_details()}

    def floats(index: int) -> np.ndarray:
        scales = tensors[index]["quantization_parameters"]["scales"]
        values = interpreter.get_tensor(index).astype(np.float32)
        return values * scales.reshape(-1, *[1] * (values.ndim - 1))

    return [
        (floats(op["inputs"][1]).transpose(0, 3, 1, 2), floats(op["inputs"][2]))
        for op in interpreter._get_ops_details()
        if op["op_name"] == "CONV_2D"
    ]


if __name__ == "__main__":
    write_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]))
