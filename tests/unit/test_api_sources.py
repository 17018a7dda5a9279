import os

import pytest

from api.sources import resolve, resolve_folder
from domain.errors import InvalidParameter, PathNotAllowed


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "a b 'ü'.mp4").write_bytes(b"12345")
    (tmp_path / "outside.mp4").write_bytes(b"1")
    (tmp_path / "rootling").mkdir()
    (tmp_path / "rootling" / "x.mp4").write_bytes(b"1")
    return tmp_path / "root"


def test_a_path_under_a_root_is_taken_with_size_and_time(root):
    source = resolve(str(root / "a b 'ü'.mp4"), [root])
    assert (source.location, source.filename, source.size_bytes) == (
        str(root / "a b 'ü'.mp4"),
        "a b 'ü'.mp4",
        5,
    )
    assert source.mtime_ms == (root / "a b 'ü'.mp4").stat().st_mtime_ns // 10**6


def test_a_file_url_is_a_path(root):
    assert resolve(f"file://{root}/a%20b%20'%C3%BC'.mp4", [root]).filename == "a b 'ü'.mp4"
    assert resolve(f"file:{root}/a%20b%20'%C3%BC'.mp4", [root]).size_bytes == 5
    with pytest.raises(PathNotAllowed):
        resolve(f"file://elsewhere{root}/a.mp4", [root])


@pytest.mark.parametrize(
    "path", ["{0}/../outside.mp4", "{0}ling/x.mp4", "/etc/hostname", "{0}/link.mp4", "{0}/dir/outside.mp4"]
)
def test_nothing_leads_out_of_the_roots(root, path):
    (root / "link.mp4").symlink_to(root.parent / "outside.mp4")
    (root / "dir").symlink_to(root.parent)
    with pytest.raises(PathNotAllowed, match="source"):
        resolve(path.format(root), [root])


def test_a_symlink_within_the_roots_is_followed_for_good(root):
    (root / "link.mp4").symlink_to(root / "a b 'ü'.mp4")
    source = resolve(str(root / "link.mp4"), [root])
    assert (source.location, source.filename) == (str(root / "a b 'ü'.mp4"), "link.mp4")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{0}/nothing.mp4", "No such file"),
        ("{0}/sub", "is a folder"),
        ("{0}/fifo", "no regular file"),
        ("films/a.mp4", "absolute"),
        ("ftp://host/a.mp4", "ftp"),
        ("  ", "1 to"),
        ("/" + "a" * 5000, "1 to"),
        ("/" + "a" * 300, "."),
    ],
)
def test_what_is_no_file_is_refused_with_the_reason(root, source, why):
    os.mkfifo(root / "fifo")
    with pytest.raises((InvalidParameter, PathNotAllowed), match=why):
        resolve(source.format(root), [root])


def test_urls_need_a_prefix_that_ends_where_a_name_ends(root):
    roots = [root, "s3://films/holiday"]
    assert resolve("s3://films/holiday/2025/a%20b.mp4", roots).filename == "a b.mp4"
    assert resolve("http://127.0.0.1:80/films/a.mp4", ["http://127.0.0.1:80/films"]).filename == "a.mp4"
    for url in ("s3://films/holiday/a.mp4?v=1", "s3://films/holiday/a.mp4#t=1"):
        with pytest.raises(InvalidParameter, match="query or fragment"):
            resolve(url, roots)
    with pytest.raises(InvalidParameter, match="plain http"):
        resolve("http://films.example/a.mp4", ["http://films.example"])
    for url in (
        "http://127.0.0.1/a.mp4",
        "s3://films/holidays/a.mp4",
        "s3://films-of-others/holiday/a.mp4",
        "s3://films/holiday/../secret.mp4",
        "s3://films/holiday/%2e%2e/secret.mp4",
        "https://films/holiday/a.mp4",
        "gs://films/holiday/a.mp4",
    ):
        with pytest.raises(PathNotAllowed):
            resolve(url, roots)


def test_a_folder_to_look_through_lies_under_a_root(root):
    assert resolve_folder(str(root / "sub"), [root]) == str(root / "sub")
    for folder in (str(root.parent), str(root / "a b 'ü'.mp4"), "sub", "", str(root / "none")):
        with pytest.raises(InvalidParameter, match="root"):
            resolve_folder(folder, [root])
