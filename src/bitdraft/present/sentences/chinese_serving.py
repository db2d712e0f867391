"""Sentences of running servers in Chinese."""

from __future__ import annotations

from bitdraft.present.sentences.base import Sentence
from bitdraft.present.words import pace_in_chinese, times_text
from bitdraft.schema.findings import Finding


def _at(f: Finding) -> str:
    load = f.number("load")
    return f"并发 {load:.0f} 时" if load else "在该请求速率下"


def _break_even(f: Finding) -> str:
    pays, stops = f.number("pays"), f.number("stops")
    if not pays:
        return f"{f.subject} 在任何并发下都未显示出收益，从 {stops:.0f} 起确定没有。"
    return f"{f.subject} 在并发 {pays:.0f} 以内有收益，到 {stops:.0f} 时不再有：分界在两者之间。"


def _texts(f: Finding) -> str:
    same, total = f.number("same"), f.number("total")
    return f"{_at(f)}的贪心文本：{f.subject} 的 {total:.0f} 段中有 {same:.0f} 段与基准逐字相同。"


def _certificate(f: Finding) -> str:
    text = f"{f.number('total'):.0f} 段贪心文本中 {f.number('same'):.0f} 段与普通服务器逐字相同"
    for name, what in (
        ("ties", "段在近似平局处分开"),
        ("noise", "段连普通服务器自身也不重复"),
        ("unexplained", "段无法解释"),
    ):
        if f.number(name):
            text += f"，{f.number(name):.0f} {what}"
    return text


SENTENCES: dict[str, Sentence] = {
    "serving.none_measured": lambda f: "没有服务器完整作答。",
    "serving.so_far": lambda f: f"尚未完成：目前 {f.number('n'):.0f} 个请求，尚无结论。",
    "serving.alone": lambda f: (
        f"{f.subject} {_at(f)}：每个请求 {f.figure('speed').value:.1f} token/s。加上 --baseline 即可比较。"
    ),
    "serving.not_compared": lambda f: f"无可比较：没有提示词同时得到 {f.subject} 和另一服务器的回答。",
    "serving.pays": lambda f: (
        f"{_at(f)}请使用 {f.subject}：速度是 {f.word('baseline')} 的 {times_text(f.figure('speedup'))}。"
    ),
    "serving.refuse": lambda f: (
        f"{_at(f)}不要使用：{f.subject} 的速度是 {f.word('baseline')} 的 {times_text(f.figure('speedup'))}。"
    ),
    "serving.open": lambda f: (
        f"{_at(f)}尚无定论：{f.subject} 的速度是 {f.word('baseline')} 的 {times_text(f.figure('speedup'))}；"
        "更多提示词或更空闲的机器才能判断。"
    ),
    "serving.not_the_same": lambda f: (
        f"{_at(f)}尚无定论：{f.subject} 做的与 {f.word('baseline')} 不是同样的事（见警告）。请比较同一模型的服务器。"
    ),
    "serving.too_drifted": lambda f: (
        f"{_at(f)}尚无定论：服务器每次只运行一个，而普通服务器自身每步的速度变化了{pace_in_chinese(f.number('drift'))}。"
        "请在空闲的机器上重新测量。"
    ),
    "serving.beyond_a_step": lambda f: (
        f"{_at(f)} {f.subject} 的速度是基准的 {times_text(f.figure('speedup'))}，超过它每步 {f.number('most'):.2f} 个 token "
        "所能带来的：两者之间不只差推测解码，或其中之一被别的任务拖慢。"
    ),
    "serving.chosen_among": lambda f: (
        f"结论同时看了 {f.number('n'):.0f} 个加速比，其下端对全部同时成立：因此低于表中各行自己的下端。"
    ),
    "serving.drift": lambda f: (
        f"{f.subject} {_at(f)}：其自身每步的速度在运行期间变化了{pace_in_chinese(f.number('drift'))}（按发送顺序三段请求的 TPOT "
        "中位数）：机器变了，或另有人使用。"
    ),
    "serving.overloaded": lambda f: (
        f"{f.subject} {_at(f)}：发出最后一个请求时，{f.number('of'):.0f} 个中有 {f.number('n'):.0f} 个尚未结束。它跟不上这个"
        "速率，或运行太短而无从判断（--num-prompts）：其速度及与之相比的加速比都是队列不断变长时的。"
    ),
    "serving.counters_partial": lambda f: (
        f"{f.subject} {_at(f)}：计数器只覆盖 {f.number('of'):.0f} 个请求中的 {f.number('n'):.0f} 个，即中断之后的，因此不采用。"
    ),
    "serving.other": lambda f: f"{f.subject} {_at(f)}：{times_text(f.figure('speedup'))}。",
    "serving.break_even": _break_even,
    "serving.failed": lambda f: f"{f.subject} {_at(f)}：失败（{f.word('why')}）。",
    "serving.texts": _texts,
    "serving.some_failed": lambda f: (
        f"{f.subject} {_at(f)}：{f.number('of'):.0f} 个请求中 {f.number('n'):.0f} 个失败（{f.word('why')}），"
        "不计入任何速度。"
    ),
    "serving.retried": lambda f: f"{f.subject} {_at(f)}：{f.number('n'):.0f} 个请求重试过；时间取最后一次。",
    "import.read": lambda f: f"{f.number('n'):.0f} 个请求，由 {'、'.join(f.words('tools'))} 测得。",
    "import.ratio": lambda f: (
        f"{_at(f)} {f.subject} 的速度是 {f.word('baseline')} 的 {times_text(f.figure('speedup'))}。"
    ),
    "import.apart": lambda f: (
        "两者并非轮流测量：其间机器的变化在比值之内而不在区间之内，因此不作判断（serve-bench 轮流测量）。"
    ),
    "import.no_common_load": lambda f: (
        f"{f.subject} 的并发为 {'、'.join(f.words('own'))}，{f.word('baseline')} 的为 {'、'.join(f.words('base'))}：无可比较。"
    ),
    "import.lengths": lambda f: (
        f"{_at(f)} {f.subject} 有 {f.number('own'):.0f} 个请求，{f.word('baseline')} 有 {f.number('base'):.0f} 个："
        "只比较两者都有的。"
    ),
    "import.by_place": lambda f: (
        f"{_at(f)} {f.subject}：文件没有给出全部提示词的长度，请求只按位置与 {f.word('baseline')} 配对：两者须是同样顺序的"
        "同样提示词。"
    ),
    "import.no_start_times": lambda f: f"{f.subject}：文件没有发送时间，因此整个服务器的吞吐未知。",
    "import.not_streamed": lambda f: (
        f"{f.subject}：回答未以流式返回。首个 token 的时间取自服务器自身的计时，token 之间的间隔未知。"
    ),
    "import.turns": lambda f: f"{f.subject}：部分样本有多轮，时间为各轮之和：其 TTFT 是全部轮次的。",
    "serving.died": lambda f: f"{f.subject} 在运行结束前退出（{f.word('why')}）。",
    "serving.in_turn": lambda f: (
        f"服务器每次只运行一个，各运行 {f.number('n'):.0f} 次：各次启动之间的差异只计入加速比的区间，"
        "不计入其他区间。"
    ),
    "serving.others": lambda f: (
        f"{f.subject} {_at(f)}：据其自身计数，多完成了 {f.number('n'):.0f} 个请求：期间另有人使用，其计数器不采用。"
    ),
    "serving.restarted": lambda f: f"{f.subject} {_at(f)}：其计数器中途重新开始。",
    "serving.contradiction": lambda f: (
        f"{f.subject} {_at(f)}：其关于推测解码的数字互相矛盾（{f.word('what')}；共 {f.number('n'):.0f} 处），不计入任何数字。"
    ),
    "serving.k_is_less": lambda f: (
        f"{f.subject} {_at(f)}：每步起草 {f.number('drafted'):.2f} 个 token，而非 K = {f.number('k'):.0f}，"
        "回答的末尾不足以解释：引擎可能在把握不足时少起草。其接受率按 K 计。"
    ),
    "serving.lengths": lambda f: (
        f"{f.subject} {_at(f)}：其回答共 {f.number('own'):.0f} 个 token，基准为 {f.number('base'):.0f}：工作量不同。"
    ),
    "serving.cached": lambda f: (
        f"{f.subject} {_at(f)}：提示词的 token 有 {100 * f.number('share'):.0f} % 已在其缓存中：其 TTFT 是已知提示词的。"
    ),
    "serving.same_prompts": lambda f: "文本中的提示词不足以让每个并发各用一组：前缀缓存可能已知上一组。",
    "certify.lossless": lambda f: f"无损：{_certificate(f)}。",
    "certify.unexplained": lambda f: f"并非无损：{_certificate(f)}。",
    "certify.unanswered": lambda f: (
        f"未能认证：{f.number('unanswered'):.0f} 个提示词没有得到两者的回答。其余：{_certificate(f)}。"
    ),
    "certify.draws_missing": lambda f: (
        f"未能认证：{f.number('total'):.0f} 个提示词中有 {f.number('n'):.0f} 个，两者答完的抽样不足一半。其余的分布均无差异。"
    ),
    "certify.difference": lambda f: (
        f"提示词 {f.number('prompt'):.0f}，第 {f.number('chars'):.0f} 个字符之后：{f.word('found')!r} 取代 "
        f"{f.word('expected')!r}。"
    ),
    "certify.failed": lambda f: (
        f"{f.number('of'):.0f} 个提示词中 {f.number('n'):.0f} 个失败（{f.word('why')}）。"
    ),
    "certify.same_distribution": lambda f: (
        f"就 {f.number('n'):.0f} 次抽样而言无损：{f.number('total'):.0f} 个提示词的分布均无差异（最小 p = "
        f"{f.number('p'):.3f}）。"
    ),
    "certify.other_distribution": lambda f: (
        f"并非无损：{f.number('total'):.0f} 个提示词中有 {f.number('n'):.0f} 个，{f.subject} 的抽样分布不同"
        f"（提示词 {f.number('prompt'):.0f}：总变差 {f.number('distance'):.2f}，p = {f.number('p'):.4f}）。"
    ),
    "certify.no_chance": lambda f: "没有随机性：每次抽样文本相同。请提高 --temperature 或 --draw-tokens。",
}
