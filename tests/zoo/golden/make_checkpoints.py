"""Write the golden checkpoints beside this script, with the frameworks themselves.

    pip install torch safetensors numpy
    python tests/zoo/golden/make_checkpoints.py

Every value is a small whole number in an order that the tests can write down by hand.
"""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).parent
DTYPES = {
    **{f"float{bits}": getattr(torch, f"float{bits}") for bits in (16, 32, 64)},
    **{f"int{bits}": getattr(torch, f"int{bits}") for bits in (8, 16, 32, 64)},
    "bfloat16": torch.bfloat16,
    "uint8": torch.uint8,
}


def numbers(*shape, dtype=torch.float32):
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape).to(dtype)


def network():
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 2), torch.nn.BatchNorm2d(3))
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(numbers(*value.shape))
    return model


def state_dict():
    """A module's state dict, with its `_metadata`, and every kind of view that a tensor can be."""
    state = network().state_dict()
    table = numbers(4, 5)
    state["views.tied"] = state["0.weight"]
    state["views.transposed"] = table.T
    state["views.rows"] = table[1:3]
    state["views.every_other"] = table[::2, 1::2]
    state["views.parameter"] = torch.nn.Parameter(numbers(3))
    state["shapes.scalar"] = torch.tensor(7.0)
    state["shapes.empty"] = torch.zeros(0, 3)
    state["types.bool"] = torch.tensor([True, False, True])
    for name, dtype in DTYPES.items():
        state[f"types.{name}"] = numbers(5, dtype=dtype)
    return state


def checkpoint():
    """What a training script saves: the state dict among what else it wants to keep."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 2, 4, 4)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [8, 11])
    return {
        "epoch": 12,
        "best": np.float64(0.5),
        "seen": {1, 2, 3},
        "note": b"\x00\xff",
        "shape": torch.Size([2, 3]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "state_dict": state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
    }


def main():
    torch.manual_seed(0)
    torch.save(checkpoint(), FOLDER / "zip.pt")
    torch.save(checkpoint(), FOLDER / "zip_protocol4.pt", pickle_protocol=4)
    torch.save(checkpoint(), FOLDER / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(OrderedDict(a=numbers(2, 3).to(torch.uint16)), FOLDER / "uint16.pt")
    torch.serialization.set_crc32_options(False)
    torch.save(OrderedDict(a=numbers(2, 3)), FOLDER / "without_checksums.pt")
    state = {name: value.detach().contiguous().clone() for name, value in state_dict().items()}
    save_file(state, FOLDER / "golden.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
