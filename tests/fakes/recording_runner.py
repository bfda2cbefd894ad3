"""A Runner that records what it is asked to run and answers from a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from moshid.service.runner import Ran, SystemRunner

Answer = Ran | list[Ran] | Callable[[Sequence[str]], Ran]


class RecordingRunner:
    """Answers by the longest scripted beginning of the command, else with success.

    A list is used up answer by answer, its last one again and again. ``absent`` programs are not
    found; ``real`` ones are run for real.
    """

    def __init__(
        self,
        answers: Mapping[str, Answer] | None = None,
        *,
        absent: Sequence[str] = (),
        real: Sequence[str] = (),
    ) -> None:
        self.commands: list[list[str]] = []
        self.answers = dict(answers or {})
        self._absent = frozenset(absent)
        self._real = frozenset(real)

    def which(self, program: str) -> str | None:
        """A path, unless the program is absent."""
        return None if program in self._absent else f"/usr/bin/{program}"

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Ran:
        """Record, then answer."""
        self.commands.append(list(argv))
        if argv[0] in self._absent:
            return Ran(127, stderr=f"{argv[0]}: there is no such program")
        if argv[0] in self._real:
            return SystemRunner().run(argv, timeout_s=timeout_s)
        line = " ".join(argv)
        matching = [start for start in self.answers if line.startswith(start)]
        if not matching:
            return Ran(0)
        answer = self.answers[max(matching, key=len)]
        if isinstance(answer, list):
            return answer.pop(0) if len(answer) > 1 else answer[0]
        return answer(argv) if callable(answer) else answer

    def deeds(self, program: str) -> list[str]:
        """As ``lines``, without what only asks."""
        asking = ("print ", "--user show ", "--user is-active ")
        return [line for line in self.lines(program) if not line.startswith(asking)]

    def lines(self, program: str) -> list[str]:
        """The recorded commands of one program, without its name."""
        return [" ".join(words[1:]) for words in self.commands if words[0] == program]
