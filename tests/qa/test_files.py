"""Files of other people: layouts, encodings, and damage of every kind, which costs what is damaged and no more."""

from __future__ import annotations

import gzip
import json
import os
import random
import unicodedata
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from gantext.qa import streaming
from gantext.qa.files import load
from gantext.qa.questions import Passage, Record
from gantext.qa.streaming import File, elements

GOOD = {"id": "good", "question": "谁?", "passages": [{"passage": "北京 b", "answer": "北京"}]}
RECORD = Record("good", "谁?", (Passage("北京,b", "北京"),), ("北京",))
LINE = json.dumps(GOOD, ensure_ascii=False)


def names(path: Path, data: bytes | str, **options: Any) -> list[str]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return [record.name for record in load(path, **options)]


@pytest.mark.parametrize(
    ("bad", "report"),
    [
        ({"id": "x", "question": "q", "answers": [{"text": "Cat", "answer_start": 4}]}, "question x: answer 'Cat'"),
        ({"id": "x", "question": "q", "answers": [{"text": "", "answer_start": -1}]}, "question x: 'text' is ''"),
        ({"id": "x", "question": "q"}, "question x: no 'answers'"),
        ({"id": "x", "question": "q", "answers": "cat"}, "question x: 'answers' is 'cat', not a list"),
        ({"id": "x", "question": "q", "answers": {"text": ["cat"]}}, "question x: 'answers' is {"),
        ({"id": "x", "question": "q", "answers": [], "is_impossible": "False"}, "'is_impossible' is 'False'"),
        ({"id": "x", "question": " ", "answers": []}, "question x: 'question' is ' '"),
        ({"id": True, "question": "q", "answers": []}, "'id' is True"),
        ({"id": "x", "question": "q", "answers": [{"text": 3}]}, "question x: 'text' is 3"),
        ("oops", "str in place of an object"),
        (None, "NoneType in place of an object"),
    ],
)
def test_one_bad_question_costs_one_question(bad: Any, report: str, tmp_path: Path) -> None:
    good = [{"id": str(k), "question": "who?", "answers": [{"text": "cat", "answer_start": 4}]} for k in range(20)]
    qas = [*good[:7], bad, *good[7:]]
    text = json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "the cat", "qas": qas}]}]})
    skipped: list[str] = []
    assert names(tmp_path / "squad.json", text, skipped=skipped) == [str(k) for k in range(20)]
    assert len(skipped) == 1 and skipped[0].startswith(f"{tmp_path / 'squad.json'}, line 1: ") and report in skipped[0]
    with pytest.raises(ValueError, match=r"load: .*squad\.json, line 1: "):
        names(tmp_path / "squad.json", text)


@pytest.mark.parametrize("bad", [{"context": "c", "qas": "text"}, {}, "text", {"context": 3, "qas": [{"id": 1}]}])
def test_one_bad_paragraph_costs_one_paragraph(bad: Any, tmp_path: Path) -> None:
    good = {"context": "the cat", "qas": [{"id": 5, "question": "who?", "answers": [{"text": "cat"}]}]}
    skipped: list[str] = []
    text = json.dumps([{"paragraphs": [good, bad, good]}, {"paragraphs": "text"}, {"paragraphs": [good]}])
    kept = names(tmp_path / "squad.json", text, skipped=skipped)
    assert kept == ["5"] * 3 and len(skipped) == 2


def test_answers_stand_at_their_start_and_whatever_the_blanks_and_the_normal_form(tmp_path: Path) -> None:
    nfd = unicodedata.normalize("NFD", "é art, the café art")
    for context, answer, start, passage in (
        ("art of art", "art", 7, ("art", 7)),
        ("art of art", "art", 3, ("art", None)),  # a start that is wrong is no start
        (nfd, "art", nfd.rindex("art"), ("art", 16)),
        (nfd, "café", 0, ("café", None)),
        ("the\u00a0cat sat", "the cat", 0, ("the\u00a0cat", None)),
        ("the\r\n cat", "the cat", None, ("the\r\n cat", None)),
    ):
        answers = [{"text": answer, "answer_start": start}, {"text": "another wording"}]
        value = [{"paragraphs": [{"context": context, "qas": [{"id": 1, "question": "q", "answers": answers}]}]}]
        (tmp_path / "f.json").write_text(json.dumps(value), "utf-8")
        (record,) = load(tmp_path / "f.json")
        text = unicodedata.normalize("NFC", context)
        assert record.passages == (Passage(text, *passage),) and record.answers == (answer, "another wording")


def test_commas_of_passages_and_answers_are_the_same(tmp_path: Path) -> None:
    passages = [
        {"passage": "三原色是红、黄、蓝", "answer": "红、黄、蓝"},
        {"passage": "高3，000米", "answer": "3，000米"},
        {"passage": "甲；乙 丙", "answer": "乙 丙"},
    ]
    (tmp_path / "f.json").write_text(json.dumps([{"id": 1, "question": "q", "passages": passages}]), "utf-8")
    (record,) = load(tmp_path / "f.json")
    assert [p.answer for p in record.passages] == ["红,黄,蓝", "3,000米", "乙,丙"]
    assert all(p.answer in p.text for p in record.passages)
    assert record.answers == ("红,黄,蓝", "3,000米", "乙 丙")  # blanks still separate the parts


@pytest.mark.parametrize(
    ("bad", "report"),
    [
        ('{"id": "1", "que', "not JSON"),
        ('d": "1", "question": "q"}', "not JSON"),
        ('{"id": "1", "passages": [', "not JSON"),
        ('{"id": ', "not JSON"),
        ('{"id":"1","question":"q","passages":[{"passage":"a\tb","answer":"b"}]}', "not JSON"),
        ("garbage", "not JSON"),
        ("[]", "list in place of an object"),
        ("3", "int in place of an object"),
        ("[" * 100_000, "nested too deep"),
        (LINE.encode("gbk"), "not UTF-8 (byte 0x"),
        (b"\xff{", "not UTF-8 (byte 0xff at character 1)"),
        ('{"id": 1, "question": "q", "passages": []}', "question 1: 'passages' is empty"),
        ('{"id": 1, "question": "\\ud800", "passages": [{"passage": "a", "answer": ""}]}', "surrogates not allowed"),
        ('{"id": ' + "1" * 5000 + ', "question": "q", "passages": [{"passage": "a", "answer": ""}]}', "'id' is None"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 3])
def test_one_bad_line_costs_one_line_wherever_it_stands(bad: Any, report: str, place: int, tmp_path: Path) -> None:
    lines = [LINE.encode()] * 3
    lines.insert(place, bad if isinstance(bad, bytes) else bad.encode())
    for end in (b"\n", b"\r\n", b"\r"):
        skipped: list[str] = []
        assert names(tmp_path / "f.jsonl", end.join(lines) + end, skipped=skipped) == ["good"] * 3
        assert len(skipped) == 1 and f"line {place + 1}: " in skipped[0] and report in skipped[0]
    with pytest.raises(ValueError, match=rf"load: .*f\.jsonl, line {place + 1}: "):
        names(tmp_path / "f.jsonl", b"\n".join(lines))


@pytest.mark.parametrize("place", [0, 1])
def test_a_long_line_is_a_line(place: int, tmp_path: Path) -> None:
    lines = [LINE, LINE]
    lines.insert(
        place, json.dumps({"id": "long", "question": "q", "passages": [{"passage": "a " * 600_000, "answer": "a"}]})
    )
    assert names(tmp_path / "f.jsonl", "\n".join(lines))[place] == "long"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("text", [f"[{LINE},\r\n{LINE}]", f"{LINE}\n{LINE}\n", f'{{"data": [{LINE},\n{LINE}\n]}}'])
def test_encodings_and_gzip(text: str, packed: bool, tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    pack = gzip.compress if packed else bytes
    for encoding, given in (
        *((e, None) for e in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")),
        *((e, e) for e in ("utf-8", "utf-8-sig", "gbk", "gb18030", "utf-16", "UTF_8")),
    ):
        file.write_bytes(pack(text.encode(encoding)))
        assert list(load(file, encoding=given)) == [RECORD, RECORD]
    file.write_bytes(pack(text.encode("gbk")))
    with pytest.raises(ValueError, match=r'f\.json, line 1: not UTF-8 \(byte 0x.*encoding="gb18030"'):
        list(load(file))
    file.write_bytes(pack(text.encode("utf-16")[:-3]))
    with pytest.raises(ValueError, match=r"f\.json, line [23]: not UTF-16"):
        list(load(file))


def test_what_is_no_file_and_no_encoding(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder, must be a file"):
        next(load(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a pipe or a device"):
        next(load(tmp_path / "pipe"))
    with pytest.raises(ValueError, match="is a pipe or a device"):
        next(load("/dev/null"))
    with pytest.raises(ValueError, match=r"damaged gzip .*Fetch it again"):
        names(tmp_path / "cut.gz", gzip.compress((f"{LINE}\n" * 9999).encode())[:-50])
    for data in ("", " \n", gzip.compress(b"")):
        with pytest.raises(ValueError, match="empty"):
            names(tmp_path / "empty", data)
    for encoding in ("klingon", "hex", "undefined", 3):
        with pytest.raises(ValueError, match=rf"encoding is {encoding!r}"):
            load(tmp_path, encoding=cast(Any, encoding))
    with pytest.raises(TypeError, match="path is 3"):
        load(cast(Any, 3))


@pytest.mark.parametrize(
    ("bad", "report"),
    [
        ("[" * 200_000 + "]" * 200_000, "nested more than 100 deep"),
        ('{"a":' * 200_000 + "1" + "}" * 200_000, "nested more than 100 deep"),
        ('{"id": ' + "1" * 5000 + "}", "no 'paragraphs'"),
        ('{"passages": [], "id": ' + "1" * 200_000 + "}", "'id' is None"),
        ('{"passages": ' + "[" * 90 + "]" * 90 + ', "id": 1}', "question 1: list in place of an object"),
        ("null", "NoneType in place of an object"),
    ],
)
def test_depth_and_length_in_a_document_cost_an_element(bad: str, report: str, tmp_path: Path) -> None:
    for between in (",", ",\n"):
        skipped: list[str] = []
        text = "[" + between.join([LINE, bad, LINE]) + "]"
        assert names(tmp_path / "f.json", text, skipped=skipped) == ["good"] * 2
        assert len(skipped) == 1 and f"line {1 + len(between) // 2}: " in skipped[0] and report in skipped[0]


@pytest.mark.parametrize("piece", [3, 50, 700, 1 << 16])
def test_documents_are_read_as_json_reads_them(piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also NaN and infinities, which ijson refuses, and long numbers, of which it dies: as null, but not in texts."""
    rng = random.Random(piece)
    bits = ['"', "\\", "NaN", "\n", "北", " ", "-Infinity", "1", ":", "b" * 900, "7" * 1300]

    def value(depth: int = 0) -> tuple[Any, Any]:
        kind = rng.randrange(6 if depth < 4 else 4)
        if kind == 0:
            return rng.choice([(None, None), (True, True), (float("nan"), None), (float("-inf"), None), (-1.5, -1.5)])
        if kind == 1:
            return rng.choice([(10**30, 10**30), (-(10**700), None), (10**599, 10**599), (-7, -7)])
        if kind < 4:
            return ((text := "".join(rng.choices(bits, k=rng.randrange(8)))), text)
        inner = [value(depth + 1) for _ in range(rng.randrange(4))]
        if kind == 4:
            return [a for a, _ in inner], [b for _, b in inner]
        keys = ["".join(rng.choices(bits[:9], k=3)) + str(k) for k in range(len(inner))]
        named = list(zip(keys, inner, strict=True))
        return {k: a for k, (a, _) in named}, {k: b for k, (_, b) in named}

    def plain(x: Any) -> Any:
        if isinstance(x, dict):
            return {key: plain(y) for key, y in x.items()}
        return [plain(y) for y in x] if isinstance(x, list) else float(x) if isinstance(x, Decimal) else x

    monkeypatch.setattr(streaming, "_PIECE", piece)
    for indent in (None, 1) * 20:
        pairs = [({}, {}), *(value() for _ in range(4))]
        text = json.dumps([a for a, _ in pairs], indent=indent, ensure_ascii=rng.random() < 0.5)
        (tmp_path / "f.json").write_text(text, "utf-8")
        found = list(elements(File(tmp_path / "f.json", None, None)))
        assert [plain(x) for _, x in found] == [b for _, b in pairs]
        if indent:  # elements are those lines that are indented by one
            starts = [k for k, line in enumerate(text.split("\n"), 1) if line[:1] == " " and line[1] not in " }]"]
            assert [line for line, _ in found] == starts


def test_the_layout_of_cmrc_2018_in_its_squad_form(tmp_path: Path) -> None:
    """Wordings of annotators that do not stand in the passage, with a start of -1, and wrong starts are in the data."""
    qas = [
        {
            "question": "q",
            "id": "DEV_0_QUERY_0",
            "answers": [{"text": "另一个", "answer_start": -1}, {"text": "光荣和ω-force", "answer_start": 2}],
        },
        {"question": "q", "id": "DEV_0_QUERY_1", "answers": [{"text": "光荣", "answer_start": 0}]},
    ]
    paragraph = {"id": "DEV_0", "context": "由于光荣和ω-force开发", "qas": qas}
    value = {"version": "v1.0", "data": [{"paragraphs": [paragraph], "id": "DEV_0", "title": "t"}]}
    (tmp_path / "f.json").write_text(json.dumps(value, indent=2, ensure_ascii=False), "utf-8")
    first, second = load(tmp_path / "f.json")
    assert first.answers == ("另一个", "光荣和ω-force") and first.passages[0][1:] == ("光荣和ω-force", 2)
    assert second.answers == ("光荣",) and second.passages[0][1:] == ("光荣", None)
