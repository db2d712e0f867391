"""Whether llama.cpp's repacked layouts of weights work here. They are faster; but a build whose compiler
gets the tile unit's (AMX) configuration wrong, as GCC 12 does, ends a process that uses them with a signal.
Tried on a model of a layer in a process of its own, once for a build.
"""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bitdraft.config.cache import cache_folder
from bitdraft.inputs.gguf.library import library, load

_SIZE = 256


@functools.cache
def repacking_works() -> bool:
    """True at once for builds without AMX."""
    llama_cpp = library()
    said: bytes = llama_cpp.llama_print_system_info()
    if b"AMX_INT8 = 1" not in said:
        return True
    folder = Path(llama_cpp.__file__).parent
    files = [(file.name, file.stat()) for file in sorted(folder.rglob("*.so*"))]
    states = [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in files]
    build = hashlib.sha256("\n".join([*states, said.decode()]).encode()).hexdigest()[:16]
    answer = cache_folder() / "llama.cpp" / f"{build}.repacking"
    if not answer.exists():
        found = _try_it()
        answer.parent.mkdir(parents=True, exist_ok=True)
        answer.write_text("works" if found else "ends the process")
    return answer.read_text() == "works"


def _try_it() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.gguf"
        _write(path)
        command = [sys.executable, "-c", f"from {__name__} import run; run({str(path)!r})"]
        try:
            return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0
        except (OSError, subprocess.SubprocessError):
            return False


def run(path: str) -> None:
    """Feed one token and several, with the layouts that are to be tried."""
    llama_cpp = library()
    model = load(path, n_gpu_layers=0, use_extra_bufts=True)
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = 64
    context = llama_cpp.llama_init_from_model(model, parameters)
    for count in (1, 8):
        tokens = (llama_cpp.llama_token * count)(*range(count))
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, count)) != 0:
            raise SystemExit(1)


def _write(path: Path) -> None:
    """A GPT-NeoX of one layer without a tokenizer, its matrices Q8_0."""
    import gguf
    import numpy as np

    writer: Any = gguf.GGUFWriter(str(path), "gptneox")
    for add, value in (
        (writer.add_context_length, 64),
        (writer.add_embedding_length, _SIZE),
        (writer.add_block_count, 1),
        (writer.add_feed_forward_length, _SIZE),
        (writer.add_head_count, 4),
        (writer.add_rope_dimension_count, 64),
        (writer.add_layer_norm_eps, 1e-5),
        (writer.add_parallel_residual, True),
        (writer.add_vocab_size, _SIZE),
        (writer.add_tokenizer_model, "no_vocab"),
        (writer.add_file_type, gguf.LlamaFileType.MOSTLY_Q8_0),
    ):
        add(value)
    noise = np.random.default_rng(0)
    shapes = {"token_embd": 1, "output": 1, "blk.0.attn_qkv": 3, "blk.0.attn_output": 1, "blk.0.ffn_up": 1}
    shapes |= {"blk.0.ffn_down": 1}
    for name, times in shapes.items():
        weight = noise.standard_normal((times * _SIZE, _SIZE), np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(weight, kind), raw_dtype=kind)
        if name.startswith("blk"):
            writer.add_tensor(f"{name}.bias", np.zeros(times * _SIZE, np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        for kind in ("weight", "bias"):
            writer.add_tensor(f"{name}.{kind}", np.ones(_SIZE, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
