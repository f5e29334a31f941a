"""Decides for each request how its images travel: raw, or as JPEG of which quality.

Pure: time and what is known of the link are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass

from flash_transport.link_estimate import LinkEstimate

__all__ = ["ImageChoice", "ImageChooser", "ImageLimits"]


@dataclass(frozen=True)
class ImageLimits:
    """Within which the choice is made.

    Attributes:
        budget_s: most seconds that a request's images may take on the link, beyond its round trip.
        best: quality of JPEG where it fits into that, 1 to 100.
        least: no lower quality is chosen, whatever the link carries.

    Raises:
        ValueError: a quality is out of range, `least` is above `best`, or the budget is not
            positive.
    """

    budget_s: float = 0.02
    best: int = 92
    least: int = 70

    def __post_init__(self) -> None:
        if not 1 <= self.best <= 100:
            raise ValueError(f"JPEG quality {self.best} is not between 1 and 100")
        if not 1 <= self.least <= self.best:
            raise ValueError(
                f"least JPEG quality {self.least} is not between 1 and the best, {self.best}"
            )
        if not 0 < self.budget_s < float("inf"):
            raise ValueError(f"image budget {self.budget_s} is not a positive number of seconds")


@dataclass(frozen=True)
class ImageChoice:
    """How the images of one request travel.

    Attributes:
        quality: of JPEG; None: raw.
        news: why it changed from raw to JPEG or back, for a person; else empty.
    """

    quality: int | None
    news: str = ""


class ImageChooser:
    """Chooses for one client, request by request.

    Raw images are exact, so they are sent wherever the link carries them within the budget. The
    first request is JPEG, because nothing is measured yet. A request that takes too long raw makes
    the next ones JPEG at once; raw is tried again after `FIRST_REST_S`, after twice the time with
    each try that was a mistake.
    """

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits
        self._quality: int | None = limits.best
        self._ladder = _ladder(limits.best, limits.least)
        self._is_measured = False
        self._unmeasured = 0
        self._rate_when_left: float | None = None
        self._changed_at = float("-inf")
        self._rest_s = FIRST_REST_S
        self._density = _DENSITY
        self._has_encoded = False

    def choose(self, now: float, raw_bytes: int, estimate: LinkEstimate | None) -> ImageChoice:
        """How the images of the next request travel.

        Args:
            now: seconds on a clock that only goes forward.
            raw_bytes: of its images.
            estimate: what the transport knows of the link; None if it measures none: then images
                are raw, or stay what they were if another transport has measured it.
        """
        if estimate is None:
            return ImageChoice(self._quality if self._is_measured else None)
        rate = estimate.bits_per_second
        if rate is None or rate <= 0 or raw_bytes <= 0:
            self._unmeasured += 1
            is_too_small = not self._is_measured and self._unmeasured > _UNMEASURED
            return ImageChoice(None if is_too_small else self._quality)
        # a queue delays the images whatever they are; they get the rest of the budget
        left_s = max(self._limits.budget_s - estimate.queue_s, _LEAST_LEFT * self._limits.budget_s)
        raw_s = 8 * raw_bytes / rate
        news = ""
        if self._quality is None:
            if raw_s > _TOLERANCE * left_s:
                news = self._leave_raw(now, raw_bytes, rate, left_s)
        elif self._is_due(now) and (raw_s <= TRIAL * left_s or self._is_stale(now, rate)):
            if self._is_measured:
                news = f"images are sent raw: {_link(rate)} carries them in {_ms(raw_s)}"
            self._quality, self._changed_at = None, now
        elif not self._is_measured:
            news = self._leave_raw(now, raw_bytes, rate, left_s)
        else:
            self._adapt(raw_bytes, rate, left_s)
        self._is_measured = True
        return ImageChoice(self._quality, news)

    def learn(self, raw_bytes: int, quality: int, jpeg_bytes: int) -> None:
        """Take how large images have become as JPEG.

        Args:
            raw_bytes: of the images of a request.
            quality: as they were encoded.
            jpeg_bytes: of all of them together.
        """
        if raw_bytes <= 0:
            return
        density = jpeg_bytes / raw_bytes / _size(quality)
        self._density = (self._density + density) / 2 if self._has_encoded else density
        self._has_encoded = True

    def _leave_raw(self, now: float, raw_bytes: int, rate: float, left_s: float) -> str:
        if self._quality is None:
            was_mistake = now - self._changed_at < _PROVEN_S
            self._rest_s = min(2 * self._rest_s, LONGEST_REST_S) if was_mistake else FIRST_REST_S
        self._quality = self._best_within(raw_bytes, rate, left_s)
        self._changed_at, self._rate_when_left = now, rate
        return (
            f"images are sent as JPEG: raw they would take {_ms(8 * raw_bytes / rate)} on "
            f"{_link(rate)}, and may take {_ms(left_s)}"
        )

    def _is_due(self, now: float) -> bool:
        return not self._is_measured or now - self._changed_at >= self._rest_s

    def _is_stale(self, now: float, rate: float) -> bool:
        """Whether the JPEGs are too small to tell that the link has become faster."""
        return rate == self._rate_when_left and now - self._changed_at >= LONGEST_REST_S

    def _adapt(self, raw_bytes: int, rate: float, left_s: float) -> None:
        """Lower the quality as soon as it does not fit; raise it once a better one fits well."""
        assert self._quality is not None
        is_too_slow = self._seconds(raw_bytes, self._quality, rate) > _TOLERANCE * left_s
        wanted = self._best_within(raw_bytes, rate, left_s if is_too_slow else left_s / _TOLERANCE)
        if is_too_slow or wanted > self._quality:
            self._quality = wanted

    def _best_within(self, raw_bytes: int, rate: float, seconds: float) -> int:
        fitting = (q for q in self._ladder if self._seconds(raw_bytes, q, rate) <= seconds)
        return next(fitting, self._ladder[-1])

    def _seconds(self, raw_bytes: int, quality: int, rate: float) -> float:
        return 8 * raw_bytes * self._density * _size(quality) / rate


def _ladder(best: int, least: int) -> tuple[int, ...]:
    """Qualities from the best down, each 1.4 times as coarsely quantised as the one before."""
    qualities = [best]
    step = 100.0 - min(best, 99)
    while (quality := round(100 - (step := step * 2**0.5))) > least:
        if quality < qualities[-1]:
            qualities.append(quality)
    if least < best:
        qualities.append(least)
    return tuple(qualities)


def _size(quality: int) -> float:
    """Bytes of an image, relative to quality 92: measured from 50 to 97, within 10 % but for 97."""
    step = 100 - quality if quality >= 50 else 2500 / quality
    return (max(step, 1) / 8) ** -0.75


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms"


def _link(bits_per_second: float) -> str:
    return f"a link of {bits_per_second / 1e6:.0f} Mb/s"


FIRST_REST_S = 2.0
"""Raw is not tried again for this time, ..."""
LONGEST_REST_S = 60.0
"""... which doubles up to this with each try that was a mistake."""
TRIAL = 2.0
"""Raw is tried if it would take at most this many times what it may: small messages, as JPEGs are,
make a fast link look slower than it is. Price of a mistake: one request takes as long."""
_TOLERANCE = 1.25
"""Beyond its limits a choice is given up only by this factor, so that noise does not change it."""
_PROVEN_S = 10.0
"""Raw that is given up after less than this was a mistake."""
_UNMEASURED = 2
"""JPEGs that leave the rate unknown are too small to measure it by: the next images are raw."""
_LEAST_LEFT = 0.25
"""Share of the budget that a queue leaves: smaller images do not make others' traffic go away."""
_DENSITY = 0.1
"""Bytes of JPEG 92 for each of a raw image, until the first was encoded: of a photograph."""
