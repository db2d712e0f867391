"""The one exception that a user is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """A request that cannot be carried out as given.

    `field` names what the user set, `value` what it was set to, `problem` what is wrong with it and
    `remedy` what to do instead. `result` is what was measured before the error, where something was.
    The command line prints one line and exits with 2.
    """

    def __init__(self, field: str, value: object, problem: str, remedy: str) -> None:
        self.field, self.value, self.problem, self.remedy = field, value, problem, remedy
        self.result: object = None
        super().__init__(f"{field}: {value!s}: {problem}. {remedy}.")

    def as_dict(self) -> dict[str, str]:
        return {
            "field": self.field,
            "value": str(self.value),
            "problem": self.problem,
            "remedy": self.remedy,
        }


def one_line(error: BaseException, limit: int = 300) -> str:
    """The first non-empty line of an exception's text, or its type where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:limit] if lines else type(error).__name__
