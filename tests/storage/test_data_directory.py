"""Data directories: made, recognised, held by one process, and refused with one sentence that leaves them as they were."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kvproto.errors import ClusterError, KvError, StorageError, StoreInUse, WrongCluster
from kvstore.storage.directory import CLEAN_NAME, FORMAT, IDENTITY_NAME, LOCK_NAME, DataDirectory, lock_holder, open_directory
from tests.storage.children import CHILD_S_MAX, child, next_line


def opened(path: Path, cluster_id: str = "c", node_id: str = "n") -> DataDirectory:
    return open_directory(path, cluster_id=cluster_id, node_id=node_id)


def tree(path: Path) -> dict[str, bytes | None]:
    """Every file below `path` with its content, every directory with None."""
    return {str(part.relative_to(path)): part.read_bytes() if part.is_file() else None for part in sorted(path.rglob("*"))}


def refusal(path: Path, kind: type[KvError] = StorageError, cluster_id: str = "c", node_id: str = "n") -> KvError:
    """The error that opening ends with; checks that it is one sentence which names the path, and that nothing has changed."""
    before = tree(path)
    with pytest.raises(kind) as refused:
        opened(path, cluster_id, node_id)
    assert type(refused.value) is kind
    assert str(path) in refused.value.message
    assert "\n" not in refused.value.message
    assert refused.value.subject == str(path)
    assert tree(path) == before
    return refused.value


def test_a_new_directory_is_made_with_its_parents_and_recognised_later(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "n1"
    with opened(path) as directory:
        assert directory.created
        assert directory.clean_state is None
        assert json.loads((path / IDENTITY_NAME).read_text()) == {"format": FORMAT, "cluster_id": "c", "node_id": "n"}
    with opened(path) as directory:
        assert not directory.created
    assert {IDENTITY_NAME, LOCK_NAME} == set(os.listdir(path))


def test_an_empty_directory_and_a_fresh_volume_are_taken(tmp_path: Path) -> None:
    (tmp_path / "volume" / "lost+found").mkdir(parents=True)
    with opened(tmp_path / "volume") as directory:
        assert directory.created


def test_a_directory_whose_making_was_cut_short_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / LOCK_NAME).touch()
    (tmp_path / "n" / (IDENTITY_NAME + ".new")).write_bytes(b'{"format": 1, "clu')
    with opened(tmp_path / "n") as directory:
        assert directory.created
    assert {IDENTITY_NAME, LOCK_NAME} == set(os.listdir(tmp_path / "n"))


def test_the_clean_state_is_given_back_once(tmp_path: Path) -> None:
    state = b"\x00actor\xff" + bytes(range(256))
    opened(tmp_path / "n").close(state)
    with opened(tmp_path / "n") as directory:
        assert directory.clean_state == state
        assert not (tmp_path / "n" / CLEAN_NAME).exists()  # already gone: a crash from here on is an unclean stop
    with opened(tmp_path / "n") as directory:
        assert directory.clean_state is None


def test_an_empty_clean_state_is_still_a_clean_stop(tmp_path: Path) -> None:
    opened(tmp_path / "n").close(b"")
    with opened(tmp_path / "n") as directory:
        assert directory.clean_state == b""


def test_a_close_without_a_state_and_a_kill_are_unclean_stops(tmp_path: Path) -> None:
    opened(tmp_path / "n").close(b"state")
    with child("hold_directory", tmp_path / "n") as holder:
        next_line(holder)
    with opened(tmp_path / "n") as directory:
        assert directory.clean_state is None


@pytest.mark.parametrize("flipped", range(0, 80, 3))
def test_a_damaged_marker_is_an_unclean_stop(tmp_path: Path, flipped: int) -> None:
    opened(tmp_path / "n").close(b"the state of the actor")
    marker = tmp_path / "n" / CLEAN_NAME
    raw = bytearray(marker.read_bytes())
    raw[flipped] ^= 1
    marker.write_bytes(raw)
    with opened(tmp_path / "n") as directory:
        assert directory.clean_state is None


def test_closing_twice_is_as_good_as_once_and_the_second_leaves_no_marker(tmp_path: Path) -> None:
    directory = opened(tmp_path / "n")
    directory.close()
    directory.close(b"too late")
    with opened(tmp_path / "n") as directory:
        assert directory.clean_state is None


def test_a_marker_that_cannot_be_written_is_an_error_and_lets_go(tmp_path: Path) -> None:
    directory = opened(tmp_path / "n")
    (tmp_path / "n" / CLEAN_NAME / "in the way").mkdir(parents=True)
    with pytest.raises(StorageError):
        directory.close(b"state")
    (tmp_path / "n" / CLEAN_NAME / "in the way").rmdir()
    (tmp_path / "n" / CLEAN_NAME).rmdir()
    with opened(tmp_path / "n") as directory:
        assert directory.clean_state is None


def test_a_subdirectory_for_an_engine_is_made_and_kept(tmp_path: Path) -> None:
    with opened(tmp_path / "n") as directory:
        assert directory.subdirectory("data") == directory.subdirectory("data") == tmp_path / "n" / "data"
        (tmp_path / "n" / "data" / "kept").touch()
    with opened(tmp_path / "n") as directory:
        assert (directory.subdirectory("data") / "kept").exists()


# --- Refusals -------------------------------------------------------------------------------------------------------------------


def test_a_directory_in_use_names_the_holder_and_the_way_out(tmp_path: Path) -> None:
    with child("hold_directory", tmp_path / "n") as holder:
        pid = int(next_line(holder))
        error = refusal(tmp_path / "n", StoreInUse)
        assert f"process {pid}" in error.message
        assert "kv dev" in error.message
        assert error.retryable
        assert lock_holder(tmp_path / "n") == pid
        holder.communicate("", timeout=CHILD_S_MAX)  # the end of its input: it closes
    assert lock_holder(tmp_path / "n") is None
    opened(tmp_path / "n").close()


def test_a_directory_is_in_use_for_the_process_that_has_it_too(tmp_path: Path) -> None:
    with opened(tmp_path / "n"):
        assert "in use by this process" in refusal(tmp_path / "n", StoreInUse).message


def test_a_kill_frees_the_directory_at_once(tmp_path: Path) -> None:
    with child("hold_directory", tmp_path / "n") as holder:
        pid = int(next_line(holder))
    assert lock_holder(tmp_path / "n") == pid  # stale, and harmless
    with opened(tmp_path / "n"):
        assert lock_holder(tmp_path / "n") == os.getpid()


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n").write_bytes(b"precious")
    assert f"{tmp_path / 'n'} is a file" in refusal(tmp_path / "n").message
    assert (tmp_path / "n").read_bytes() == b"precious"


def test_a_path_below_a_file_is_refused_and_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    assert f"{tmp_path / 'file'} is a file" in refusal(tmp_path / "file" / "a" / "b").message


def test_a_path_where_nothing_can_be_written_is_refused() -> None:
    """Not even root can make a directory in /proc."""
    assert "who may write there" in refusal(Path("/proc/kvstore")).message


def test_a_newer_format_is_refused_untouched(tmp_path: Path) -> None:
    opened(tmp_path / "n").close(b"state")
    (tmp_path / "n" / IDENTITY_NAME).write_text('{"format": 3, "shape": "unknown"}')
    error = refusal(tmp_path / "n")
    assert error.message.endswith("was written by a newer version (format 3, this is 2): upgrade, nothing was changed")
    assert (error.limit, error.actual) == (2, 3)


def test_an_earlier_format_is_opened_and_is_the_present_one_from_then_on(tmp_path: Path) -> None:
    """In it large values may lie where an earlier version would not look for them."""
    opened(tmp_path / "n").close(b"state")
    identity = json.loads((tmp_path / "n" / IDENTITY_NAME).read_text())
    (tmp_path / "n" / IDENTITY_NAME).write_text(json.dumps({**identity, "format": 1}))
    again = opened(tmp_path / "n")
    assert (again.created, again.clean_state) == (False, b"state")
    again.close()
    assert json.loads((tmp_path / "n" / IDENTITY_NAME).read_text()) == identity


def test_another_clusters_directory_is_refused_and_names_both(tmp_path: Path) -> None:
    opened(tmp_path / "n", cluster_id="blue").close(b"state")
    error = refusal(tmp_path / "n", WrongCluster, cluster_id="green")
    assert "'blue'" in error.message
    assert "'green'" in error.message


def test_another_nodes_directory_is_refused_and_names_both(tmp_path: Path) -> None:
    opened(tmp_path / "n", node_id="n1").close(b"state")
    error = refusal(tmp_path / "n", ClusterError, node_id="n2")
    assert "'n1'" in error.message
    assert "'n2'" in error.message


@pytest.mark.parametrize("name", ["holiday.jpg", "data", CLEAN_NAME, ".git"])
def test_a_directory_with_other_files_and_no_identity_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / name).write_bytes(b"precious")
    assert name in refusal(tmp_path / "n").message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff",
        b"[]",
        b"7",
        b'{"format": 1}',
        b'{"format": 0, "cluster_id": "c", "node_id": "n"}',
        b'{"format": "1"}',
        b"[1, 2]",
    ],
)
def test_an_identity_that_cannot_be_understood_is_refused(tmp_path: Path, content: bytes) -> None:
    opened(tmp_path / "n").close(b"state")
    (tmp_path / "n" / IDENTITY_NAME).write_bytes(content)
    assert "is damaged" in refusal(tmp_path / "n").message
