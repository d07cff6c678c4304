"""The docstring corpus: labels, order, duplicates, what is left out, and refusals."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest

from gantext import docstrings
from gantext.docstrings import Document, documents, topics, words


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package `planted`, whose code must never run."""
    files = {
        "__init__.py": "",
        "trees/__init__.py": '"""Trees of the package, in general."""\nraise RuntimeError("imported")',
        "trees/oak.py": '"""An oak is a tree with acorns."""\nclass Oak:\n    """Grows slowly, lives long."""\n'
        '    def grow(self):\n        """Adds one ring each year."""\n'
        '        def inner():\n            """Hidden deeper."""\n',
        "trees/copy.py": 'def oak():\n    """An oak is a tree with acorns."""\ndef short():\n    """x"""\n',
        "trees/_elm.py": '"""A private file still documents."""',
        "trees/_inner/ash.py": '"""A private package does not."""',
        "trees/tests/test_oak.py": '"""Tests of oaks say nothing."""',
        "stones.py": '"""Stones are one file, é too."""',
    }
    for name, text in files.items():
        file = tmp_path / "planted" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    docstrings._read.cache_clear()
    return tmp_path


def test_docstrings_are_found_named_sorted_and_free_of_duplicates(package: Path) -> None:
    found = documents(["planted.trees", "planted.stones"], shortest=5)
    assert found == [
        Document("planted.stones", "planted.stones", "Stones are one file, é too."),
        Document("planted.trees", "planted.trees", "Trees of the package, in general."),
        Document("planted.trees._elm", "planted.trees", "A private file still documents."),
        Document("planted.trees.copy.oak", "planted.trees", "An oak is a tree with acorns."),
        Document("planted.trees.oak.Oak", "planted.trees", "Grows slowly, lives long."),
        Document("planted.trees.oak.Oak.grow", "planted.trees", "Adds one ring each year."),
        Document("planted.trees.oak.Oak.grow.inner", "planted.trees", "Hidden deeper."),
    ]
    assert [d.name for d in documents(["planted.trees"], shortest=31)] == ["planted.trees", "planted.trees._elm"]


def test_topics_are_drawn_cut_and_numbered_in_the_order_of_the_labels(package: Path) -> None:
    corpus_labels = ["planted.stones", "planted.trees"]
    assert topics(5, 2, labels=corpus_labels) == ([], [])  # all shorter than 200 characters
    text = '"""' + "Leaf after leaf falls. " * 12
    for k in range(6):
        (package / "planted/trees" / f"leaf{k}.py").write_text(text + f'{"abcdef"[k] * 2}"""')
    docstrings._read.cache_clear()
    documents, labels = topics(4, 3, labels=corpus_labels)
    assert documents == [["leaf", "after", "leaf"]] * 4 and labels == [1] * 4
    drawn = topics(4, labels=corpus_labels)[0]
    assert drawn == topics(4, labels=corpus_labels)[0] and len({d[-1] for d in drawn}) == 4


def test_installed_packages_have_every_topic() -> None:
    found = documents(["scipy.ndimage", "torch.optim"])
    assert {d.label for d in found} == {"scipy.ndimage", "torch.optim"} and len({d.text for d in found}) == len(
        found
    ) > 100
    assert all(len(d.text) >= 200 and d.name.startswith(d.label) for d in found)
    assert len(set(docstrings.TOPICS)) == 22 and all(docstrings._folder(label).exists() for label in docstrings.TOPICS)


def test_words_are_lower_case_letters_two_or_more() -> None:
    assert words("Émile's L2-norm, x_ij: NaN.") == ["mile", "norm", "ij", "nan"]
    assert words("") == []


@pytest.mark.parametrize("label", ["numpy", "numpy.nothing", "no_such_package.part", "..", "numpy."])
def test_a_label_that_is_not_installed_is_refused_in_words(label: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="must be an installed package"):
        documents([label])


def test_other_bad_input_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match="Write"):
        documents("numpy.ma")
    with pytest.raises(ValueError, match="shortest is 0"):
        documents(["numpy.ma"], shortest=0)
    with pytest.raises(ValueError, match="most is 0"):
        topics(0)
    with pytest.raises(TypeError, match="length is 1"):
        topics(1, cast(Any, 1.5))


@pytest.mark.parametrize(
    "data",
    [
        "x = '谁是'".encode("gbk"),
        "x = 1".encode("utf-16"),
        b"x = 1\0",
        b"print 1",
        b"(" * 10_000 + b")" * 10_000,
        b"x = (\n",
    ],
)
def test_a_file_that_is_no_python_is_named_or_passed_over(package: Path, data: bytes) -> None:
    (package / "planted/trees/odd.py").write_bytes(data)
    (package / "planted/trees/bom.py").write_bytes('"""With a mark, é."""\r\nx = "\\d"\r\n'.encode("utf-8-sig"))
    (package / "planted/trees/folder.py").mkdir()
    os.mkfifo(package / "planted/trees/pipe.py")
    (package / "planted/trees/empty.py").write_bytes(b"")
    docstrings._read.cache_clear()
    with pytest.raises(ValueError, match=r"odd\.py.*: not Python 3\..*skipped=\[\]"):
        documents(["planted.trees"], shortest=1)
    for _ in range(2):  # the second time from memory
        skipped: list[str] = []
        found = documents(["planted.trees"], shortest=1, skipped=skipped)
        assert len(skipped) == 1 and "odd.py" in skipped[0]
        assert "With a mark, é." in [d.text for d in found] and len(found) == 8


def test_labels_are_names_of_submodules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for labels in ("numpy.ma", b"numpy.ma", 3, None):
        for function in (documents, topics):
            with pytest.raises(TypeError, match="labels is"):
                function(labels=cast(Any, labels))
    with pytest.raises(TypeError, match="labels has 3"):
        documents(cast(Any, ["numpy.ma", 3]))
    assert documents(iter(["numpy.ma"])) == documents(["numpy.ma"])  # pyright: ignore[reportArgumentType]  # it does as well
    (tmp_path / "part.py").write_text('"""Not of the package sys."""')
    monkeypatch.chdir(tmp_path)
    for label in ("sys.part", "zipimport.part", "numpy.ma/core", "numpy.../part"):
        with pytest.raises(ModuleNotFoundError, match="must be an installed package"):
            documents([label])
    with pytest.raises(TypeError, match="skipped is bool"):
        documents(["numpy.ma"], skipped=cast(Any, True))
