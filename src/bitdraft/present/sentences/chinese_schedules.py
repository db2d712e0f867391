"""K 调度表的中文句子。Sentences of K schedules in Chinese."""

from __future__ import annotations

from bitdraft.present.sentences.base import Sentence
from bitdraft.present.words import times_text
from bitdraft.schema.findings import Finding


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} 秒"
    return f"{seconds / 60:.0f} 分钟" if seconds < 6000 else f"{seconds / 3600:.1f} 小时"


def _context(f: Finding) -> str:
    pairs = zip(f.words("sizes"), f.words("ks"), strict=True)
    text = f"上下文 {f.number('context'):.0f} 个 token：{'，'.join(f'批 {s} 用 K = {k}' for s, k in pairs)}"
    sizes = f.words("open")
    return f"{text}；批 {'、'.join(map(str, sizes))} 尚无定论。" if sizes else f"{text}。"


SENTENCES: dict[str, Sentence] = {
    "schedule.none": lambda f: "没有调度表：既无计时，也无重放。",
    "schedule.pays": lambda f: (
        f"在 {f.number('of'):.0f} 个批大小与上下文中的 {f.number('n'):.0f} 个使用投机解码；收益最大的是批 "
        f"{f.number('size'):.0f}、上下文 {f.number('context'):.0f} 时的 {f.subject}："
        f"预测 {times_text(f.figure('speedup'))}。"
    ),
    "schedule.open": lambda f: (
        f"尚无定论：{f.number('n'):.0f} 个批大小与上下文中，没有一个被证明值得投机。"
        "增加提示词或换一台空闲的机器即可判断。"
    ),
    "schedule.refuse": lambda f: (
        f"不要使用投机解码：{f.number('n'):.0f} 个批大小与上下文中，预测没有一个值得。"
    ),
    "schedule.context": _context,
    "schedule.time": lambda f: (
        f"网格用时 {_time(f.number('grid_s'))}；按同样的成本，在每个点上解码全部提示词需 "
        f"{_time(f.number('sweep_s'))}。"
    ),
    "schedule.left_out": lambda f: (
        f"批 {f.number('size'):.0f}、上下文 {f.number('context'):.0f} 及更大者未测（{f.word('why')}）。"
    ),
}
