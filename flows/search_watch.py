"""Shows how far a search is, on the terminal."""

from types import TracebackType

from rich.progress import TaskID

from flows import console


class Bar:
    """Watches a session: one bar for each part of the search, plain lines where stderr is no terminal."""

    def __init__(self) -> None:
        self._bar = console.progress()
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, str] = {}

    def __enter__(self) -> "Bar":
        self._progress = self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def __call__(self, step: str, fraction: float, note: str) -> None:
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=1.0, note="")
        self._progress.update(self._tasks[step], completed=fraction, note=note)
        wanted = fraction >= 1.0 or step == "trials"
        if wanted and not console.err.is_terminal and self._said.get(step) != note:
            self._said[step] = note
            console.say(f"  {step}: {note or 'done'}")
