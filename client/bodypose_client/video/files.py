"""Video as pixels: frames out of files and cameras, frames into H.264 that browsers play.

PyAV brings its own ffmpeg, so nothing must be installed beside it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_client.errors import FileError
from pose_runtime.errors import PoseError
from pose_runtime.extras import require

Pixels = NDArray[np.uint8]

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
_CLOCK = Fraction(1, 90_000)  # seconds: MPEG's, in which every usual frame rate is whole
_CRF = "20"  # x264's quality: visually close to the source
_PRESET = "veryfast"
_USUAL_RATE = Fraction(30)
_WHOLE = 0.9  # of the announced frames; edit lists hide a few on purpose
_BT709 = 1  # ITU-T H.273, the colours that browsers assume
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG
_SILENT = 0  # OpenCV's log level


class VideoError(PoseError):
    """A source is no video, or stops being one."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a video: RGB (height, width, 3), upright."""

    number: int
    time_s: float  # since the first frame
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Source:
    """An open file or camera."""

    name: str
    rate: Fraction  # frames a second, as announced
    total: int | None  # frames, as announced or estimated; None for a camera
    frames: Iterator[Frame]


@contextlib.contextmanager
def open_source(source: str) -> Iterator[Source]:
    """A video file, or the camera of that number.

    Raises:
        FileError, VideoError: it cannot be opened.
    """
    with _camera(int(source)) if source.isdigit() else _file(Path(source)) as opened:
        yield opened


@contextlib.contextmanager
def _file(path: Path) -> Iterator[Source]:
    av = _av()
    try:
        container = av.open(str(path), metadata_errors="replace")
    except OSError as error:
        raise FileError(path, "a video file", error) from error
    except av.FFmpegError as error:
        raise VideoError(f"{path}: expected a video, got {error.strerror!r}") from error
    with container:
        if not container.streams.video:
            raise VideoError(f"{path}: expected a video, got a file without pictures")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = stream.average_rate or stream.guessed_rate or _USUAL_RATE
        total = stream.frames or None
        if total is None and container.duration:
            total = round(container.duration / av.time_base * rate)
        yield Source(path.name, rate, total, _frames(container, stream, path, rate))


def _frames(container: Any, stream: Any, path: Path, rate: Fraction) -> Iterator[Frame]:
    """Frames with times that only grow, whatever the file says."""
    first_s, last_s, number = 0.0, 0.0, 0
    for decoded in _decoded(container, stream, path):
        at_s = number / float(rate) if decoded.time is None else decoded.time
        if not number:
            first_s = at_s
        else:
            last_s = max(at_s - first_s, last_s + float(_CLOCK))
        # The display matrix turns counterclockwise, as rot90 does.
        pixels = np.rot90(decoded.to_ndarray(format="rgb24"), round(decoded.rotation / 90))
        yield Frame(number, last_s, np.ascontiguousarray(pixels))
        number += 1
    if number < _WHOLE * stream.frames or not number:
        raise VideoError(
            f"{path}: expected a whole video of {stream.frames or 'some'} frames, got {number}"
        )


def _decoded(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    """Decoded frames; like any player, without those that are damaged."""
    av = _av()
    try:
        for packet in container.demux(stream):
            with contextlib.suppress(av.error.InvalidDataError):
                yield from packet.decode()
    except av.FFmpegError as error:
        raise VideoError(f"{path}: expected a whole video, got {error.strerror!r}") from error


@contextlib.contextmanager
def _camera(index: int) -> Iterator[Source]:
    import cv2

    level = cv2.getLogLevel()
    cv2.setLogLevel(_SILENT)  # our one line says it
    camera = cv2.VideoCapture(index)
    cv2.setLogLevel(level)
    try:
        if not camera.isOpened():
            raise VideoError(f"camera {index}: expected a camera, got none; is it in use?")
        rate = Fraction(camera.get(cv2.CAP_PROP_FPS) or float(_USUAL_RATE)).limit_denominator(1001)
        yield Source(f"camera {index}", rate, None, _camera_frames(camera))
    finally:
        camera.release()


def _camera_frames(camera: Any) -> Iterator[Frame]:
    number, started = 0, time.monotonic()
    while True:
        there, bgr = camera.read()
        if not there:
            return
        time_s = time.monotonic() - started if number else 0.0
        yield Frame(number, time_s, np.ascontiguousarray(bgr[:, :, ::-1]))
        number += 1


@contextlib.contextmanager
def open_video(path: Path, rate: Fraction) -> Iterator[VideoFile]:
    """A video file to write; it appears whole when the block ends, however it ends.

    Without a single frame nothing appears.

    Raises:
        FileError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise FileError(path, "a place to write to", error) from error
    temporary = Path(name)
    video = VideoFile(temporary, rate)
    try:
        try:
            yield video
        finally:
            video.close()
            if video.frames:
                temporary.chmod(0o644)
                temporary.replace(path)
    except OSError as error:
        raise FileError(path, "a place to write to", error) from error
    finally:
        temporary.unlink(missing_ok=True)


class VideoFile:
    """H.264 (yuv420p, BT.709, index in front) of RGB frames, each with its own time."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.frames = 0
        self._rate = rate
        self._last_ticks = -1
        self._container = _av().open(str(path), "w", options={"movflags": "+faststart"})
        self._stream: Any = None

    def write(self, pixels: Pixels, time_s: float) -> None:
        """Add a frame. A frame of another size than the first is scaled to it.

        H.264 has even sides: an odd one gets its last row or column twice.
        """
        av = _av()
        even = _with_even_sides(pixels)
        if self._stream is None:
            self._stream = self._open_stream(even)
        frame = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(
            self._stream.width, self._stream.height, "yuv420p", dst_colorspace="ITU709"
        )
        ticks = max(round(time_s / _CLOCK), self._last_ticks + 1)
        frame.pts, frame.time_base = ticks, _CLOCK
        self._container.mux(self._stream.encode(frame))
        self._last_ticks, self.frames = ticks, self.frames + 1

    def close(self) -> None:
        """Write what the encoder still holds, and the index."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def _open_stream(self, pixels: Pixels) -> Any:
        stream = self._container.add_stream(
            "libx264", rate=self._rate, options={"crf": _CRF, "preset": _PRESET}
        )
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = _CLOCK
        context.color_range = _LIMITED_RANGE
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        return stream


def _with_even_sides(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    return np.ascontiguousarray(pixels)


def _av() -> ModuleType:
    require("av")
    import av

    return av
