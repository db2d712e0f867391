"""结论的中文句子：与英文相同的代码、相同的数字。The same findings in Chinese, from code and figures alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from bitdraft.present.sentences.base import Sentence
from bitdraft.present.words import change_text, pace_in_chinese, percent, ratio_text, times_text
from bitdraft.schema.findings import Finding
from bitdraft.schema.records import Figure

PLAIN = "常规（自回归）解码"
MORE = "增加提示词（--num-prompts）或换一台空闲的机器即可判断。"
_DISTURBED = "其他任务干扰了成本测量，据此的预测可能相差很远：请在空闲的机器上重新规划。"
_METRICS = {
    "throughput_tok_s": "吞吐",
    "tpot_ms": "TPOT",
    "ttft_ms": "TTFT",
    "speedup": f"相对{PLAIN}的加速比",
    "tokens_per_step": "每步 token 数",
    "peak_vram_gb": "显存峰值",
    "peak_ram_gb": "内存峰值",
    "ppl": "PPL",
    "bits_per_byte": "每字节比特数",
}
_STATUS = {"failed": "失败", "oom": "内存不足", "overflow": "数值溢出", "unsupported": "不支持", "ok": "正常"}


def joined(parts: Sequence[object]) -> str:
    """`甲、乙和丙`"""
    *others, last = [_way(str(part)) for part in parts]
    return f"{'、'.join(others)}和{last}" if others else last


def _way(name: str) -> str:
    """Of a setting: only what it is called without a draft is a word of ours."""
    return (
        name.replace(", plain decoding", f"，{PLAIN}")
        .replace("plain decoding", PLAIN)
        .replace(" with ", " 配 ")
    )


def _subject(f: Finding) -> str:
    return _way(f.subject)


def _some(names: Sequence[str], most: int = 6) -> str:
    more = f"等共 {len(names)} 项" if len(names) > most else ""
    return "；".join(_way(name) for name in names[:most]) + more


def _clauses(f: Finding) -> str:
    return "；".join(part.text for part in f.parts)


def _parts(f: Finding) -> str:
    return "".join(part.text for part in f.parts)


def _memory(name: str) -> str:
    return "显存峰值" if name == "peak_vram_gb" else "内存峰值"


def _status(f: Finding) -> str:
    return _STATUS.get(f.word("status"), f.word("status"))


def _pair_text(f: Finding) -> str:
    share = f"{100 * f.number('share'):.1f} %"
    return f"{f.word('own')} 的 {f.subject} 与 {f.word('target')} 的目标只有 {share} 的 token 一致"


def _why(f: Finding) -> str:
    return f"{_status(f)}（{f.word('why')}）"


def _few(f: Finding) -> str:
    n, prompts = f.figure("speedup").n, f.figures.get("num_prompts") or 0
    if not isinstance(prompts, int) or prompts <= n:
        return f"{n} 条提示词"
    return f"{n} 篇文章或书（{prompts} 条提示词）"


def _no_gain(speedup: Figure) -> str:
    if speedup.high is not None and speedup.high < 1:
        return f"也慢于{PLAIN}"
    if speedup.low is not None and speedup.low <= 1:
        return f"与{PLAIN}也无显著差异"
    return f"也几乎不比{PLAIN}快"


def _against(f: Finding) -> str:
    change = f.figures.get("ppl_change")
    quality = f"困惑度 {change_text(f.figure('ppl_change'))}，" if change is not None else ""
    memory = f"{_memory(f.word('memory_name'))} {f.number('memory_gb'):.2f}"
    return (
        f"相对 {f.subject}：吞吐为其 {times_text(f.figure('ratio'))}，{quality}{memory} GiB"
        f"（{f.subject} 为 {f.number('reference_memory_gb'):.2f} GiB）。"
    )


def _tied_precision(f: Finding) -> str:
    why = {"memory": "它占用的内存更少", "reference": "它是基准", "value": "其中它的数值最快"}[f.word("why")]
    return f"速度与 {joined(f.words('others'))} 无显著差异；{why}。"


def _ties(f: Finding) -> str:
    pairs = zip(f.words("drafts"), f.words("ks"), strict=True)
    parts = [
        f"{draft}，K = {'、'.join(k for _, k in group)}"
        for draft, group in groupby(pairs, key=lambda pair: pair[0])
    ]
    return f"无显著差异：{'；'.join(parts)}。"


def _lossless(f: Finding) -> str:
    total, identical = int(f.number("total")), int(f.number("identical"))
    if identical == total:
        return f"无损：全部 {total} 次运行的 token 与{PLAIN}一致。"
    kinds = [
        ("ties", "处舍入并列"),
        ("noise", "处引擎自身重复时亦不同"),
        ("bugs", "处错误"),
        ("unexplained", "处未能解释"),
        ("unchecked", "处未检查"),
    ]
    parts = [f"{f.number(key):.0f} {name}" for key, name in kinds if f.figures.get(key)]
    return f"{total} 次运行中 {identical} 次的 token 与{PLAIN}一致；其余：{'、'.join(parts) or '未检查'}。"


def _unexplained(f: Finding) -> str:
    text = f"{f.number('of'):.0f} 段文本中有 {f.number('n'):.0f} 段与{PLAIN}不同，"
    if f.number("bugs"):
        return f"{text}且舍入不能解释：在更宽的精度下也不同"
    if f.figures.get("gap") is not None:
        return f"{text}且舍入不能解释：logit 相差 {f.number('gap'):.2g}，而并列应在 {f.number('lead'):g} 以内"
    return f"{text}且无法证明是舍入所致"


def _why_deploy(f: Finding) -> str:
    k, costs = int(f.number("k")), map(float, f.words("other_costs"))
    elsewhere = "".join(f"，{name} 下为 {c:.1f}" for name, c in zip(f.words("others"), costs, strict=True))
    text = (
        f"在 {f.subject} 下验证 {k + 1} 个 token 耗时相当于 {f.number('verify_cost'):.1f} 次前向{elsewhere}；"
        f"用 {f.word('draft')} 起草 {k} 个耗时 {k * f.number('draft_cost'):.1f}"
    )
    if f.figures.get("tokens_per_step"):
        return f"{text}，每步得到 {f.number('tokens_per_step'):.1f} 个 token。"
    return f"{text}。"


def _limit_memory(f: Finding) -> str:
    limit = f"{f.number('limit_gb'):g} GiB"
    if f.figures.get("memory_gb") is None:
        return f"内存峰值未知，而上限为 {limit}"
    return f"{_memory(f.word('memory_name'))} {f.number('memory_gb'):.2f} GiB 超过上限 {limit}"


def _too_little(f: Finding) -> str:
    speedup, asked = f.figure("speedup"), f.number("min_speedup")
    wanted = f"而要求 {asked:.2f}×" if asked > 1 else "不值得使用草稿"
    return f"加速比 {speedup.value:.2f}×，至多 {speedup.high:.2f}×，{wanted}"


def _asked(f: Finding) -> str:
    least = f.figures.get("min_speedup") or 1.0
    return f"，而要求 {least:.2f}×" if isinstance(least, int | float) and least > 1 else ""


def _pace_of_stage(f: Finding) -> str:
    pace = f.number("pace")
    change = f"{'慢' if pace > 1 else '快'}了 {100 * abs(1 - 1 / pace):.0f} %"
    return (
        f"{f.subject}：扫描时的{PLAIN}比测量精度时{change}。加速比成立（在同一次扫描内测得）；"
        "不同阶段的吞吐已换算到同一速度。"
    )


def _speeds(f: Finding) -> str:
    text = (
        f"{f.number('total'):.0f} 行中 B 在 {f.number('better'):.0f} 行更快，{f.number('worse'):.0f} 行更慢"
    )
    kinds = (("same", "行无显著差异"), ("drift", "行的差异不超过机器自身的变化"), ("unknown", "行提示词太少"))
    others = [f"{f.number(key):.0f} {what}" for key, what in kinds if f.number(key)]
    return f"{text}；{'，'.join(others)}。" if others else f"{text}。"


def _batch(text: str, f: Finding) -> str:
    if f.words("open"):
        text += f"；批大小 {joined(f.words('open'))} 尚无定论"
    if f.figures.get("all_by_value"):
        return f"{text}；以上仅凭数值，没有区间。"
    sizes = f.words("by_value")
    return f"{text}；批大小 {joined(sizes)} 仅凭数值。" if sizes else f"{text}。"


def _batch_refuse(f: Finding) -> str:
    speedup = f.figure("speedup")
    return f"批大小 {f.word('batch_size')}：最快的 {f.subject} {_no_gain(speedup)}（{times_text(speedup)}）。"


def _batch_lossless(f: Finding) -> str:
    total, identical = int(f.number("total")), int(f.number("identical"))
    if identical == total:
        return f"更大的批：全部 {total} 段文本（含{PLAIN}）与批大小 1 一致。"
    return f"更大的批：{total} 段文本（含{PLAIN}）中 {identical} 段与批大小 1 一致；其余未检查（批的舍入可能不同）。"


def _kept(what: str, f: Finding) -> str:
    return f"为满足时间预算：{what}由 {f.number('asked'):,.0f} 减为 {f.number('kept'):,.0f}"


def _width(width: float) -> str:
    return f" {100 * width:.0f} %" if width < 10 else f"加速比的 {width:.0f} 倍"


SENTENCES: dict[str, Sentence] = {
    "earlier.text": lambda f: f.text,
    # 任何运行
    "run.incomplete": lambda f: "尚未完成：这是目前已测得的结果。再次执行同一命令即可继续。",
    "run.machines": lambda f: (
        f"在多台机器上测得（{joined(f.words('machines'))}）：不同单元的速度来自不同机器。"
    ),
    "run.mixed": lambda f: (
        f"在其他机器或其他版本上继续测得（--mix-machines，{f.number('n'):.0f} 部分）：差异可能来自机器。"
    ),
    "run.threads": lambda f: (
        f"{f.number('n'):.0f} 个线程在本进程可用的 {f.number('cpus'):g} 个处理器上计算，彼此等待。"
        f"请设置 OMP_NUM_THREADS={max(int(f.number('cpus')), 1)}。"
    ),
    "run.interrupted": lambda f: "其后的部分：运行被中断",
    "row.failed": lambda f: f"{f.subject} 出局：{_why(f)}。",
    "row.status": lambda f: f"{_status(f)}：{f.word('why')}",
    # 精度
    "precision.rounds": lambda f: (
        f"每种精度在多个进程中轮流运行：做相同工作的进程速度相差 {100 * f.number('deviation'):.1f} %，已计入区间。"
    ),
    "precision.noisy": lambda f: (
        f"做相同工作的进程速度相差 {f.number('factor'):.1f} 倍：机器太忙，无法比较精度。请在空闲的机器上重新测量。"
    ),
    "precision.round_lost": lambda f: f"{f.subject} 未测得（{_status(f)}：{f.word('why')}）：只计其余。",
    "precision.none_measured": lambda f: "没有任何精度测量成功，无法推荐。",
    "precision.none_within_limits": lambda f: "没有精度满足限制，无法推荐。",
    "precision.too_drifted": lambda f: (
        f"不比较各精度的速度：同样的工作在各进程之间速度变化了{pace_in_chinese(f.number('drift'))}。"
        "质量与内存结论有效。请在空闲的机器上测量。"
    ),
    "precision.more_rounds": lambda f: f"机器速度有变化，因此每种精度又轮流计时了 {f.number('n'):.0f} 次。",
    "precision.use": lambda f: f"使用 {f.subject}。",
    "precision.use_by_speed": lambda f: f"随机权重：未测质量。仅凭速度与内存：{f.subject}。",
    "precision.tied": _tied_precision,
    "precision.so_far": lambda f: f"目前已测：{joined(f.words('names'))}。尚不作推荐。",
    "precision.only_one": lambda f: "没有测量其他精度。",
    "precision.unjudged": lambda f: f"计分文本太少，无法判断 {joined(f.words('others'))} 的质量。",
    "precision.no_faster": lambda f: (
        f"{'在质量限制内' if f.figures.get('within_limit') else ''}没有其他已测精度更快。"
    ),
    "precision.against": _against,
    "precision.out": lambda f: f"{f.subject} 出局：{_clauses(f)}。",
    "precision.other_reference": lambda f: f"{f.word('asked')} 不能作为基准：质量与 {f.subject} 比较。",
    "precision.not_judged": lambda f: (
        f"无法判断质量：作为基准的 {f.subject} 没有得分，也没有另外两种有得分。不推荐任何精度。"
    ),
    "precision.stored": lambda f: (
        f"检查点以 {f.subject} 存储：fp32 加宽的是运算而非权重，第三种精度还会舍入权重。"
    ),
    "precision.drift": lambda f: (
        f"各精度之间机器速度变化了{pace_in_chinese(f.number('drift'))}（由提示词之间的固定任务测得）。"
        "小于此值的速度差异不说明问题：请在空闲的机器上重新测量。"
    ),
    "precision.wide_interval": lambda f: (
        f"{f.subject}：各提示词的吞吐差异很大（区间 {100 * f.number('width'):.0f} %）。"
    ),
    "precision.kl_missing": lambda f: f"{f.subject}：没有 KL 散度（{f.word('why')}）。",
    "quality.unjudged": lambda f: (
        f"计分文本仅 {f.number('n'):.0f} 块，无法判断质量（请加大 --ppl-max-tokens 或用更长的文本）"
    ),
    "quality.worse": lambda f: (
        f"其困惑度可能比 {f.subject} 高 {percent(f.number('increase'))}，超过限制 {percent(f.number('limit'))}"
    ),
    # 草稿与 K
    "spec.none_measured": lambda f: "没有任何测量成功，无法推荐。",
    "spec.too_few": lambda f: (
        f"{_few(f)}太少，无法判断。按数值最好的是 {f.subject}：{times_text(f.figure('speedup'))}。"
    ),
    "spec.too_noisy": lambda f: (
        f"是否使用投机解码尚无定论：可能划算者中最快的 {f.subject} 吞吐为{PLAIN}的 {times_text(f.figure('speedup'))}。{MORE}"
    ),
    "spec.beyond_a_step": lambda f: (
        f"是否使用投机解码尚无定论：{f.subject} 测得的吞吐为{PLAIN}的 {times_text(f.figure('speedup'))}，而它的每一步最多只能带来 "
        f"{f.number('most'):.2f}×。其中之一运行时有别的任务拖慢了机器：请在空闲的机器上重新测量。"
    ),
    "spec.too_drifted": lambda f: (
        f"是否使用投机解码尚无定论：引擎每次只运行一个，而同样的固定任务在它们之间速度变化了{pace_in_chinese(f.number('drift'))}。"
        "接受率与文本仍然有效。请在空闲的机器上重新测量。"
    ),
    "spec.speculate": lambda f: (
        f"使用投机解码：{f.subject}，吞吐为{PLAIN}的 {times_text(f.figure('speedup'))}。"
    ),
    "spec.refuse": lambda f: (
        f"不要使用投机解码：最快的 {f.subject} {_no_gain(f.figure('speedup'))}"
        f"（{times_text(f.figure('speedup'))}）。"
    ),
    "spec.chosen_among": lambda f: (
        f"{f.number('n'):.0f} 个（草稿，K）中最快者有一部分是运气：其区间下端对全部组合同时成立，"
        "加速比由未参与挑选的提示词估计。"
    ),
    "spec.ties": _ties,
    "spec.random_weights": lambda f: "随机权重：接受率以及加速比不能说明训练过的模型。",
    "spec.synthetic": lambda f: f"合成接受率 {f.number('acceptance'):g}：速度为实测，一致程度为设定。",
    "spec.failed": lambda f: f"{f.subject}，K = {joined(f.words('ks'))}：{_why(f)}。",
    "spec.lossless": _lossless,
    "spec.step": lambda f: (
        f"{f.subject}：每步得到 {f.number('tokens_per_step'):.2f} 个 token，耗时相当于 {f.number('break_even'):.2f} 个"
        f"（K 次草稿前向各 {f.number('draft_cost'):.2f}，一次验证 {f.number('verify_cost'):.2f}）。"
    ),
    "spec.largest_k": lambda f: f"K = {f.number('k'):.0f} 是所要求的最大值：更大的 K 可能更快。",
    "spec.other_k": lambda f: (
        f"{f.subject}：预测未被要求的 K = {f.number('k'):.0f} 更快（预填充之后 {f.number('speedup'):.2f}× 对 "
        f"{f.number('asked'):.2f}×）。"
    ),
    "spec.bug": lambda f: (
        f"{f.subject}：第 {f.number('prompt'):.0f} 条提示词在第 {f.number('position'):.0f} 个 token 处偏离{PLAIN}，"
        "并非舍入所致。请报告此问题。"
    ),
    "spec.replay_differs": lambda f: f"{f.subject}：测量与重放不一致。",
    "spec.wide_intervals": lambda f: (
        f"{f.number('of'):.0f} 行中有 {f.number('n'):.0f} 行的加速比随提示词变化很大"
        f"（区间宽达{_width(f.number('width'))}）：更多提示词可使其变窄。"
    ),
    "spec.repeats": lambda f: (
        f"文本在重复自身：{100 * f.number('repeated'):.0f} % 的 4-gram 在同一回答中出现过，{f.subject} 写出的 token 有 "
        f"{100 * f.number('kept'):.0f} % 来自全部 {f.number('k'):.0f} 个都被接受的步。加速比只适用于这类文本："
        "请用自己的文本（--dataset file:PATH）或采样（--temperature 0.8）。"
    ),
    "spec.no_replay": lambda f: f"{f.subject} 没有重放：{f.word('why')}。",
    "spec.none_lossless": lambda f: f"不要使用投机解码：没有任何（草稿，K）的文本被证明与{PLAIN}一致。",
    "spec.not_lossless": lambda f: f"不推荐 {f.subject}：{_unexplained(f)}。",
    "spec.replay": lambda f: (
        f"重放：比较了 {f.number('of'):.0f} 次运行中的 {f.number('compared'):.0f} 次（文本与{PLAIN}一致者），"
        f"其中 {f.number('same'):.0f} 次逐步一致。"
    ),
    "deployed.retried": lambda f: (
        f"{f.subject} 的重测晚于其他各行：其间机器的变化在其比值之内。--fresh 会让全部轮流重测。"
    ),
    "deployed.in_turn": lambda f: (
        f"引擎每次只运行一个，各运行 {f.number('n'):.0f} 次：各次启动之间的差异只计入加速比的区间，不计入其他区间。"
    ),
    "spec.drift": lambda f: (
        f"扫描期间机器自身的速度变化了{pace_in_chinese(f.number('drift'))}（由提示词之间的固定任务测得）。各行在每条提示词上"
        "轮流运行，缓慢的变化因此不进入比值；吞吐则来自一台变化的机器。"
    ),
    "deployed.drift": lambda f: (
        f"扫描期间机器自身的速度变化了{pace_in_chinese(f.number('drift'))}（由引擎之间的固定任务测得）。引擎并未全部轮流，"
        "因此这一变化有一部分在比值及其区间里。"
    ),
    "spec.no_control": lambda f: f"与{PLAIN}的差异无法复核：{f.word('why')}。",
    "spec.no_memory": lambda f: f"{f.subject or '单独的目标模型'}没有内存峰值：{f.word('why')}。",
    "spec.fallback": lambda f: f"{f.word('why')}。",
    "spec.dead_draft": lambda f: (
        f"{f.subject} 只与目标 {f.number('n'):.0f} 个 token 中的 {100 * f.number('share'):.1f} % 一致，任何 K 都没有收益：是分词器或对话模板不同，还是被量化损坏？"
    ),
    "pairs.base": lambda f: (
        f"{f.word('own')} 的 {f.subject} 与 {f.word('target')} 的目标有 {100 * f.number('share'):.1f} % 的 token 一致（两者舍入最少）；其余各对格式与之并列。"
    ),
    "pairs.dead": lambda f: f"{_pair_text(f)}：几乎为零。请检查其量化方式。",
    "pairs.halved": lambda f: (
        f"{_pair_text(f)}，不到舍入最少时 {100 * f.number('base'):.1f} % 的一半。请检查其量化方式。"
    ),
    "pairs.lost": lambda f: f"{f.subject} 未列入各对格式（{_status(f)}：{f.word('why')}）。",
    "spec.batches_static": lambda f: "批大小 1 以 eager 方式运行（更快）；更大的批以 static 方式运行。",
    "spec.ended_early": lambda f: (
        f"在 {f.number('of'):.0f} 条提示词中完成 {f.number('done'):.0f} 条后结束：{f.word('why')}。"
    ),
    "spec.strayed": lambda f: f"{f.number('n'):.0f} 次运行屡次偏离草稿所依的文本，因此接受率低于设定值。",
    "spec.draft_size": lambda f: (
        f"草稿 {f.subject} 不比目标小（参数 {f.number('size'):,.0f} 与 {f.number('target'):,.0f}）：不太可能加速。"
    ),
    # 规划
    "plan.none": lambda f: "没有可以规划的草稿。",
    "plan.speculate": lambda f: (
        f"使用投机解码：{f.subject}，预测吞吐为{PLAIN}的 {f.number('speedup'):.2f}×。"
    ),
    "plan.open": lambda f: (
        f"是否使用投机解码尚无定论：最好的 {f.subject} 预测吞吐为{PLAIN}的 {f.number('speedup'):.2f}×，"
        "预测不能决定。请实测。"
    ),
    "plan.impossible_costs": lambda f: (
        f"验证 {f.number('k') + 1:.0f} 个 token 测得耗时仅为单个 token 前向的 {f.number('cost'):.2f}：这不可能。{_DISTURBED}"
    ),
    "plan.noisy_costs": lambda f: (
        f"单个 token 的前向耗时在 {f.figure('forward').low:.1f} 到 {f.figure('forward').high:.1f} ms 之间。{_DISTURBED}"
    ),
    "plan.refuse": lambda f: (
        f"不要使用投机解码：最好的 {f.subject} 预测吞吐为{PLAIN}的 {f.number('speedup'):.2f}×。"
    ),
    "plan.draft": lambda f: (
        f"{f.subject}：最佳 K = {f.number('k'):.0f}，{f.number('speedup'):.2f}×"
        f"（每步 {f.number('tokens_per_step'):.2f} 个 token）。"
    ),
    "plan.how": lambda f: f"由 {f.number('n'):.0f} 条提示词经重放与成本曲线预测；没有扫描，因此没有区间。",
    "plan.not_predicted": lambda f: (
        f"{f.subject} 无法预测：成本或与文本的一致程度未能测得，或每段文本都止于第一个 token。"
    ),
    "plan.out": lambda f: f"{f.subject} 出局：{_why(f)}。",
    # 批
    "batch.too_few": lambda f: (
        f"批大小 {f.word('batch_size')}：{f.figure('speedup').n} 组太少，无法判断。按数值最好的是 {f.subject}："
        f"{times_text(f.figure('speedup'))}。"
    ),
    "batch.too_noisy": lambda f: (
        f"批大小 {f.word('batch_size')}：尚无定论。可能划算者中最快的 {f.subject} 为 {times_text(f.figure('speedup'))}。"
    ),
    "batch.pays": lambda f: (
        f"批大小 {f.word('batch_size')}：{f.subject} 为 {times_text(f.figure('speedup'))}。"
    ),
    "batch.refuse": _batch_refuse,
    "batch.unknown": lambda f: f"批大小 {f.word('batch_size')}：没有草稿完成，无从判断。",
    "batch.failed": lambda f: (
        f"批大小 {f.word('batch_size')}{f'，{f.subject}' if f.subject else ''}：{_why(f)}。"
    ),
    "batch.pays_everywhere": lambda f: _batch("投机解码在所有已测批大小上都划算", f),
    "batch.pays_nowhere": lambda f: _batch(
        f"投机解码在任何已测批大小上都{'未被证明' if f.words('open') else '不'}划算", f
    ),
    "batch.pays_at": lambda f: _batch(
        f"投机解码{'' if f.words('open') else '仅'}在批大小 {joined(f.words('paying'))} 划算", f
    ),
    "batch.stops": lambda f: _batch(
        f"从批大小 {f.word('stop')} 起投机解码不再划算（最好 {f.number('best'):.2f}×）", f
    ),
    "batch.lossless": _batch_lossless,
    "batch.ended_early": lambda f: (
        f"批大小 {f.word('batch_size')} 在 {f.word('of')} 组中完成 {f.word('done')} 组后结束：{f.word('why')}。"
    ),
    # 推荐
    "limit.memory": _limit_memory,
    "limit.ttft": lambda f: (
        f"首 token 延迟可能达 {f.number('ttft_ms'):.1f} ms，超过上限 {f.number('limit_ms'):g} ms"
    ),
    "speculation.bug": lambda f: "其文本不是目标模型的文本",
    "speculation.not_lossless": _unexplained,
    "speculation.too_few": lambda f: f"{f.number('n'):.0f} 条提示词太少，无法判断它是否更快",
    "speculation.slower": lambda f: f"慢于{PLAIN}（{f.figure('speedup').value:.2f}×）",
    "speculation.unsure": lambda f: (
        f"加速比 {f.figure('speedup').value:.2f}× 可能只有 {f.figure('speedup').low:.2f}×，"
        f"而要求高于 {f.number('min_speedup'):.2f}×"
    ),
    "speculation.too_little": _too_little,
    "recommend.why": _why_deploy,
    "recommend.nothing": lambda f: "没有任何测量，无法推荐。",
    "recommend.ahead": lambda f: f"目前 {_subject(f)} 领先；尚不作推荐。",
    "recommend.not_all": lambda f: "并未测完所要求的全部。",
    "recommend.deploy": lambda f: f"部署 {_subject(f)}：{f.number('throughput'):.0f} tokens/s。",
    "recommend.speedup": lambda f: (
        f"投机解码的吞吐为 {f.subject} 下{PLAIN}的 {times_text(f.figure('speedup'))}。"
    ),
    "recommend.too_few": lambda f: (
        f"{_few(f)}太少，无法判断是否使用投机解码。按数值 {_subject(f)} 为 {times_text(f.figure('speedup'))}"
        f"（{f.word('precision')} 下{PLAIN}的倍数）。"
    ),
    "recommend.too_noisy": lambda f: (
        f"是否使用投机解码尚无定论：{_subject(f)} 的吞吐为其 {times_text(f.figure('ratio'))}{_asked(f)}。{MORE}"
    ),
    "recommend.open_predicted": lambda f: (
        f"是否使用投机解码尚无定论：没有实测。预测最好的 {_subject(f)} 吞吐可达{PLAIN}的 {f.number('speedup'):.2f}×。"
    ),
    "recommend.open": lambda f: "是否使用投机解码尚无定论：没有考察任何草稿。",
    "recommend.refuse_slower": lambda f: (
        f"不要使用投机解码：实测最好的 {_subject(f)} 吞吐为其 {times_text(f.figure('ratio'))}。"
    ),
    "recommend.refuse_measured": lambda f: (
        f"不要使用投机解码：实测最好的 {_subject(f)} 出局：{_clauses(f)}。"
    ),
    "recommend.refuse_predicted": lambda f: (
        f"不要使用投机解码：预测最好的 {_subject(f)} 吞吐仅为{PLAIN}的 {f.number('speedup'):.2f}×；"
        f"而要求高于 {f.number('min_speedup'):.2f}×。"
    ),
    "recommend.no_draft_measured": lambda f: "没有草稿可以测量。",
    "recommend.against": lambda f: f"相对 {f.subject} 下的{PLAIN}：{times_text(f.figure('ratio'))}。",
    "recommend.ties": lambda f: f"速度无显著差异：{joined(f.words('names'))}。",
    "recommend.precision_first": lambda f: f"先定精度：{_parts(f)}",
    "recommend.by_speed": lambda f: f"{f.subject}，仅凭速度：{_parts(f)}",
    "recommend.at": lambda f: f"{f.subject}：{_parts(f)}",
    "recommend.plan_at": lambda f: f"{f.subject} 的规划：{_parts(f)}",
    "recommend.out": lambda f: f"{_subject(f)} 出局：{_clauses(f)}。",
    "recommend.not_shown": lambda f: f"{_subject(f)} 未被证明划算：{_clauses(f)}。",
    "recommend.rival": lambda f: (
        f"{_subject(f)} 达到 {f.number('throughput'):.0f} tokens/s。各精度先后运行，小于机器漂移的差异不计。"
    ),
    "recommend.none_near": lambda f: "预测没有草稿能接近要求：均未实测。",
    "recommend.mixed_cannot_pay": lambda f: (
        f"草稿模型用不同于目标（{f.subject}）的精度不可能划算：即使其前向不耗时，{_way(f.word('best'))} 仍更快。"
    ),
    "recommend.late": lambda f: (
        f"超出预算 {f.number('budget_s'):.0f} 秒：用了 {f.number('spent_s'):.0f} 秒。测量耗时是估计的。"
    ),
    "recommend.pace": _pace_of_stage,
    "budget.time": lambda f: f"为满足时间预算：测量到此时间已到：{f.subject}",
    "budget.precision": lambda f: f"为满足时间预算：未测 {f.subject}",
    "budget.prompts": lambda f: _kept("提示词", f),
    "budget.scored": lambda f: (
        _kept("困惑度的 token", f)
        if f.figures.get("asked")
        else f"为满足时间预算：困惑度至多用 {f.number('kept'):,.0f} 个 token"
    ),
    "budget.compared": lambda f: _kept("KL 散度的 token", f),
    "budget.rounds": lambda f: _kept("每种精度的进程", f),
    "budget.plan": lambda f: f"为满足时间预算：{f.subject} 没有规划，因此没有考虑草稿",
    "budget.contender": lambda f: f"为满足时间预算：未测 {_subject(f)}（预测 {f.number('speedup'):.2f}×）",
    # 比较
    "compare.no_speed_at_all": lambda f: "没有两侧都有速度的行。",
    "compare.nothing_significant": lambda f: "没有显著结果：少于 5 条提示词（或组）没有区间。请多测一些。",
    "compare.same_speed": lambda f: "A 与 B 的速度无显著差异。",
    "compare.speeds": _speeds,
    "compare.largest_regression": lambda f: f"最大的退步：{f.subject}，{_clauses(f)}。",
    "compare.no_regression": lambda f: "没有显著退步。",
    "compare.ppl_same": lambda f: "困惑度相同。",
    "compare.ppl_changed": lambda f: f"困惑度：{_clauses(f)}。",
    "compare.ppl_too_few": lambda f: "计分文本太少，无法比较困惑度。",
    "compare.ppl_not_told_apart": lambda f: "困惑度无显著差异。",
    "compare.no_longer_runs": lambda f: f"在 A 中运行、在 B 中失败：{_clauses(f)}。",
    "compare.runs_now": lambda f: f"在 A 中失败、在 B 中运行：{_clauses(f)}。",
    "compare.missing": lambda f: f"A 中有而 B 中缺：{_some(f.words('names'))}。",
    "compare.no_longer_lossless": lambda f: f"不再无损：{_clauses(f)}。",
    "compare.ratio": lambda f: f"{_METRICS[f.subject]} {ratio_text(f.subject, f.figure('ratio'))}",
    "compare.typical_ratio": lambda f: (
        f"{f.number('n'):.0f} 条提示词中 {f.number('num_worse'):.0f} 条的{_METRICS[f.subject]}更差，"
        f"中位数 {f.number('median'):.3f}×"
    ),
    "compare.row_ratio": lambda f: f"{f.subject} {ratio_text('ppl', f.parts[0].figure('ratio'))}",
    "compare.lost": lambda f: f"{f.subject}：{_clauses(f)}",
    "compare.not_in_b": lambda f: f"{f.subject}：B 中没有",
    "compare.status_changed": lambda f: (
        f"{'；'.join(f.words('names'))}（{f.word('before')} → {f.word('after')}"
        f"{'：' + f.word('why') if f.word('why') else ''}）"
    ),
    "compare.not_lossless": lambda f: (
        f"{f.subject}：{f.word('after')} 段文本与{PLAIN}不同，舍入不能解释（A 中 {f.word('before')} 段）"
    ),
    "compare.no_speed": lambda f: "没有两侧都有速度的行",
    "compare.no_interval": lambda f: "速度没有区间，因为测量的提示词（或组）少于 5",
    "compare.not_in_turn": lambda f: "A 与 B 并非轮流测量：两次运行之间机器的变化在比值里，而不在区间里。",
    "compare.in_turn": lambda f: (
        f"A 与 B 轮流测量，各 {f.number('rounds'):.0f} 次，各在自己的进程中：区间包含其间机器的变化。"
    ),
    "compare.times_apart": lambda f: (
        "吞吐、TPOT 与 TTFT 分别测得，包含其间机器的变化（`bitdraft compare --measure A B` 轮流测量两者）"
    ),
    "compare.no_interval_of": lambda f: (
        f"{_some(f.words('names'))} 的{_METRICS[f.subject]}：提示词或块太少，没有区间"
    ),
    "compare.no_ppl_interval": lambda f: (
        "困惑度没有区间：计分文本太少（请加大 --ppl-max-tokens 或用更长的文本）"
    ),
    "compare.refused_file": lambda f: f"{f.subject} 不与 B 中的比较",
    "compare.not_compared": lambda f: (
        f"{_some(f.words('names'))} 的{_METRICS[f.subject]}：A 有，但不能与 B 比较"
    ),
    "compare.another_machine": lambda f: f"另一台机器（{'、'.join(f.words('changed'))}）：比值也在比较机器。",
    "compare.no_work_timed": lambda f: "没有计时固定任务，因此机器自身速度的变化未知。",
    "compare.work_timed": lambda f: (
        "固定任务（在提示词之间计时）在 B 中相对 A 的速度："
        + "、".join(
            f"{name} {float(speed):.2f}×"
            for name, speed in zip(f.words("names"), f.words("speeds"), strict=True)
        )
        + "。"
    ),
    "compare.same_ids": lambda f: f"贪心文本：{f.word('total')} 段中 {f.word('same')} 段的 token 一致。",
    "compare.refused": lambda f: (
        f"不比较 {f.subject}：{f.word('field')} 为 {f.word('values')}：{f.word('problem')}。{f.word('remedy')}。"
    ),
    "compare.only_in": lambda f: f"仅在 {f.subject} 中：{_some(f.words('names'))}。",
    "compare.note": lambda f: f"{_some(f.words('names'))}：{_clauses(f)}。",
    "compare.plans": lambda f: f"规划不测速度，已跳过：{'、'.join(f.words('names'))}。",
    "compare.no_same_prompts": lambda f: "没有相同提示词的运行",
    "compare.other_tokens": lambda f: "两侧各用自己的分词器，同样数量的 token 未必是同样多的文本",
    "compare.unfinished": lambda f: f"{f.subject} 中：{f.word('what')}。",
    "compare.no_ppl": lambda f: f"略去 PPL：{f.word('why')}",
    "compare.no_numbers": lambda f: f"略去并非数字者：{'、'.join(f.words('names'))}",
}
