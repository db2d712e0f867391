"""What was measured, and where: machine, models, text."""

from __future__ import annotations

from pydantic import Field

from bitdraft.schema.records import Sparse


class Ceilings(Sparse):
    """GB/s (10⁹) of copying (bytes read + written) and reading; TFLOP/s of a product by format."""

    copy_gb_s: float
    read_gb_s: float | None = None
    matmul_tflop_s: dict[str, float] = Field(default_factory=dict)


class Environment(Sparse):
    """Hardware and versions. `usable_cpus` are the processors that the measuring process may use, by its
    affinity and its control group's quota; `memory_limit_gb` is what a control group leaves of the memory,
    where it is less; `idle_watts` is the device's power before anything was loaded, by its energy counter.
    `hardware` is the GPU where there is one, else the CPU."""

    time_utc: str | None = None
    bitdraft: str | None = None
    git_commit: str | None = None
    python: str | None = None
    torch: str | None = None
    transformers: str | None = None
    llama_cpp_python: str | None = None
    torchao: str | None = None
    system: str | None = None
    cpu: str | None = None
    cpu_capability: str | None = None
    num_cores: int | None = None
    num_threads: int | None = None
    usable_cpus: float | None = None
    ram_gb: float | None = None
    memory_limit_gb: float | None = None
    device: str | None = None
    gpu: str | None = None
    gpu_memory_gb: float | None = None
    cuda: str | None = None
    driver: str | None = None
    node: str | None = None
    energy_counter: str | None = None
    idle_watts: float | None = None
    ceilings: Ceilings | None = None

    @property
    def hardware(self) -> str:
        """What charts and tables call it; "" where nothing is known."""
        return self.gpu or self.cpu or ""

    @property
    def copy_bytes_s(self) -> float | None:
        """Measured copy bandwidth, bytes/s."""
        return None if self.ceilings is None else self.ceilings.copy_gb_s * 1e9


class ModelRecord(Sparse):
    """A checkpoint as it was loaded: what its files say, what it takes, and how its forwards were run.
    `content` is a hash of its files. `tensor_types` counts, of a GGUF file's tensors of one name over all
    layers, those of each type; `backend` is what computed with it."""

    name: str | None = None
    content: str | None = None
    revision: str | None = None
    architecture: str | None = None
    context_tokens: int | None = None
    vocab_size: int | None = None
    num_layers: int | None = None
    stored_dtypes: dict[str, int] | None = None
    stored_bytes: int | None = None
    stored_dtype: str | None = None
    random_weights: bool | None = None
    num_parameters: int | None = None
    weight_bytes: int | None = None
    streamed_bytes: int | None = None
    quantised_by: str | None = None
    bits_per_weight: float | None = None
    tensor_types: dict[str, dict[str, int]] | None = None
    precision: str | None = None
    backend: str | None = None
    execution: str | None = None
    preparation_s: float | None = None


class TextRecord(Sparse):
    """Which text, and the prompts that were cut from it: by which `sample`, from which `strata` (articles,
    books, categories), whether through a `chat` template, and behind which `bos` tokens."""

    dataset: str = ""
    source: str | None = None
    revision: str | None = None
    sha256: str = ""
    num_rows: int | None = None
    prompt_ids: tuple[str, ...] = ()
    prompt_tokens: tuple[int, ...] = ()
    sample: str | None = None
    strata: tuple[str, ...] = ()
    chat: bool | None = None
    bos: tuple[int, ...] | None = None
