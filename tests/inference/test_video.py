"""Videos in and out: times, turned telephones, odd sizes, sound, and what is broken."""

from __future__ import annotations

import builtins
import gc
import socket
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_vocabulary
from video_files import encode_video, picture

from hoiclip.benchmark.measurement import resident_mib
from hoiclip.detections import Detections
from hoiclip.errors import HoiError
from hoiclip.inference.annotated_video import detect_video
from hoiclip.inference.image_detector import ImageDetector
from hoiclip.inference.prefetch import Behind, PreparedImage, read_ahead
from hoiclip.inference.video import VideoReader, VideoWriter, is_video
from hoiclip.inference.video_record import VideoRecord

WHITE = (255, 255, 255)


def frames_of(path: Path, **options: Any) -> tuple[list[int], list[float], list[Image.Image], HoiError | None]:
    with VideoReader(path, **options) as reader:
        frames = list(reader)
        return [f.number for f in frames], [f.time for f in frames], [f.image for f in frames], reader.problem


def near(pixel: tuple[int, ...], colour: tuple[int, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) < 30


class StubDetector(ImageDetector):
    """Finds one pair wherever it looks, and notes how often it was asked."""

    device, batch_size = torch.device("cpu"), 1

    def __init__(self) -> None:
        self.asked = 0

    @property
    def vocabulary(self) -> Any:
        return tiny_vocabulary()

    def set_vocabulary(self, vocabulary: Any, tokenizer: Any = None) -> ImageDetector:
        raise NotImplementedError

    def set_size(self, shorter: int) -> ImageDetector:
        raise NotImplementedError

    def _prepare(self, image: Image.Image) -> PreparedImage:
        return PreparedImage((torch.from_numpy(np.asarray(image).copy()),), (image.height, image.width))

    def _read(self, path: Any, *, keep_image: bool, draft: bool) -> Any:
        raise NotImplementedError

    def _detect_batch(self, batch: Sequence[PreparedImage], **options: Any) -> list[Detections]:
        self.asked += len(batch)
        return [self._found(prepared) for prepared in batch]

    def _found(self, prepared: PreparedImage) -> Detections:
        height, width = prepared.size
        level = float(prepared.views[0][-4:, -4:].float().mean()) / 255  # what differs from frame to frame
        human = np.array([[2, 2, width / 2, height - 2]], dtype=np.float32)
        thing = np.array([[width / 2, height / 2, width - 2, height - 2]], dtype=np.float32)
        score = np.array([0.6 + 0.3 * level], dtype=np.float32)
        none = np.zeros(1, dtype=np.int64)
        return Detections(human, thing, none, none, none, score + 0.5, self.vocabulary, prepared.size, score)


# --- reading -----------------------------------------------------------------------------------------


def test_frames_come_in_order_with_their_times(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "a.mp4", 20)
    numbers, times, images, problem = frames_of(path)
    assert numbers == list(range(20))
    assert times == pytest.approx([i / 25 for i in range(20)])
    assert [round(image.getpixel((56, 40))[0] / 8) for image in images] == list(range(20))
    assert problem is None
    with VideoReader(path) as reader:
        assert (reader.rate, reader.expected, reader.has_sound) == (25, 20, False)


def test_every_start_and_end_choose_frames_by_number_and_second(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "a.mp4", 50)
    assert frames_of(path, every=7)[0] == [0, 7, 14, 21, 28, 35, 42, 49]
    numbers, times, images, _ = frames_of(path, start=0.4, end=1.2, every=5)
    assert numbers == [10, 15, 20, 25]
    assert times == pytest.approx([0.4, 0.6, 0.8, 1.0])
    assert all(image.size == (64, 48) for image in images)


@pytest.mark.parametrize(("turned", "corner"), [(90, (4, 60)), (-90, (44, 4)), (180, (60, 44)), (0, (4, 4))])
def test_telephones_held_upright_give_upright_frames(tmp_path: Path, turned: int, corner: tuple[int, int]) -> None:
    _, _, images, _ = frames_of(encode_video(tmp_path / "a.mp4", 3, turned=turned))
    assert images[0].size == ((48, 64) if turned in (90, -90) else (64, 48))
    assert near(images[0].getpixel(corner), (255, 0, 0))


def test_uneven_times_come_and_go_as_they_are(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.2, 0.21, 0.9, 1.5]
    path = encode_video(tmp_path / "a.mkv", 6, times=times)
    assert frames_of(path)[1] == pytest.approx(times, abs=0.002)
    with VideoReader(path) as reader, VideoWriter(tmp_path / "b.mp4", reader.rate) as writer:
        for frame in reader:
            writer.add(frame.image, frame.time)
    assert frames_of(tmp_path / "b.mp4")[1] == pytest.approx(times, abs=0.002)


@pytest.mark.parametrize("end", [".mp4", ".mkv"])
def test_a_video_that_was_cut_off_gives_what_there_is_and_tells(tmp_path: Path, end: str) -> None:
    path = encode_video(
        tmp_path / f"a{end}", 200, size=(160, 120), options={"movflags": "faststart"} if end == ".mp4" else {}
    )
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    numbers, _, _, problem = frames_of(path)
    assert 20 < len(numbers) < 180
    assert numbers == list(range(len(numbers)))
    assert str(problem).startswith(f"{path}: is ")
    assert "what was read before stays" in str(problem)


def test_what_is_no_video_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(HoiError, match=r"text.mp4: cannot be opened as a video \(.*\); copy it again"):
        VideoReader(tmp_path / "text.mp4")
    with pytest.raises(HoiError, match=r"none.mp4: no such file"):
        VideoReader(tmp_path / "none.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        tone = out.add_stream("aac", rate=16_000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        samples.sample_rate = 16_000
        out.mux(tone.encode(samples))
        out.mux(tone.encode())
    with pytest.raises(HoiError, match=r"sound.mp4: holds no video"):
        VideoReader(tmp_path / "sound.mp4")
    with pytest.raises(HoiError, match=r"camera 97: "):
        VideoReader(97)


def test_without_pyav_the_pip_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__
    import importlib

    def without(name: str, *arguments: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return importlib_import(name, *arguments)

    importlib_import = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(HoiError, match=r"this needs av: pip install 'hoiclip\[video\]'"):
        VideoReader(tmp_path / "a.mp4")
    assert builtins.__import__ is plain


def test_videos_are_known_by_name_or_by_how_they_begin(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "a.mp4", 2)
    path.rename(tmp_path / "nameless")
    (tmp_path / "program.ts").write_text("let a = 1")
    (tmp_path / "words").write_text("words")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    names = {name: is_video(tmp_path / name) for name in ("nameless", "program.ts", "words", "a.png", "none")}
    assert names == {"nameless": True, "program.ts": False, "words": False, "a.png": False, "none": False}
    assert is_video("gone.MOV")
    assert is_video("rtsp://camera/1")
    assert is_video("https://x.org/a.mp4?b=1")
    assert not is_video("https://x.org/a.jpg")


def test_a_stream_that_breaks_is_tried_again_and_numbers_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = encode_video(tmp_path / "a.ts", 30).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):  # then nobody answers any more
                with server.accept()[0] as connection:
                    connection.sendall(sent)
            server.close()

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with VideoReader(address, pauses=(0.01, 0.01)) as reader:
            frames = list(reader)
        thread.join()
    assert [f.number for f in frames] == list(range(60))
    assert [f.time for f in frames] == pytest.approx([i / 25 for i in range(60)], abs=0.01)
    assert f"{address}: broke off and did not come back" in str(reader.problem)
    assert "trying again in 0.01 s" in capsys.readouterr().err


# --- writing -----------------------------------------------------------------------------------------


def test_odd_sizes_become_even_and_any_player_can_show_them(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", Fraction(30000, 1001)) as writer:
        for i in range(5):
            writer.add(picture(i, (65, 47)), i * 1001 / 30000)
    with av.open(str(tmp_path / "a.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height, stream.codec_context.name) == (66, 48, "h264")
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == pytest.approx(Fraction(30000, 1001))


def test_sound_is_copied_bit_for_bit_and_cut_with_the_pictures(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "a.mp4", 100, sound="aac")

    def sound(of: Path) -> list[tuple[float, bytes]]:
        with av.open(str(of)) as file:
            packets = [p for p in file.demux(file.streams.audio[0]) if p.size]
            return [(float(p.pts * p.time_base), bytes(p)) for p in packets]

    for start, end in ((0.0, None), (1.0, 2.0)):
        drawn = tmp_path / f"{start}.mp4"
        with VideoReader(path, start=start, end=end) as reader:
            assert reader.has_sound
            with VideoWriter(drawn, reader.rate, sound_of=path, start=start) as writer:
                for frame in reader:
                    writer.add(frame.image, frame.time)
            assert writer.no_sound is None
        inside = [(at - start, data) for at, data in sound(path) if start <= at < (end or 4)]
        copied = sound(drawn)
        assert [data for _, data in copied] == [data for _, data in inside]
        assert [at for at, _ in copied] == pytest.approx([at for at, _ in inside], abs=0.002)


def test_sound_that_mp4_cannot_hold_is_told_and_left_out(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "a.avi", 5, sound="pcm_mulaw")
    with VideoWriter(tmp_path / "b.mp4", Fraction(25), sound_of=path) as writer:
        writer.add(picture(0, (64, 48)), 0.0)
    assert "its sound cannot be copied into MP4" in str(writer.no_sound)
    assert len(frames_of(tmp_path / "b.mp4")[0]) == 1


# --- from end to end -----------------------------------------------------------------------------------


def run(path: Path, out: Path, record: VideoRecord | None = None, detector: StubDetector | None = None) -> list[Any]:
    lines: list[Any] = []
    with VideoReader(path) as reader:
        detect_video(
            detector or StubDetector(),
            reader,
            drawing=out,
            record=record,
            on_frame=lambda frame, steady: lines.append((frame.number, frame.time, steady.detections.to_dict())),
        )
    return lines


def test_a_resumed_video_is_the_same_and_asks_the_model_only_for_the_rest(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "a.mp4", 40)
    whole = run(path, tmp_path / "whole.mp4")
    assert len(whole) == 40
    assert all(len(line[2]["triplets"]) == 1 for line in whole)

    class Interrupted(StubDetector):
        def _found(self, prepared: PreparedImage) -> Detections:
            if self.asked > 17:
                raise KeyboardInterrupt
            return super()._found(prepared)

    record = VideoRecord(tmp_path / "record", {"a": 1}, resume=False)
    with pytest.raises(KeyboardInterrupt):
        run(path, tmp_path / "part.mp4", record, Interrupted())
    assert not (tmp_path / "part.mp4").exists()
    assert [p.name for p in tmp_path.iterdir() if "unfinished" in p.name] == []
    with (tmp_path / "record").open("a") as file:
        file.write('{"size": [4')  # and the power failed
    with pytest.raises(HoiError, match=r"belongs to another a \(1, now 2\)"):
        VideoRecord(tmp_path / "record", {"a": 2}, resume=True)
    record = VideoRecord(tmp_path / "record", {"a": 1}, resume=True)
    assert record.frames == 17
    rest = StubDetector()
    assert run(path, tmp_path / "part.mp4", record, rest) == whole
    assert rest.asked == 40 - 17
    _, times, images, _ = frames_of(tmp_path / "part.mp4")
    _, whole_times, whole_images, _ = frames_of(tmp_path / "whole.mp4")
    assert times == whole_times
    for a, b in zip(images, whole_images, strict=True):  # x264 does not always give the same bytes
        assert np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean() < 1
    assert VideoRecord(tmp_path / "record", {"a": 1}, resume=True).finished


def test_what_goes_wrong_in_a_thread_is_raised_and_threads_end() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise HoiError("broken")

    items = read_ahead(broken())
    assert next(items) == 1
    with pytest.raises(HoiError, match="broken"):
        next(items)
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    many = read_ahead(endless(), 3)
    assert next(many) == 1
    many.close()  # type: ignore[attr-defined]
    assert taken <= 6

    def fail() -> None:
        raise HoiError("full")

    with pytest.raises(HoiError, match="full"), Behind() as behind:
        behind.do(fail)
    assert not [t for t in threading.enumerate() if t.name.startswith(("hoiclip-ahead", "hoiclip-behind"))]


@pytest.mark.slow
def test_ten_thousand_frames_need_no_more_memory_than_a_thousand(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "a.mp4", 10_000, sound="aac")
    held: list[float] = []

    def note(frame: Any, steady: Any) -> None:
        if frame.number % 1000 == 999:
            gc.collect()
            held.append(resident_mib())

    record = VideoRecord(tmp_path / "record", {}, resume=False)
    with VideoReader(path) as reader:
        assert detect_video(StubDetector(), reader, drawing=tmp_path / "b.mp4", on_frame=note, record=record) == 10_000
    assert max(held[1:]) - held[0] < 30, held
