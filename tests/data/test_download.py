"""Downloads continue and archives stay inside their folder; a failure leaves nothing half-written."""

import hashlib
import io
import re
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hico_release import empty, example, single, write_release

from hoiclip.data import prepare_hicodet
from hoiclip.data.download import download
from hoiclip.data.unpacking import DamagedArchive, unpack
from hoiclip.errors import HoiError
from hoiclip.files import held_temporary

DATA = bytes(range(256)) * 4000


class FileServer(BaseHTTPRequestHandler):
    """Serves ``server.data``; understands Range and If-Range; may cut a reply off after some bytes."""

    def do_GET(self):
        server = self.server
        data, start = server.data, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        server.log.append(int(asked[1]) if asked else 0)
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        if asked and server.ranges and self.headers.get("If-Range") == server.tag:
            start = int(asked[1])
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        if server.tag:
            self.send_header("ETag", server.tag)
        if server.length is not None:
            self.send_header("Content-Length", server.length.format(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : start + (server.cut or len(data))])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), FileServer) as server:
        server.data, server.tag, server.ranges, server.cut, server.log = DATA, '"v1"', True, None, []
        server.length = "{}"
        server.url = f"http://127.0.0.1:{server.server_port}/data/hico%20det.tar?x=1"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server, folder, **kwargs):
    return download(server.url, folder, progress=False, **kwargs)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_downloads_and_verifies(server, tmp_path):
    path = fetch(server, tmp_path / "new", sha256=hashlib.sha256(DATA).hexdigest())
    assert path.read_bytes() == DATA
    assert names(tmp_path / "new") == ["hico det.tar"]
    fetch(server, tmp_path / "new")
    assert server.log == [0]


def test_cut_off_download_continues_where_it_stopped(server, tmp_path):
    server.cut = 300_000
    for _ in range(2):
        with pytest.raises(HoiError, match="run the same command again"):
            fetch(server, tmp_path)
        assert not (tmp_path / "hico det.tar").exists()
    server.cut = None
    assert fetch(server, tmp_path, sha256=hashlib.sha256(DATA).hexdigest()).read_bytes() == DATA
    assert server.log == [0, 300_000, 600_000]
    assert names(tmp_path) == ["hico det.tar"]


def test_complete_part_file_is_taken_over(server, tmp_path):
    (tmp_path / "hico det.tar.part").write_bytes(DATA)
    (tmp_path / "hico det.tar.part.tag").write_text('"v1"')
    assert fetch(server, tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("change", ["new version", "no ranges", "too long", "no tag"])
def test_download_starts_over_where_it_cannot_continue(server, tmp_path, change):
    server.cut = 300_000
    server.tag = None if change == "no tag" else server.tag
    with pytest.raises(HoiError):
        fetch(server, tmp_path)
    server.cut = None
    if change == "new version":
        server.data, server.tag = DATA[::-1], '"v2"'
    elif change == "no ranges":
        server.ranges = False
    elif change == "too long":
        (tmp_path / "hico det.tar.part").write_bytes(DATA * 2)
    assert fetch(server, tmp_path).read_bytes() == server.data


def test_wrong_checksum_keeps_nothing(server, tmp_path):
    with pytest.raises(HoiError, match="SHA-256"):
        fetch(server, tmp_path, sha256="0" * 64)
    assert not (tmp_path / "hico det.tar").exists()
    assert not (tmp_path / "hico det.tar.part").exists()


def test_wrong_addresses_are_told(server, tmp_path):
    with pytest.raises(HoiError, match="404"):
        download(server.url.replace("/data/", "/missing/"), tmp_path, progress=False)
    for url in ("file:///etc/passwd", "ftp://a/b", "http://host/", "just words"):
        with pytest.raises(HoiError, match="no address of a file"):
            download(url, tmp_path, progress=False)
    with pytest.raises(HoiError, match="cut off"):
        download("http://127.0.0.1:9/x.tar", tmp_path, progress=False)


@pytest.mark.parametrize(
    "page", [b"\n<!DOCTYPE html><title>Log in</title>", b"\xef\xbb\xbf<html>", b"<!-- x --><html>"]
)
def test_a_web_page_in_place_of_the_file_is_not_kept(server, tmp_path, page):
    server.data = page
    with pytest.raises(HoiError, match=r"sends a web page, not hico det\.tar; open the address in a browser"):
        fetch(server, tmp_path)
    assert not (tmp_path / "hico det.tar").exists()
    server.data = DATA
    assert fetch(server, tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("length", ["lots", "", "-5", "9" * 5000, "½"])
def test_odd_headers_do_not_matter(server, tmp_path, length):
    server.length = length
    assert fetch(server, tmp_path).read_bytes() == DATA


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1/a.tar",
        "http://host:99999999/a.tar",
        "http://host:port/a.tar",
        "http://host/..",
        "http://host/a%00.tar",
        "http://host/C:%5Ca.tar",
        f"http://host/{'a' * 300}.tar",
        "http:///a.tar",
    ],
)
def test_odd_addresses_are_one_sentence(tmp_path, url):
    with pytest.raises(HoiError, match="no address of a file"):
        download(url, tmp_path, progress=False)
    assert names(tmp_path) == []


def test_an_address_with_spaces_and_umlauts_is_spelled_out(server, tmp_path):
    url = server.url.partition("/data")[0] + "/größe 1.tar"
    assert download(url, tmp_path, progress=False).name == "größe 1.tar"


# --- archives --------------------------------------------------------------------------------------

SYMLINK, FOLDER = "2", "5"  # member types of tar


def tar_of(path, *members, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content.encode(), "/etc/passwd"
                archive.addfile(info)
    return path


def zip_of(path, *members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            if not isinstance(content, bytes):
                info.external_attr, content = (stat.S_IFLNK | 0o777) << 16, b"/etc/passwd"
            archive.writestr(info, content)
    return path


@pytest.mark.parametrize("kind", ["a.tar", "a.tar.gz", "a.tar.xz", "a.zip"])
def test_archive_is_unpacked(tmp_path, kind):
    members = ("hico/a.txt", b"1"), ("./hico/b/c.txt", b"22"), ("readme", b"")
    if kind == "a.zip":
        archive = zip_of(tmp_path / kind, ("hico/", b""), *members)
    else:
        archive = tar_of(tmp_path / kind, ("hico", FOLDER), *members, mode=f"w:{kind[6:]}")
    unpack(archive, tmp_path / "root", progress=False)
    assert names(tmp_path / "root") == ["hico", "readme"]
    assert (tmp_path / "root" / "hico" / "b" / "c.txt").read_bytes() == b"22"


@pytest.mark.parametrize("make", [tar_of, zip_of])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("../evil", b"x"),
        ("hico/../../evil", b"x"),
        ("/evil", b"x"),
        ("hico\\..\\..\\evil", b"x"),
        ("C:/evil", b"x"),
        ("hico/link", SYMLINK),
    ],
)
def test_members_that_would_leave_the_folder_are_refused_as_a_whole(tmp_path, make, name, content):
    archive = make(tmp_path / "a.archive", ("hico/good", b"1"), (name, content))
    with pytest.raises(HoiError, match="do not trust this archive"):
        unpack(archive, tmp_path / "deep" / "root", progress=False)
    assert names(tmp_path) == ["a.archive", "deep"]
    assert names(tmp_path / "deep") == []


@pytest.mark.parametrize("kind", ["1", "3", "6"], ids=["hard link", "device", "fifo"])
def test_hard_links_and_devices_are_refused(tmp_path, kind):
    (tmp_path / "root").mkdir()
    with pytest.raises(HoiError, match="link or device"):
        unpack(tar_of(tmp_path / "a.tar.gz", ("good", b"1"), ("x", kind)), tmp_path / "root", progress=False)
    assert names(tmp_path / "root") == []


@pytest.mark.parametrize("kind", ["a.tar.gz", "a.zip"])
def test_cut_off_archive_leaves_nothing(tmp_path, kind):
    import random

    members = [(f"hico/{i}", random.Random(i).randbytes(5000)) for i in range(20)]
    archive = (zip_of if kind == "a.zip" else tar_of)(tmp_path / kind, *members)
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(HoiError, match="damaged"):
        unpack(archive, tmp_path / "root", progress=False)
    assert names(tmp_path) == [kind]


def test_existing_files_are_not_overwritten(tmp_path):
    (tmp_path / "root" / "hico").mkdir(parents=True)
    (tmp_path / "root" / "hico" / "mine").write_text("keep")
    with pytest.raises(HoiError, match="exists already"):
        unpack(tar_of(tmp_path / "a.tar.gz", ("new", b"1"), ("hico/mine", b"2")), tmp_path / "root", progress=False)
    assert names(tmp_path / "root") == ["hico"]
    assert (tmp_path / "root" / "hico" / "mine").read_text() == "keep"


def test_missing_and_wrong_archives_are_told(tmp_path):
    with pytest.raises(HoiError, match="no such archive"):
        unpack(tmp_path / "nowhere.tar", tmp_path / "root", progress=False)
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(HoiError, match="neither a tar nor a zip"):
        unpack(tmp_path / "a.txt", tmp_path / "root", progress=False)
    with pytest.raises(HoiError, match="SHA-256"):
        unpack(tmp_path / "a.txt", tmp_path / "root", sha256="ab", progress=False)
    assert names(tmp_path) == ["a.txt"]


def patched_zip(path, offset, value, method=zipfile.ZIP_DEFLATED):
    """A zip whose member has other bytes at an offset of its local and central header."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.txt", b"hello " * 100)
    data = bytearray(path.read_bytes())
    for start, shift in ((data.index(b"PK\x03\x04"), 0), (data.index(b"PK\x01\x02"), 2)):
        data[start + offset + shift : start + offset + shift + len(value)] = value
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (6, b"\x01\x00", r"is encrypted \('a\.txt'\); unpack it with its password"),
        (8, b"\x09\x00", r"packed by method deflate64 \(9\)"),
        (8, b"\x63\x00", r"packed by method AES \(99\)"),
        (8, b"\x2a\x00", r"packed by method 42"),
        (8, b"\x0e\x00", "damaged"),  # says LZMA, is not
        (8, b"\x0c\x00", "damaged"),
        (14, b"\xff\xff\xff\xff", "damaged"),  # checksum
        (30, b"\xff", "damaged"),  # the local name differs from the central one
        (22, b"\xff\xff\xff\x7f", "damaged"),  # size
    ],
)
def test_zips_that_python_cannot_read_are_one_sentence_each(tmp_path, offset, value, words):
    archive = patched_zip(tmp_path / "a.zip", offset, value)
    with pytest.raises(HoiError, match=words) as error:
        unpack(archive, tmp_path / "root", progress=False)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == ["a.zip"]


def test_zips_of_windows_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in (("hico\\", b""), ("hico\\b\\c.txt", b"22")):
            info = zipfile.ZipInfo("x")
            info.filename, info.create_system = name, 0
            archive.writestr(info, content)
    unpack(tmp_path / "a.zip", tmp_path / "root", progress=False)
    assert (tmp_path / "root" / "hico" / "b" / "c.txt").read_bytes() == b"22"


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize("what", ["one large", "many empty"])
def test_what_unpacks_to_far_more_than_its_size_is_refused(tmp_path, kind, what, monkeypatch):
    monkeypatch.setattr("hoiclip.data.unpacking.ALWAYS_ALLOWED", 1 << 20)
    members = [("a", bytes(100 << 20))] if what == "one large" else [(f"d/{i}", b"") for i in range(2500)]
    if kind == "a.zip":
        with zipfile.ZipFile(tmp_path / kind, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                archive.writestr(name, content)
        if what == "many empty":
            unpack(tmp_path / kind, tmp_path / "root", progress=False)  # a zip has a header for each
            return
    else:
        tar_of(tmp_path / kind, *members)
    if what == "many empty":
        monkeypatch.setattr("hoiclip.data.unpacking.MOST_EXPANSION", 1)
    with pytest.raises(HoiError, match="times its size; do not trust this archive"):
        unpack(tmp_path / kind, tmp_path / "root", progress=False)
    assert names(tmp_path) == [kind]


def test_a_member_that_would_be_taken_for_a_leftover_is_refused(tmp_path):
    archive = tar_of(tmp_path / "a.tar", ("photo", b"1"), (".unpacking-x/photo", b"1"))
    with pytest.raises(HoiError, match=r"'\.unpacking-x/photo' has a name that hoiclip keeps for itself"):
        unpack(archive, tmp_path / "root", progress=False)
    assert not (tmp_path / "root").exists()


def test_a_zip_that_points_before_its_beginning_is_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("photo", b"1")
    data = (tmp_path / "a.zip").read_bytes()
    size = data.rfind(b"PK\x05\x06") + 12  # of the list of members, which then begins before the file does
    (tmp_path / "a.zip").write_bytes(data[:size] + (99_999).to_bytes(4, "little") + data[size + 4 :])
    with pytest.raises(DamagedArchive, match="damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "root", progress=False)


def test_no_bar_is_drawn_where_no_terminal_is(tmp_path, capsys):
    unpack(tar_of(tmp_path / "a.tar", ("photo", b"1")), tmp_path / "root")
    assert capsys.readouterr().err == ""


def test_what_a_killed_run_left_is_removed_and_what_goes_on_stays(tmp_path):
    for name in (".unpacking-dead", "mine"):
        (tmp_path / "root" / name / "deep").mkdir(parents=True)
    with held_temporary(tmp_path / "root", ".unpacking-", folder=True) as alive:
        unpack(tar_of(tmp_path / "a.tar.gz", ("new", b"1")), tmp_path / "root", progress=False)
        assert names(tmp_path / "root") == [alive.name, "mine", "new"]


# --- prepare hicodet -------------------------------------------------------------------------------


@pytest.fixture
def release(tmp_path):
    """A small hico_20160224_det.tar.gz."""
    train, test = [example("HICO_train2015_00000001.jpg")], [example(), single(), empty()]
    write_release(tmp_path / "made" / "hico_20160224_det", train, test)
    with tarfile.open(tmp_path / "hico_20160224_det.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made" / "hico_20160224_det", "hico_20160224_det")
    return tmp_path / "hico_20160224_det.tar.gz"


def test_prepare_unpacks_an_archive_and_ends_with_the_check(release, tmp_path):
    report = prepare_hicodet(tmp_path / "root", archive=release)
    assert {s.split: s.counts["images"] for s in report.splits} == {"train": 1, "test": 3}
    assert report.defects == 0
    assert all(s.image_files for s in report.splits)
    release.unlink()
    assert prepare_hicodet(tmp_path / "root", archive=release).to_dict() == report.to_dict()


def test_prepare_downloads_continues_and_unpacks(release, server, tmp_path):
    server.data, server.cut = release.read_bytes(), 5000
    server.url = server.url.replace("hico%20det.tar", release.name)
    options = {"url": server.url, "sha256": hashlib.sha256(server.data).hexdigest()}
    with pytest.raises(HoiError, match="again to continue"):
        prepare_hicodet(tmp_path / "root", **options)
    server.cut = None
    assert prepare_hicodet(tmp_path / "root", **options).defects == 0
    assert server.log[1] == 5000


def test_a_damaged_download_is_removed_so_that_the_next_try_is_a_new_one(release, server, tmp_path):
    good = release.read_bytes()
    server.data, server.length = good[: len(good) // 2], None  # a cut body, and nobody says how long it should be
    server.url = server.url.replace("hico%20det.tar", release.name)
    with pytest.raises(HoiError, match=r"damaged or cut-off.*it was removed, so the same command begins anew"):
        prepare_hicodet(tmp_path / "root", url=server.url)
    server.data = good
    assert prepare_hicodet(tmp_path / "root", url=server.url).defects == 0


def test_prepare_without_anything_says_what_it_needs(tmp_path):
    with pytest.raises(HoiError, match="--archive FILE or --url URL"):
        prepare_hicodet(tmp_path / "root")
    assert names(tmp_path) == []
    with pytest.raises(HoiError, match="holds no HICO-DET annotations"):
        prepare_hicodet(tmp_path / "root", archive=tar_of(tmp_path / "other.tar.gz", ("cats.txt", b"meow")))


def test_a_host_that_can_be_no_name_is_told(tmp_path):
    with pytest.raises(HoiError, match=r"cannot be reached|cannot be downloaded"):
        download(f"http://{'a' * 70}.invalid./x.tar", tmp_path, progress=False)
