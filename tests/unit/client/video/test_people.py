import itertools
import json
import signal
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from bodypose_client import cli
from bodypose_client.commands import video as cli_video
from bodypose_client.errors import FileError, ServerTimeout, ServerUnavailable
from bodypose_client.formats import poses_from_record
from bodypose_client.pose_client import PoseClient
from bodypose_client.video.files import Frame, VideoError, open_source, open_video
from bodypose_client.video.labels import id_colour
from bodypose_client.video.people import find_in_frames
from pose_runtime.extras import MissingPackage
from pose_runtime.poses import Poses

RATE = 25
RED, BLUE = (200, 40, 40), (40, 40, 200)


def drawn_people(number, size_hw=(96, 128)):
    """Frame `number` of two people who walk towards each other: a red and a blue box."""
    pixels = np.full((*size_hw, 3), 90, np.uint8)
    for colour, x in ((RED, 10 + 2 * number), (BLUE, 100 - 2 * number)):
        cv2.rectangle(pixels, (x, 20), (x + 15, 80), colour, cv2.FILLED)
    return pixels


def write_video(path, frames, rate=RATE):
    with open_video(path, Fraction(rate)) as video:
        for number, pixels in enumerate(frames):
            video.write(pixels, number / rate)
    return path


def turned_a_quarter(path):
    """Set the rotation that a phone held upright writes: clockwise by 90 degrees.

    Source: ISO/IEC 14496-12, 8.3.2: x' = a x + c y, y' = b x + d y in the track header.
    """
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    values = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(data)


def frames_of(path):
    with open_source(str(path)) as source:
        return list(source.frames)


def close_to(pixels, colour):
    return np.abs(pixels.astype(int) - colour).max() < 12


@pytest.fixture
def walk(tmp_path):
    return write_video(tmp_path / "walk.mp4", [drawn_people(number) for number in range(20)])


@pytest.fixture
def two_people(spec):
    """A person in each coloured box of `drawn_people`, the lower score for the red one."""

    def answer(pixels):
        people = []
        for channel in (2, 0):
            others = pixels[..., 2 - channel].astype(int)
            rows, columns = np.nonzero(pixels[..., channel] - others > 80)
            if not len(rows):
                continue
            keypoints = np.full((spec.skeleton.num_joints, 3), 0.8, np.float32)
            keypoints[:, 0] = np.linspace(columns.min(), columns.max() + 1, len(keypoints))
            keypoints[:, 1] = np.linspace(rows.min(), rows.max() + 1, len(keypoints))
            people.append(keypoints)
        return Poses(np.array(people, np.float32).reshape(-1, 18, 3), np.float32([0.9, 0.4]))

    return answer


@pytest.fixture
def app():
    """`pose-client` with `video`, whether or not `client/bodypose_client/cli.py` has it already."""
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_video.add_commands(app)
    return app


@pytest.fixture
def run(app, fake_server, two_people):
    def call(*args, answer=two_people):
        arguments = ["video", *(str(arg) for arg in args)]
        return CliRunner().invoke(app, arguments, obj=fake_server(answer))

    return call


def records_in(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# Files


def test_a_written_video_is_h264_that_browsers_play(walk):
    with av.open(str(walk)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.frames) == (128, 96, 20)
        assert stream.average_rate == RATE
    data = walk.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # playback begins before the download ends


def test_frames_come_back_with_their_times_and_colours(walk):
    frames = frames_of(walk)

    assert [frame.number for frame in frames] == list(range(20))
    assert [frame.time_s for frame in frames] == pytest.approx([n / RATE for n in range(20)])
    assert close_to(frames[5].pixels[50, 27], RED)
    assert close_to(frames[5].pixels[50, 97], BLUE)
    assert close_to(frames[5].pixels[5, 5], (90, 90, 90))


def test_uneven_times_are_kept(tmp_path):
    times = [0.0, 0.04, 0.5, 0.51, 2.0]
    with open_video(tmp_path / "uneven.mp4", Fraction(30)) as video:
        for time_s in times:
            video.write(drawn_people(0), time_s)

    assert [frame.time_s for frame in frames_of(tmp_path / "uneven.mp4")] == pytest.approx(
        times, abs=1e-4
    )


def test_times_that_stand_still_are_moved_on(tmp_path):
    with open_video(tmp_path / "still.mp4", Fraction(30)) as video:
        for _ in range(3):
            video.write(drawn_people(0), 1.0)

    times = [frame.time_s for frame in frames_of(tmp_path / "still.mp4")]
    assert len(set(times)) == 3


@pytest.mark.parametrize("size_hw", [(95, 127), (96, 127), (1, 1), (2, 333)])
def test_odd_sides_get_their_last_row_or_column_twice(tmp_path, size_hw):
    pixels = np.full((*size_hw, 3), 90, np.uint8)

    (frame,) = frames_of(write_video(tmp_path / "odd.mp4", [pixels]))

    assert frame.pixels.shape == (size_hw[0] + size_hw[0] % 2, size_hw[1] + size_hw[1] % 2, 3)
    assert close_to(frame.pixels, (90, 90, 90))


def test_frames_of_another_size_are_scaled_to_the_first(tmp_path):
    path = write_video(tmp_path / "grows.mp4", [drawn_people(0), drawn_people(0, (192, 256))])

    assert [frame.pixels.shape for frame in frames_of(path)] == [(96, 128, 3)] * 2


def test_a_phones_rotation_is_undone(tmp_path):
    pixels = np.full((96, 128, 3), 40, np.uint8)
    pixels[:, :64] = 220  # the left half, which is up when turned clockwise
    path = write_video(tmp_path / "phone.mp4", [pixels])
    turned_a_quarter(path)

    (frame,) = frames_of(path)

    assert frame.pixels.shape == (128, 96, 3)
    assert close_to(frame.pixels[:50], (220, 220, 220))
    assert close_to(frame.pixels[-50:], (40, 40, 40))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match=r"no\.mp4: expected a video file, got 'No such file"):
        frames_of(tmp_path / "no.mp4")


def test_a_text_file_is_no_video(tmp_path):
    (tmp_path / "notes.mp4").write_text("hello" * 100)

    with pytest.raises(VideoError, match=r"notes\.mp4: expected a video, got 'Invalid data"):
        frames_of(tmp_path / "notes.mp4")


def test_a_sound_file_is_no_video(tmp_path):
    path = tmp_path / "beep.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))

    with pytest.raises(VideoError, match="got a file without pictures"):
        frames_of(path)


def test_a_video_that_ends_too_early_gives_its_frames_first(walk):
    walk.write_bytes(walk.read_bytes()[:-600])
    frames = []

    with open_source(str(walk)) as source, pytest.raises(VideoError, match="a whole video of 20"):
        frames.extend(source.frames)

    assert 0 < len(frames) < 20


def test_a_failed_video_without_frames_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), open_video(tmp_path / "out.mp4", Fraction(30)):
        raise RuntimeError

    assert list(tmp_path.iterdir()) == []


def test_a_video_that_is_broken_off_is_whole(tmp_path):
    path = tmp_path / "out.mp4"

    def break_off():
        for number in range(7):
            yield drawn_people(number)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_video(path, break_off())

    assert len(frames_of(path)) == 7
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()

    with (
        pytest.raises(FileError, match=r"out\.mp4: expected a place"),
        open_video(tmp_path / "file" / "out.mp4", Fraction(30)),
    ):
        pass


def test_without_pyav_the_message_says_what_to_install(walk, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)

    with pytest.raises(MissingPackage, match=r"pip install -e '\.\[video\]'"):
        frames_of(walk)


class FakeCamera:
    """What OpenCV gives for camera 0: three frames, then it is unplugged."""

    def __init__(self, index):
        self.left = [drawn_people(number)[:, :, ::-1] for number in range(3)]
        self.there = index == 0

    def isOpened(self):  # noqa: N802  OpenCV's
        return self.there

    def get(self, _):
        return 0.0

    def read(self):
        return (True, self.left.pop(0)) if self.left else (False, None)

    def release(self):
        self.there = False


def test_a_camera_gives_rgb_frames_without_a_total(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)

    with open_source("0") as source:
        frames = list(source.frames)

    assert (source.name, source.total, source.rate) == ("camera 0", None, 30)
    assert len(frames) == 3
    assert frames[0].pixels[50, 15].tolist() == list(RED)


def test_an_absent_camera_is_named_in_one_line(capfd):
    with (
        pytest.raises(VideoError, match="camera 97: expected a camera, got none"),
        open_source("97"),
    ):
        pass

    assert capfd.readouterr().err == ""  # OpenCV would say more


# In flight


def test_frames_are_read_only_as_fast_as_they_are_answered(fake_server, one_person):
    read = []

    def endless():
        while True:
            read.append(len(read))
            yield Frame(len(read) - 1, len(read) / RATE, drawn_people(0))

    with PoseClient(connect=fake_server(one_person)) as client:
        answers = find_in_frames(client, endless(), in_flight=3)
        for number in range(20):
            assert next(answers).frame.number == number
            assert len(read) <= number + 1 + 2 * 3
        answers.close()


# The command


def test_a_video_becomes_a_video_and_lines(run, walk, tmp_path):
    out, lines = tmp_path / "new" / "out.mp4", tmp_path / "new" / "out.jsonl"

    result = run(walk, "-o", out, "--jsonl", lines, "--track")

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("walk.mp4: 20 frames with 40 people, ")
    assert result.stdout.endswith(f" fps; {out}, {lines}\n")
    records = records_in(lines)
    assert [record["frame"] for record in records] == list(range(20))
    assert [record["time_s"] for record in records] == pytest.approx([n / 25 for n in range(20)])
    assert records[0]["image"] == {"id": "walk.mp4", "width": 128, "height": 96}
    assert records[0]["timing_ms"]["request"] >= 0
    assert [[person["id"] for person in record["poses"]] for record in records] == [[1, 2]] * 20
    people = poses_from_record(records[0], num_joints=18)
    assert abs(people.keypoints[0, 0, 0] - 100) < 3
    pictures = frames_of(out)
    assert len(pictures) == 20
    before = frames_of(walk)[3].pixels.astype(int)
    assert np.abs(pictures[3].pixels - before).max() > 100  # somebody was drawn


def test_without_track_people_have_no_ids(run, walk, tmp_path):
    run(walk, "--jsonl", tmp_path / "out.jsonl", "--smooth")

    assert all(
        "id" not in person
        for record in records_in(tmp_path / "out.jsonl")
        for person in record["poses"]
    )


def test_smooth_steadies_trembling_joints(run, two_people, tmp_path):
    still = write_video(tmp_path / "still.mp4", [drawn_people(0)] * 40)
    trembling = np.random.default_rng(2)

    def answer(pixels):
        poses = two_people(pixels)
        poses.keypoints[..., 0] += trembling.normal(0, 0.5)
        return poses

    for name, options in (("raw", ()), ("smooth", ("--smooth",))):
        result = run(still, "--jsonl", tmp_path / name, "--in-flight", 1, *options, answer=answer)
        assert result.exit_code == 0, result.output

    spread = {
        name: np.std([r["poses"][0]["keypoints"][4][0] for r in records_in(tmp_path / name)[10:]])
        for name in ("raw", "smooth")
    }
    assert spread["smooth"] < 0.6 * spread["raw"]


def test_people_below_min_score_are_left_out(run, walk, tmp_path):
    run(walk, "--jsonl", tmp_path / "out.jsonl", "--min-score", "0.5")

    assert {len(record["poses"]) for record in records_in(tmp_path / "out.jsonl")} == {1}


def test_lines_go_to_stdout_and_the_report_to_stderr(run, walk):
    result = run(walk, "--jsonl", "-")

    assert len([json.loads(line) for line in result.stdout.splitlines()]) == 20
    assert result.stderr.startswith("walk.mp4: 20 frames")


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_keeps_what_is_done(run, two_people, walk, tmp_path):
    asked = []

    def answer(pixels):
        asked.append(pixels)
        if len(asked) == 6:
            signal.raise_signal(signal.SIGINT)
        return two_people(pixels)

    out, lines = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    result = run(walk, "-o", out, "--jsonl", lines, "--in-flight", 1, answer=answer)

    assert result.exit_code == 130
    done = len(records_in(lines))
    assert 0 < done < 20
    assert len(frames_of(out)) == done
    assert result.stdout.startswith(f"walk.mp4: {done} frames")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("ctrl_c")
def test_a_camera_is_ended_by_ctrl_c_without_an_error(run, two_people, tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)

    asked = []

    def answer(pixels):
        asked.append(pixels)
        if len(asked) == 1:
            signal.raise_signal(signal.SIGINT)
        return two_people(pixels)

    result = run("0", "-o", tmp_path / "out.mp4", "--in-flight", 1, answer=answer)

    assert result.exit_code == 0
    assert frames_of(tmp_path / "out.mp4")


def test_a_lost_server_keeps_what_is_done(run, two_people, walk, tmp_path):
    asked = []

    def answer(pixels):
        asked.append(pixels)
        if len(asked) > 8:
            raise ServerUnavailable("grpc://here", "gone")
        return two_people(pixels)

    options = ("--in-flight", 1, "--timeout", 0.5)
    result = run(walk, "-o", tmp_path / "out.mp4", *options, answer=answer)

    assert isinstance(result.exception, ServerUnavailable)
    assert len(frames_of(tmp_path / "out.mp4")) == 8


def test_a_late_answer_does_not_end_the_video(run, two_people, walk, tmp_path):
    asked = []

    def answer(pixels):
        asked.append(pixels)
        if len(asked) in (3, 4, 9):
            raise ServerTimeout("grpc://here", 2)
        return two_people(pixels)

    result = run(
        *(walk, "-o", tmp_path / "out.mp4", "--jsonl", tmp_path / "lines", "--track"),
        *("--in-flight", 2, "--timeout", 2),
        answer=answer,
    )

    records = records_in(tmp_path / "lines")
    assert result.exit_code == 1
    assert "error: 3 frames had no answer within 2 s and are without people" in result.stderr
    assert len(frames_of(tmp_path / "out.mp4")) == len(records) == 20
    assert [record["frame"] for record in records] == list(range(20))
    assert sorted(len(record["poses"]) for record in records) == [0] * 3 + [2] * 17
    assert [record["poses"] for record in records if record.get("late")] == [[]] * 3
    assert {person["id"] for record in records for person in record["poses"]} == {1, 2}


def test_a_server_that_is_always_late_ends_it(run, two_people, walk, tmp_path):
    asked = []

    def answer(pixels):
        asked.append(pixels)
        if len(asked) > 8:
            raise ServerTimeout("grpc://here", 2)
        return two_people(pixels)

    result = run(walk, "-o", tmp_path / "out.mp4", "--in-flight", 1, answer=answer)

    assert isinstance(result.exception, ServerTimeout)
    assert len(frames_of(tmp_path / "out.mp4")) == 9  # the second late answer in a row ends it


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "expected --output, --jsonl or both"),
        (("-o", "out.avi"), "expected a name that ends in .mp4"),
        (("-o", "{walk}"), "expected a file of its own to write"),
        (("--jsonl", "{walk}"), "expected a file of its own to write"),
    ],
)
def test_outputs_that_cannot_be_are_usage_errors(run, walk, options, words):
    before = walk.read_bytes()

    result = run(walk, *(option.format(walk=walk) for option in options))

    assert result.exit_code == 2
    assert words.split(" that")[0] in " ".join(result.stderr.replace("│", " ").split())
    assert walk.read_bytes() == before


def test_the_entry_point_says_one_line_about_a_bad_source(tmp_path, monkeypatch, capsys, app):
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["pose-client", "video", "no.mp4", "-o", "out.mp4"])

    with pytest.raises(SystemExit, match="1"):
        cli.main()

    assert capsys.readouterr().err == (
        "error: no.mp4: expected a video file, got 'No such file or directory'\n"
    )


# Labels


def test_neighbouring_ids_have_different_colours():
    colours = [np.array(id_colour(number)) for number in range(1, 8)]

    assert min(np.abs(a - b).max() for a, b in itertools.pairwise(colours)) > 60
