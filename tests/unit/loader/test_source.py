"""What becomes of each file of a model's folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.loader import source
from nodeseal.loader.source import Selection, may_stay_plain, survey, why_readable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    return model


def sealed_paths(folder: Path, *, seal_all: bool = False, allow_pickle: bool = False) -> dict[str, bool]:
    return {file.path: file.sealed for file in survey(folder, seal_all=seal_all, allow_pickle=allow_pickle)}


@pytest.mark.parametrize(
    ("name", "sealed"),
    [
        ("model.gguf", True),
        ("model.onnx", True),
        ("model.onnx_data", True),
        ("weights", True),
        ("weights.unknown", True),
        ("config.json", False),
        ("modeling.py", False),
        ("TOKENIZER.MODEL", False),
        ("LICENSE", False),
        (".gitattributes", False),
        ("README.md", False),
    ],
)
def test_only_listed_types_stay_readable(folder: Path, name: str, sealed: bool) -> None:  # noqa: FBT001 - a table's column
    (folder / name).write_bytes(b"x")
    assert sealed_paths(folder)[name] is sealed


def test_all_seals_what_could_stay_readable(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"{}")
    assert sealed_paths(folder, seal_all=True) == {"config.json": True, "model.safetensors": True}


def test_a_huge_file_of_a_readable_type_is_sealed(folder: Path) -> None:
    with (folder / "weights.json").open("wb") as file:
        file.truncate(source.MAX_PLAIN_SIZE + 1)
    assert sealed_paths(folder)["weights.json"] is True


@pytest.mark.parametrize("name", ["pytorch_model.bin", "x.PT", "x.pkl", "x.ckpt", "x.pth", "optimizer.pickle"])
def test_pickles_are_refused_unless_asked_for(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    with pytest.raises(MalformedInput, match="pickle runs code") as caught:
        survey(folder)
    assert "--allow-pickle" in caught.value.remedy
    assert sealed_paths(folder, allow_pickle=True)[name] is True


def test_folders_that_start_with_a_dot_are_left_out(folder: Path) -> None:
    for name in (".git", ".cache"):
        (folder / name).mkdir()
        (folder / name / "pack").write_bytes(b"weights of another version")
    assert list(sealed_paths(folder)) == ["model.safetensors"]


def test_files_come_in_the_order_of_the_content_file(folder: Path) -> None:
    (folder / "a").mkdir()
    for name in ("a/b.json", "a-b.json", "z.json", "B.json"):
        (folder / name).write_bytes(b"{}")
    paths = list(sealed_paths(folder))
    assert paths == sorted(paths)


def test_links_of_a_hugging_face_cache_are_read_through(tmp_path: Path) -> None:
    cache = tmp_path / "models--org--name"
    (cache / "blobs").mkdir(parents=True)
    (cache / "blobs" / "0123").write_bytes(b"weights")
    snapshot = cache / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to("../../blobs/0123")
    (file,) = survey(snapshot)
    assert (file.path, file.size, file.sealed) == ("model.safetensors", 7, True)


def test_a_link_inside_the_folder_is_read_through(folder: Path) -> None:
    (folder / "again.safetensors").symlink_to("model.safetensors")
    assert sealed_paths(folder)["again.safetensors"] is True


def test_a_link_that_leaves_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "id_ed25519").write_bytes(b"secret")
    (folder / "config.json").symlink_to("../id_ed25519")
    with pytest.raises(MalformedInput, match="leaves the model's folder"):
        survey(folder)


def test_a_link_that_takes_a_files_place_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"s3cret")
    (folder / "README.md").write_bytes(b"readme")
    (file,) = (file for file in survey(folder) if file.path == "README.md")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(Unavailable), file.reading():
        pass


def test_a_link_that_takes_a_files_place_while_it_is_looked_at_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(b"s3cret")
    (folder / "README.md").symlink_to(tmp_path / "secret")
    monkeypatch.setattr("nodeseal.loader.source._follow", lambda _, entry: entry)  # as it was a moment before
    with pytest.raises(MalformedInput, match="not a regular file"):
        survey(folder)


def test_a_link_to_a_folder_is_refused(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "link").symlink_to("sub")
    with pytest.raises(MalformedInput, match="not a regular file"):
        survey(folder)


def test_pipes_and_sockets_are_refused_without_waiting_for_them(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(MalformedInput, match="not a regular file"):
        survey(folder)
    (folder / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        with pytest.raises(MalformedInput, match="not a regular file"):
            survey(folder)


def test_a_name_that_no_content_file_may_hold_is_refused(folder: Path) -> None:
    (folder / "a\nb.json").write_bytes(b"{}")
    with pytest.raises(MalformedInput):
        survey(folder)


def test_a_folder_that_is_sealed_already_is_refused(folder: Path) -> None:
    (folder / "nodeseal.model.json").write_bytes(b"{}")
    with pytest.raises(MalformedInput, match="sealed already"):
        survey(folder)


def test_a_folder_with_nothing_to_seal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    with pytest.raises(MalformedInput, match="nothing to seal"):
        survey(tmp_path)


def test_too_many_files_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_FILES", 1)
    (folder / "config.json").write_bytes(b"{}")
    with pytest.raises(MalformedInput, match="at most 1"):
        survey(folder)


def test_what_was_read_does_not_stay_in_the_page_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, size, __: said.append((start, size)))
    monkeypatch.setattr(source, "_STRETCH", 1 << 20)
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(6 << 20)
    (found,) = survey(folder)
    chunk = memoryview(bytearray(300_000))
    with found.reading() as read:
        for offset in range(0, (6 << 20) - len(chunk), len(chunk)):
            read(chunk, offset)
            assert all(start + size <= offset - (1 << 20) for start, size in said), "others may be reading there"
        assert said == [(0, 2 << 20), (1 << 20, 2 << 20), (2 << 20, 2 << 20)]
    assert said[-1] == (0, 0)


def test_patterns_choose_files(folder: Path) -> None:
    for name in ("config.json", "pytorch_model.bin", "original/params.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")

    def chosen(**patterns: tuple[str, ...]) -> dict[str, bool]:
        return {file.path: file.sealed for file in survey(folder, selection=Selection(**patterns))}

    every = {"config.json": False, "model.safetensors": True, "original/params.json": False}
    assert chosen(exclude=("*.bin",)) == every
    assert chosen(exclude=("*.bin", "original/*")) == {"config.json": False, "model.safetensors": True}
    assert chosen(include=("*.safetensors",)) == {"model.safetensors": True}
    assert chosen(exclude=("*.bin",), seal=("original/*",)) == every | {"original/params.json": True}
    with pytest.raises(MalformedInput, match="pickle"):
        chosen()


@pytest.mark.parametrize("option", ["include", "exclude", "seal"])
def test_a_pattern_that_matches_nothing_is_refused(folder: Path, option: str) -> None:
    with pytest.raises(MalformedInput, match=f"--{option}.*matches no file"):
        survey(folder, selection=Selection(**{option: ("*.safetensor",)}))


def test_what_stays_readable_has_a_reason() -> None:
    assert why_readable("a/modeling.py") == "code"
    assert why_readable("LICENSE") == "a licence"
    assert why_readable("model.safetensors") == ""
    assert not may_stay_plain("weights.bin")


def test_folders_of_others_on_a_volume_are_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lost+found", "theirs", "mine"):
        (folder / name).mkdir()
        (folder / name / "secret.json").write_bytes(b"{}")
    readable = os.access
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "theirs" and readable(path, mode))
    assert list(sealed_paths(folder)) == ["mine/secret.json", "model.safetensors"]


def test_a_cache_of_snapshots_is_not_taken_for_a_model(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--name" / "snapshots" / "0a1b"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--org--name" / "blobs").mkdir()
    with pytest.raises(MalformedInput, match="several snapshots") as caught:
        survey(tmp_path / "models--org--name")
    assert str(snapshot) in caught.value.remedy
