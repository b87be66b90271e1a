"""People in video: frames in, the same frames with people out, in order and bounded memory."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from bodypose_client.errors import ServerTimeout
from bodypose_client.formats import ImageInfo, ServedModel, image_record
from bodypose_client.in_flight import map_in_order
from bodypose_client.pictures.drawing import draw_poses
from bodypose_client.pose_client import PoseClient
from pose_runtime.poses import Poses
from pose_runtime.skeleton import Skeleton

from .files import Frame
from .labels import draw_ids
from .smoothing import Smoother
from .tracking import Tracker

Pixels = NDArray[np.uint8]

_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True, eq=False)
class FramePeople:
    """The people of one frame. Without tracking they have no ids."""

    frame: Frame
    poses: Poses
    timing_ms: Mapping[str, float]
    track_ids: tuple[int, ...] = ()
    late: ServerTimeout | None = None  # the answer did not come in time: nobody knows of people


Step = Callable[[FramePeople], FramePeople]


def find_in_frames(
    client: PoseClient, frames: Iterable[Frame], in_flight: int
) -> Generator[FramePeople, None, None]:
    """The people of each frame, in order; `in_flight` frames are at the server at a time.

    At most 2 * in_flight frames are held: the frames may be endless. A frame whose answer is late
    is without people; the next one may be in time.

    Raises:
        ClientError: the server is gone or busy, or 2 * in_flight answers in a row are late.
    """
    nobody = Poses.empty(client.skeleton.num_joints)

    def ask(frame: Frame) -> FramePeople:
        data = simplejpeg.encode_jpeg(frame.pixels, _JPEG_QUALITY, colorspace="RGB")
        try:
            poses = client.infer(data)
        except ServerTimeout as error:
            return FramePeople(frame, nobody, {}, late=error)
        return FramePeople(frame, poses, poses.timing_ms)

    late_in_a_row = 0
    with contextlib.closing(map_in_order(ask, frames, in_flight)) as answers:
        for people in answers:
            late_in_a_row = late_in_a_row + 1 if people.late else 0
            if people.late and late_in_a_row == 2 * in_flight:
                raise people.late
            yield people


def above(min_score: float) -> Step:
    """Leaves out people below the score."""
    return lambda people: _only(people, people.poses.scores >= min_score)


def with_ids(tracker: Tracker) -> Step:
    """Gives each person an id, and leaves out unsure ones that are nobody known.

    It comes before `above`: a person that fades for some frames keeps its id.
    """

    def step(people: FramePeople) -> FramePeople:
        if people.late:
            return people
        ids = tuple(tracker.update(people.poses, people.frame.time_s))
        return _only(replace(people, track_ids=ids), np.array(ids, np.int64) > 0)

    return step


def _only(people: FramePeople, keep: NDArray[np.bool_]) -> FramePeople:
    poses = people.poses
    return replace(
        people,
        poses=replace(poses, keypoints=poses.keypoints[keep], scores=poses.scores[keep]),
        track_ids=tuple(itertools.compress(people.track_ids, keep)),
    )


def steadied(smoother: Smoother) -> Step:
    """Smooths the joints of people who have ids."""

    def step(people: FramePeople) -> FramePeople:
        poses = smoother.smooth(people.poses, people.track_ids, people.frame.time_s)
        return replace(people, poses=poses)

    return step


def without_ids(people: FramePeople) -> FramePeople:
    """Takes the ids away again: smoothing needs them, but nobody asked for them."""
    return replace(people, track_ids=())


def drawn(people: FramePeople, skeleton: Skeleton) -> Pixels:
    """The frame with its people, and their ids if they have them."""
    pixels = draw_poses(people.frame.pixels, people.poses, skeleton, min_score=0)
    return draw_ids(pixels, people.poses, people.track_ids) if people.track_ids else pixels


def frame_record(people: FramePeople, source: str, model: ServedModel) -> dict[str, Any]:
    """One line of JSON: `bodypose/1` with `frame`, `time_s`, and `id` of each tracked person.

    A frame whose answer was late has `"late": true`, and no people.
    """
    height, width = people.frame.pixels.shape[:2]
    info = ImageInfo(source, width, height)
    record = image_record(people.poses, info, model, people.timing_ms)
    for person, track_id in zip(record["poses"], people.track_ids, strict=False):
        person["id"] = track_id
    return {
        "schema": record.pop("schema"),
        "frame": people.frame.number,
        "time_s": round(people.frame.time_s, 6),
        **({"late": True} if people.late else {}),
        **record,
    }
