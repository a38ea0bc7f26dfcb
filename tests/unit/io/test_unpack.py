"""A stranger's zip: pictures come out below one folder, everything else is refused."""

import io
import stat
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from vkd.io import unpack as limits
from vkd.io.unpack import unpack


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 16), "teal").save(file, "JPEG")
    return file.getvalue()


def pack(path: Path, entries: dict[str, bytes], **options: int) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_pictures_come_out_and_the_rest_stays_in(tmp_path: Path) -> None:
    entries = {
        "mine/anna/0/1.jpg": jpeg(), "mine/anna/0/2.JPG": jpeg(), "mine/bert/1/3.jpg": jpeg(),
        "mine/run.py": b"import os", "mine/.hidden/4.jpg": jpeg(), "__MACOSX/mine/._1.jpg": b"x",
    }  # fmt: skip
    root = unpack(pack(tmp_path / "a.zip", entries), _new(tmp_path))
    assert root.name == "mine"
    assert below(root) == ["anna/0/1.jpg", "anna/0/2.JPG", "bert/1/3.jpg"]


@pytest.mark.parametrize(
    "name",
    ["../out.jpg", "a/../../out.jpg", "/etc/out.jpg", "a\\..\\out.jpg", "C:/out.jpg", "x" * 300 + ".jpg"],
)
def test_names_that_lead_outside_condemn_the_archive(tmp_path: Path, name: str) -> None:
    archive = pack(tmp_path / "a.zip", {"good.jpg": jpeg(), name: jpeg()})
    with pytest.raises(ValueError, match="leads out of its folder"):
        unpack(archive, _new(tmp_path))
    assert below(tmp_path) == ["a.zip"]


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("passwords.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match=r"passwords\.jpg is a link"):
        unpack(tmp_path / "a.zip", _new(tmp_path))


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_FILES", 2)
    with pytest.raises(ValueError, match="at most 2"):
        unpack(pack(tmp_path / "a.zip", {f"{n}.jpg": jpeg() for n in range(3)}), _new(tmp_path))


def test_too_much_data_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="unpacks to more than"):
        unpack(pack(tmp_path / "a.zip", {f"{n}.jpg": bytes(600) for n in range(2)}), _new(tmp_path))
    assert below(tmp_path) == ["a.zip"]


def test_what_is_packed_far_too_well_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "a.zip", {"zeros.bmp": bytes(11 << 20)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="more than 100 times"):
        unpack(archive, _new(tmp_path))


def test_a_zip_that_lies_about_its_sizes_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "a.zip", {"zeros.bmp": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED)
    content = archive.read_bytes()
    true, lie = (1 << 20).to_bytes(4, "little"), (900).to_bytes(4, "little")
    archive.write_bytes(content.replace(true, lie))
    with pytest.raises(ValueError, match=r"cannot? ?be read|can be read|far more"):
        unpack(archive, _new(tmp_path))
    assert sum(path.stat().st_size for path in (tmp_path / "new").rglob("*") if path.is_file()) <= 900


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"", "is not a zip"), (b"PK\x03\x04rubbish", "is not a zip")]
)
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        unpack(tmp_path / "a.zip", _new(tmp_path))


def test_a_zip_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no pictures"):
        unpack(pack(tmp_path / "a.zip", {"notes.txt": b"hello"}), _new(tmp_path))


def _new(tmp_path: Path) -> Path:
    folder = tmp_path / "new"
    folder.mkdir()
    return folder
