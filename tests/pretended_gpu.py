"""A GPU that isn't there: tensors that say they are on it compute on the CPU, and each wait for it is counted.

Its name is "meta", a device that torch knows on every machine. A wait is what makes a program stand still until a GPU
has done all its work: a value that is read, a copy from or to the CPU (unless told not to block), an index on the CPU.
"""

import traceback

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("meta")
_ATEN = torch.ops.aten
_READS = {_ATEN._local_scalar_dense.default, _ATEN.is_nonzero.default, _ATEN.equal.default, _ATEN.nonzero.default}


class OnGpu(torch.Tensor):
    """A tensor on the pretended GPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values):
        layout = {"strides": values.stride(), "storage_offset": values.storage_offset(), "dtype": values.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, **layout, device=GPU)

    def __init__(self, values):
        self.cpu_values = values

    def __repr__(self):
        return f"OnGpu({self.cpu_values})"

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        return _compute(operator, args, kwargs or {}, on_gpu=True)


class PretendedGpu(TorchDispatchMode):
    """Inside it the GPU is there. waits: "operator, file, line of this project" of each."""

    def __init__(self):
        super().__init__()
        self.waits = []
        self._python = _BehindTheDispatcher(self)

    def __enter__(self):
        self._python.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._python.__exit__(*error)

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        on_gpu = any(isinstance(value, OnGpu) for value in given)
        on_cpu = any(not isinstance(value, OnGpu) and value.ndim for value in given)
        goal = on_gpu if kwargs.get("device") is None else torch.device(kwargs["device"]) == GPU
        if goal and "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        if operator is _ATEN._to_copy.default:
            if isinstance(args[0], OnGpu) != goal and not kwargs.get("non_blocking"):
                self.wait(operator)
        elif operator is _ATEN.copy_.default:
            if isinstance(args[0], OnGpu) != isinstance(args[1], OnGpu) and args[2:] != (True,):
                self.wait(operator)
            goal = isinstance(args[0], OnGpu)
        elif on_gpu and operator in _READS:
            self.wait(operator)
        elif on_gpu and on_cpu:
            if "index" not in operator.name():
                raise RuntimeError(f"{operator} with tensors on the CPU and on the GPU")
            self.wait(operator)
        return _compute(operator, args, kwargs, goal)

    def wait(self, operator):
        stack = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack()]
        own = [place for place in stack if "mixgrpo_engine" in place or "/nodes/" in place]
        self.waits.append(f"{operator}, {(own or stack[-3:-2])[-1]}")


class _BehindTheDispatcher(TorchFunctionMode):
    """torch.tensor, torch.as_tensor and Tensor.tolist, which copy by themselves."""

    def __init__(self, gpu):
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return function(*args, **kwargs).to(device)
        if function is torch.Tensor.tolist and isinstance(args[0], OnGpu):
            self.gpu.wait("tolist")
            return args[0].cpu_values.tolist()
        return function(*args, **kwargs)


def move(module):
    """Moves a module's parameters and buffers onto the pretended GPU, in place."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(OnGpu(parameter.detach()), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = OnGpu(buffer)


def _compute(operator, args, kwargs, on_gpu):
    """What an operator makes, computed on the CPU."""
    result = operator(*tree_map(_on_cpu, args), **tree_map(_on_cpu, kwargs))
    if args and isinstance(args[0], OnGpu) and operator._schema.name.endswith("_"):  # in place
        return args[0]
    return (
        tree_map(lambda value: OnGpu(value) if isinstance(value, torch.Tensor) else value, result) if on_gpu else result
    )


def _on_cpu(value):
    return value.cpu_values if isinstance(value, OnGpu) else value
