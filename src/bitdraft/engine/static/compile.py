"""A part of a step under `torch.compile`: operations between the matrix products become few kernels.

A compilation takes half a minute for a model of 16 layers on two cores (a few seconds where its kernels are
in torch's cache), so numbers of slots and of several tokens are compiled as variables. What decides between
compilations is known to who asks for them; torch's own checks of every input at every call, a tenth of
a millisecond, are left out. The generated code still checks sizes and strides.
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable
from typing import Any

import torch

from bitdraft.errors import UserError, one_line

_numbers = itertools.count()
_FEWER_SLOTS = 32


def compile_part(run: Any, inputs: tuple[torch.Tensor, ...], num_tensors: int) -> Callable[..., Any]:
    """Compile for inputs like these: `num_tensors` of the part, rows, slots, buffers. Widths above one of the
    part's and the number of slots may change later.

    Raises `UserError` where there is no working compiler.
    """
    dynamo: Any = torch._dynamo  # without type hints
    # compilations are told apart by their code alone
    code = run.__code__.replace(co_name=f"part_{next(_numbers)}")
    own = types.FunctionType(code, run.__globals__, code.co_name, run.__defaults__, run.__closure__)
    example = [tensor.clone() for tensor in inputs]
    for tensor in example[:num_tensors]:
        if tensor.ndim == 2 and tensor.shape[1] > 1:
            dynamo.maybe_mark_dynamic(tensor, 1)
    slots_S, first = example[num_tensors + 1 : num_tensors + 3]
    # a span of the whole capacity would be compiled as the constant that this is
    example[num_tensors + 1] = slots_S[: max(first.shape[2] - _FEWER_SLOTS, 2)].clone()
    dynamo.maybe_mark_dynamic(example[num_tensors + 1], 0)
    options: dict[str, Any] = {"guard_filter_fn": lambda guards: [False] * len(guards)}
    if example[0].device.type == "cpu":
        options["cpp_wrapper"] = True
    compiled: Any = torch.compile(own, fullgraph=True, options=options)
    try:
        compiled(*example)
    except dynamo.exc.BackendCompilerFailed as error:
        problem = f"torch.compile failed: {one_line(error)}"
        remedy = "Install a C++ compiler, or use --execution static"
        raise UserError("execution", "compiled", problem, remedy) from error
    return compiled  # type: ignore[no-any-return]
