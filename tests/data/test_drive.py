"""Google Drive: a shared page leads to the file, what is begun goes on, and each refusal is one sentence."""

import random
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from drive_server import ACCESS, CONFIRM, ODD, QUOTA, Drive, serving

from hoiclip.data.download import OVERLAP, download
from hoiclip.data.drive import drive_id
from hoiclip.errors import HoiError

ID = "1Y6ay5jxZQHR_-cASAT98"
PAGE = f"https://drive.google.com/file/d/{ID}"
DATA = random.Random(0).randbytes(1_000_000)
CUT = 300_000


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Drive]:
    with serving() as drive:
        monkeypatch.setenv("HOICLIP_DRIVE_ORIGIN", drive.origin)
        drive.files[ID] = DATA
        yield drive


def fetch(folder: Path) -> bytes:
    return download(PAGE, folder, name="best.pth", progress=False).read_bytes()


def begin(drive: Drive, folder: Path) -> None:
    """The first 300,000 bytes arrive."""
    drive.cut = CUT
    with pytest.raises(HoiError, match=r"cut off \(.*300000 of 1000000 bytes.*\); run the same command again"):
        fetch(folder)
    drive.cut = None
    assert (folder / "best.pth.part").stat().st_size == CUT
    drive.log.clear()


@pytest.mark.parametrize(
    ("url", "found"),
    [
        (PAGE, ID),
        (f"{PAGE}/view?usp=sharing", ID),
        (f"https://drive.google.com/uc?export=download&id={ID}", ID),
        (f"https://drive.google.com/open?id={ID}", ID),
        (f"https://drive.google.com/drive/folders/{ID}", None),
        (f"https://example.org/file/d/{ID}", None),
    ],
)
def test_addresses_of_shared_files_are_known(url: str, found: str | None) -> None:
    assert drive_id(url) == found


@pytest.mark.parametrize("confirms", [True, False], ids=["large", "small"])
def test_a_file_comes_with_and_without_the_page_that_asks_for_confirmation(
    drive: Drive, tmp_path: Path, confirms: bool
) -> None:
    drive.confirms = confirms
    assert fetch(tmp_path) == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["best.pth"]
    assert drive.log == [None]


@pytest.mark.parametrize("confirms", [True, False], ids=["large", "small"])
def test_without_a_version_a_download_goes_on_after_comparing_what_overlaps(
    drive: Drive, tmp_path: Path, confirms: bool
) -> None:
    drive.confirms = confirms
    begin(drive, tmp_path)
    assert fetch(tmp_path) == DATA
    assert drive.log[-1] == f"bytes={CUT - OVERLAP}-"


def test_with_a_version_a_download_goes_on_where_it_stopped(drive: Drive, tmp_path: Path) -> None:
    drive.tag = '"v1"'
    begin(drive, tmp_path)
    assert fetch(tmp_path) == DATA
    assert drive.log[-1] == f"bytes={CUT}-"


def test_another_version_is_never_glued_to_what_is_here(drive: Drive, tmp_path: Path) -> None:
    for change, tag in (("same length", None), ("longer", None), ("a version that is told", '"v1"')):
        folder = tmp_path / change
        drive.files[ID], drive.tag = DATA, tag
        begin(drive, folder)
        drive.files[ID] = DATA[:CUT] + DATA + b"x" if change == "longer" else DATA[::-1]
        drive.tag = tag and '"v2"'  # this server sends a part though If-Range does not fit
        assert fetch(folder) == drive.files[ID]
        assert drive.log[-1] is None  # all of it, anew


def test_a_server_without_ranges_sends_all_of_it_again(drive: Drive, tmp_path: Path) -> None:
    begin(drive, tmp_path)
    drive.ranges = False
    assert fetch(tmp_path) == DATA


def test_a_download_killed_when_all_was_there_is_finished(drive: Drive, tmp_path: Path) -> None:
    (tmp_path / "best.pth.part").write_bytes(DATA)
    (tmp_path / "best.pth.part.tag").write_text(f"\n{len(DATA)}")
    assert fetch(tmp_path) == DATA
    assert drive.log[-1] == f"bytes={len(DATA) - OVERLAP}-"


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ((200, QUOTA), "gives this file to nobody for now, since too many have downloaded it; try again in a day, or"),
        ((403, QUOTA), "gives this file to nobody for now"),
        ((429, "slow down"), "gives this file to nobody for now"),
        ((200, ACCESS), "only to accounts with access to it; open the address in a browser, ask for access"),
        ((401, "no"), "only to accounts with access to it"),
        ((404, ODD), "has no such file any more"),
        ((200, ODD), r"sends a web page \('Virus & more'\), not the file; open the address in a browser"),
        ((200, CONFIRM.format(action="/download", id="x")), "sends a web page .*Virus scan warning.*, not the file"),
        ((500, "oops"), "the server answers 500"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_each_page_in_place_of_the_file_is_one_sentence_and_loses_nothing(
    drive: Drive, tmp_path: Path, page: tuple[int, str], words: str, begun: bool
) -> None:
    if begun:
        begin(drive, tmp_path)
    drive.page = page
    with pytest.raises(HoiError, match=words) as error:
        fetch(tmp_path)
    assert str(error.value).startswith(PAGE)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "best.pth").exists()
    drive.page = None
    assert fetch(tmp_path) == DATA
    assert drive.log[-1] == (f"bytes={CUT - OVERLAP}-" if begun else None)


def test_without_a_network_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOICLIP_DRIVE_ORIGIN", "http://127.0.0.1:9")
    with pytest.raises(HoiError, match=rf"{PAGE}: the download was cut off \(127\.0\.0\.1 cannot be reached"):
        fetch(tmp_path)
    monkeypatch.setattr("hoiclip.data.download.PATIENCE", 0.1)
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: Event().wait())
    with pytest.raises(HoiError, match="cannot be reached: no answer"):
        fetch(tmp_path)
