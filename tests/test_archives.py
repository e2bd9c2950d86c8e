"""Archives: their images and nothing else, whole or not at all, never outside their folder."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from bench import archives
from bench.errors import UserError

PATTERNS = ["set_*/*.png"]


def make_zip(path: Path, members: dict[str, bytes], link: str | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            if name == link:
                info.external_attr = 0o120777 << 16
            archive.writestr(info, content)
    return path


def make_tar(path: Path, members: dict[str, bytes], link: str | None = None) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if name == link:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/hostname", 0
            archive.addfile(info, io.BytesIO(content))
    return path


MAKERS = pytest.mark.parametrize(("make", "name"), [(make_zip, "a.zip"), (make_tar, "a.tar")])


@MAKERS
def test_matching_members_are_unpacked(tmp_path: Path, make, name: str) -> None:
    archive = make(tmp_path / name, {"set_hr/1.png": b"one", "set_hr/2.png": b"two", "readme.txt": b"no"})
    images = archives.unpack(archive, PATTERNS, "hash")
    assert [image.read_bytes() for image in images] == [b"one", b"two"]
    assert all(image.is_relative_to(tmp_path / f"{name}.images") for image in images)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, f"{name}.images"]


def test_an_unpacked_archive_is_not_opened_again_unless_it_changed(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"set_hr/1.png": b"one", "set_hr/2.png": b"two"})
    archives.unpack(archive, PATTERNS, "first")
    archive.write_bytes(b"not opened")
    assert len(archives.unpack(archive, PATTERNS, "first")) == 2
    assert archives.unpacked(archive, "second") is None
    make_zip(archive, {"set_hr/3.png": b"three"})
    assert [image.name for image in archives.unpack(archive, PATTERNS, "second")] == ["3.png"]


def test_what_a_killed_unpacking_left_does_not_count(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"set_hr/1.png": b"one"})
    left = tmp_path / ".a.zip.images.part" / "set_hr"
    left.mkdir(parents=True)
    (left / "0.png").write_bytes(b"half")
    assert archives.unpacked(archive, "hash") is None
    assert [image.name for image in archives.unpack(archive, PATTERNS, "hash")] == ["1.png"]
    assert not left.exists()


@MAKERS
@pytest.mark.parametrize(
    ("evil", "linked"),
    [("set_x/../../evil.png", False), ("set_x/C:evil.png", False), ("set_x/link.png", True)],
)
def test_members_that_would_leave_are_refused(tmp_path: Path, make, name: str, evil: str, linked: bool) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    members = {"set_hr/1.png": b"one", evil: b"evil"}
    archive = make(folder / name, members, evil if linked else None)
    with pytest.raises(UserError, match="is a link or leaves the folder"):
        archives.unpack(archive, PATTERNS, "hash")
    assert [path.name for path in folder.iterdir()] == [name]
    assert not (tmp_path / "evil.png").exists()


@MAKERS
def test_a_truncated_archive_is_one_line(tmp_path: Path, make, name: str) -> None:
    archive = make(tmp_path / name, {"set_hr/1.png": b"one" * 5000, "set_hr/2.png": b"two" * 5000})
    archive.write_bytes(archive.read_bytes()[:20000])
    with pytest.raises(UserError, match=f"{name} cannot be unpacked"):
        archives.unpack(archive, PATTERNS, "hash")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_archive_without_images_is_an_error(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"other/1.png": b"one"})
    with pytest.raises(UserError, match=r"no member like set_\*/\*\.png"):
        archives.unpack(archive, PATTERNS, "hash")


def program(folder: Path, text: str) -> None:
    """A program called unrar, in the place of the real one, whose last argument is the folder."""
    folder.mkdir()
    path = folder / "unrar"
    path.write_text(f"#!/bin/sh\nfor folder; do :; done\n{text}\n")
    path.chmod(0o755)


def test_rar_is_left_to_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "a.rar"
    archive.write_bytes(b"Rar!")
    monkeypatch.setattr(archives, "_RAR", {"unrar": archives._RAR["unrar"]})
    monkeypatch.setenv("PATH", str(tmp_path / "bin") + os.pathsep + os.environ["PATH"])
    program(
        tmp_path / "bin",
        'mkdir "$folder/set_hr"; printf one > "$folder/set_hr/1.png"; touch "$folder/readme"',
    )
    (image,) = archives.unpack(archive, PATTERNS, "hash")
    assert image.read_bytes() == b"one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.rar", "a.rar.images", "bin"]


def test_rar_failures_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "a.rar"
    archive.write_bytes(b"Rar!")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="install one of bsdtar, unrar, 7z"):
        archives.unpack(archive, PATTERNS, "hash")
    program(tmp_path / "bin", "echo first >&2; echo checksum error >&2; exit 3")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UserError, match=r"unrar cannot unpack .*a\.rar: checksum error"):
        archives.unpack(archive, PATTERNS, "hash")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.rar", "bin"]
