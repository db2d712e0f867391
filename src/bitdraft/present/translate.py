"""Fixed words of pages, tables and charts in Chinese. What is made from figures is in `sentences`."""

from __future__ import annotations

from typing import Any

from bitdraft.present.sentences import Language

CHINESE = {
    # 页面
    "What to deploy": "部署什么",
    "Which precision": "用哪种精度",
    "Whether to speculate": "是否使用投机解码",
    "Why.": "原因。",
    "plain": "常规解码",
    "becomes": "变为",
    "Sound": "可靠",
    "With reservations": "有所保留",
    "Handle with care": "谨慎对待",
    "Measure again": "重新测量",
    "Copy": "复制",
    "Dark mode": "深色",
    "Contents": "目录",
    "Skip to the results": "跳到结果",
    "rows": "行",
    "Warnings": "警告",
    "Recommendation": "推荐",
    "Precision": "精度",
    "Precision, random weights": "精度（随机权重）",
    "Speculation": "投机解码",
    "Plan of speculation": "投机解码规划",
    "Environment": "环境",
    "Protocols": "测量协议",
    "Raw numbers": "原始数字",
    "How to reproduce": "如何复现",
    "All results": "所有结果",
    "What differs": "不同之处",
    "Side by side": "并列",
    "Verdicts": "结论",
    "Why the others are out": "其余为何出局",
    "Ready to run": "可直接运行",
    "What was done": "做了什么",
    "Stages": "阶段",
    "Limits that were set": "所设限制",
    "Quality against the reference": "相对基准的质量",
    "Anatomy of a step": "一步的解剖",
    "Lossless": "无损",
    "Several prompts at once": "多条提示词同时解码",
    "Costs": "成本",
    "best: ": "最佳：",
    "Every figure with the ends of its 95 % interval, its number of items and the items' median.": "每个数字及其 95 % 区间的两端、样本数与中位数。",
    "Settings that are not written have their default. `path/to/…` stands for where a model or text lies on your machine; data from local files need --data-root as well, and --output chooses where results go.": "未写出的设置取默认值。`path/to/…` 代表模型或文本在你机器上的位置；本地数据还需 --data-root，--output 指定结果的位置。",
    "Paired with the reference on the same tokens. Perplexities' own intervals are the spread of the text and overlap even where the precisions differ; these differences can tell them apart.": "与基准在相同 token 上配对。困惑度自身的区间是文本的离散程度，精度不同也会重叠；这些差值能区分它们。",
    # 表
    "Precisions": "各精度",
    "All metrics": "全部指标",
    "Every draft and K": "全部草稿与 K",
    "All ways to run it": "全部运行方式",
    "The plan": "规划",
    "Larger batches": "更大的批",
    "Predicted and measured": "预测与实测",
    "Where texts part": "文本分歧之处",
    "Formats": "各格式",
    "Formats of target and draft": "目标与草稿的格式",
    "Target": "目标",
    "Cache": "缓存",
    "Draft in": "草稿格式",
    "Agreement %": "一致率 %",
    "Agreement: share of the target's own greedy tokens that the draft would have drafted, from one pass of each draft over each target's texts. Tokens a step at K are exact for these texts (replay).": "一致率：目标自身贪心 token 中草稿会给出的比例，每个草稿在每个目标的文本上各跑一遍。每步 token 数对这些文本是精确的（重放）。",
    "Format": "格式",
    "rounding alone": "仅舍入误差",
    "Size GiB": "大小 GiB",
    "Bits / weight": "每权重位数",
    "PPL ratio": "PPL 比值",
    "Mean KLD": "平均 KLD",
    "Median": "中位数",
    "Maximum": "最大值",
    "Same top p %": "最可能 token 一致 %",
    "J / token": "焦耳 / token",
    "KLD: Kullback-Leibler divergence of the next token's distribution from the reference's, in nats; the last row, rounding alone, is the reference beside itself through forwards of another shape.": "KLD：下一 token 分布相对基准的 KL 散度（nats）；末行“仅舍入误差”是基准以另一种前向形状与自身相比。",
    "Status": "状态",
    "Reason": "原因",
    "Draft": "草稿",
    "Batch": "批大小",
    "Tok/s": "吞吐 tok/s",
    "Speed ×": "速度 ×",
    "Speedup": "加速比",
    "vs. 1": "相对批 1",
    "Accept": "接受率",
    "Tok/step": "每步 token",
    "RAM GiB": "内存 GiB",
    "VRAM GiB": "显存 GiB",
    "Same ids": "token 一致",
    "Predicted": "预测",
    "Predicted speedup": "预测加速比",
    "plain decoding": "常规（自回归）解码",
    "prompt lookup": "提示词查找",
    "chosen": "选中",
    "ahead": "领先",
    "tied": "无显著差异",
    "slower": "较慢",
    "open": "未定",
    "predicted": "预测",
    "measured": "实测",
    "out": "出局",
    "ok": "正常",
    "Folder": "文件夹",
    "Model": "模型",
    "Machine": "机器",
    "Result": "结果",
    "Verdict": "结论",
    # 图
    "Throughput (tokens/s)": "吞吐（tokens/s）",
    "Throughput": "吞吐",
    "Speedup (× plain decoding)": "加速比（× 常规解码）",
    "Acceptance rate": "接受率",
    "Acceptance by position": "各位置的接受率",
    "Time of a step (ms)": "一步的耗时（ms）",
    "Speedup after the prefill": "预填充之后的加速比",
    "Time of one forward (ms)": "一次前向的耗时（ms）",
    "Acceptance rate by replay": "重放得到的接受率",
    "TPOT, time per output token (ms)": "TPOT，每个输出 token 的时间（ms）",
    "TTFT, time to first token (ms)": "TTFT，首 token 延迟（ms）",
    "PPL, perplexity: change (%)": "PPL，困惑度：变化（%）",
    "PPL, perplexity": "PPL，困惑度",
    "Peak RAM (GiB)": "内存峰值（GiB）",
    "Peak VRAM (GiB)": "显存峰值（GiB）",
    "Trade-off: speed over memory": "权衡：速度与内存",
    "Formats: divergence over size": "各格式：散度与大小",
    "size of the weights (GiB)": "权重大小（GiB）",
    "mean KL divergence (nats)": "平均 KL 散度（nats）",
    "left and down is better": "越靠左下越好",
    "a larger dot is faster": "点越大越快",
    "dashed: no other is smaller and closer": "虚线：没有更小且更接近者",
    "Speed over memory, every way that was measured": "速度与内存：全部已测方式",
    "KL divergence from the reference (nats)": "相对基准的 KL 散度（nats）",
    "Same most probable token (%)": "最可能 token 一致（%）",
    "Throughput of the batch (tokens/s)": "整批吞吐（tokens/s）",
    "Speedup (× plain decoding at the same batch size)": "加速比（× 同批大小的常规解码）",
    "higher is better": "越高越好",
    "lower is better": "越低越好",
    "lower is closer": "越低越接近",
    "higher is closer": "越高越接近",
    "left is better": "越靠左越好",
    "up and left is better": "越靠左上越好",
    "up is faster, left is smaller": "上为更快，左为更小",
    "label: change of PPL": "标签：PPL 的变化",
    "filled: on the Pareto front": "实心：在帕累托前沿",
    "★ chosen": "★ 选中",
    "★ recommended": "★ 推荐",
    "★ recommended and tied": "★ 推荐及与其无显著差异者",
    "thin line: predicted by replay and costs": "细线：由重放与成本预测",
    "thin line: replay": "细线：重放",
    "(tokens per step − 1) / K: it falls with K even where a step gains": "（每步 token 数 − 1）/ K：即使每步有收益也随 K 下降",
    "each draft at its fastest K": "每个草稿取其最快的 K",
    "above 1 speculation pays": "大于 1 则投机解码划算",
    "prefills included": "含预填充",
    "dotted: Leviathan's formula, without prefills": "点线：Leviathan 公式，不含预填充",
    "no interval, nothing was swept": "没有扫描，没有区间",
    "K, speculative tokens per step": "K，每步起草的 token 数",
    "acceptance rate": "接受率",
    "tok/s": "tok/s",
    "× plain decoding": "× 常规解码",
    "peak RAM (GiB)": "内存峰值（GiB）",
    "peak VRAM (GiB)": "显存峰值（GiB）",
    "position in the draft": "在草稿中的位置",
    "share kept": "被接受的比例",
    "tokens in the forward": "前向的 token 数",
    "batch size, prompts decoded at once": "批大小（同时解码的提示词数）",
    "not measured": "未测",
    "Throughput by precision (tokens/s)": "各精度的吞吐（tokens/s）",
    "plain decoding, one prompt at a time": "常规解码，一次一条提示词",
    "Best speculation (× plain decoding)": "最佳投机解码（× 常规解码）",
    "Peak memory GiB": "内存峰值 GiB",
    "Sweep": "扫描",
    "Fastest": "最快",
    "Each folder was measured on its own: nothing is paired between them, so compare intervals, and only where text and settings are the same (see the protocols).": "每个文件夹各自测量，彼此没有配对：请比较区间，且仅在文本与设置相同时（见测量协议）。",
    # 终端
    "★ best of a column, with what is statistically tied with it": "★ 该列最佳，及与其无显著差异者",
    "★ recommended, with what is statistically tied with it": "★ 推荐，及与其无显著差异者",
    "★ the best K of a draft": "★ 每个草稿的最佳 K",
    "-v shows intervals and reasons": "-v 显示区间与原因",
}


def translated(words: str, language: Language) -> str:
    """Whole, or part by part between semicolons; what is not known stays as it is."""
    if language == "en" or not words:
        return words
    if words in CHINESE:
        return CHINESE[words]
    if "; " in words:
        return "；".join(translated(part, language) for part in words.split("; "))
    bare = words.removesuffix(".")
    if bare in CHINESE:
        return f"{CHINESE[bare]}。"
    value = words.removeprefix("plain decoding ")  # the label of a line, with its value
    return words if value == words else f"{CHINESE['plain decoding']} {value}"


def spec_translated(spec: Any, language: Language) -> Any:
    """A chart's specification with its titles and words in another language."""
    if language == "en":
        return spec
    if isinstance(spec, list):
        return [spec_translated(part, language) for part in spec]
    if isinstance(spec, dict):
        return {
            key: _words(value, language)
            if key in ("title", "text", "subtitle")
            else spec_translated(value, language)
            for key, value in spec.items()
        }
    return spec


def _words(value: Any, language: Language) -> Any:
    if isinstance(value, str):
        return translated(value, language)
    if isinstance(value, list):
        return [_words(part, language) for part in value]
    return spec_translated(value, language)
