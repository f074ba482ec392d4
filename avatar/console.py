"""The terminal as a listener: a bar for each stage with an estimate of what remains, notices and results on stderr."""

import sys
import time

from tqdm import tqdm

from avatar.events import Done, Draft, Event, Metric, Notice, Preview, Progress


class Console:
    """A sink that draws. Bars are replaced by a line every few seconds where stderr is no terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: tqdm | None = None
        self._stage = ""
        self._numbers: dict[str, float] = {}
        self._said: set[str] = set()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, Metric):
            self._numbers[event.name] = event.value
        elif isinstance(event, Notice):
            self._say(f"note: {event.message}", once=True)
        elif isinstance(event, Done):
            self._done(event)
        else:
            assert isinstance(event, Preview | Draft)

    def close(self) -> None:
        """Leave the terminal clean."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._stage = None, ""

    def _progress(self, event: Progress) -> None:
        if self._quiet:
            return
        if event.stage != self._stage or self._bar is None or self._bar.total != event.total:
            self.close()
            interval = 0.2 if sys.stderr.isatty() else 10.0
            self._bar = tqdm(
                total=event.total, desc=f"{event.stage:>9}", unit=f" {event.unit}", mininterval=interval,
                maxinterval=max(interval, 10.0), initial=event.done, dynamic_ncols=True, file=sys.stderr,
            )  # fmt: skip
            self._stage = event.stage
            self._numbers = {}
            return
        if self._numbers:
            self._bar.set_postfix({k: f"{v:.4g}" for k, v in list(self._numbers.items())[:3]}, refresh=False)
        self._bar.update(event.done - self._bar.n)

    def _done(self, event: Done) -> None:
        if self._bar is not None and self._stage == event.stage:
            self._bar.update(self._bar.total - self._bar.n)
        self.close()
        said = "up to date" if event.skipped else f"done in {time.strftime('%M:%S', time.gmtime(event.seconds))}"
        pages = [str(path) for path in event.outputs if path.suffix == ".html"]
        self._say(f"{event.stage:>9}: {', see '.join([said, *pages])}")

    def _say(self, text: str, *, once: bool = False) -> None:
        if self._quiet or (once and text in self._said):
            return
        self._said.add(text)
        tqdm.write(text, file=sys.stderr)
