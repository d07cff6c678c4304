"""Questions, the files they come from, tokens, training, answers and scores; and what happens with bad input."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gantext.qa import streaming
from gantext.qa.files import load
from gantext.qa.questions import TOKEN, Passage, Record, exact, f1, normalise, parameters, score
from gantext.qa.reader import answer, fit, muon
from gantext.qa.sources import Words, batch, sample, source
from gantext.seq2seq import decoding
from gantext.seq2seq.transformer import Config, Transformer

LABELS = ["scipy.fft", "scipy.odr", "scipy.cluster", "numpy.fft"]


@pytest.fixture(scope="module")
def questions() -> tuple[list[Record], list[Record]]:
    return parameters(LABELS, length=40, passages=5, longest=9)


# --- questions


def test_the_answer_stands_in_the_first_half_of_the_passages(questions: tuple[list[Record], list[Record]]) -> None:
    for record in [*questions[0], *questions[1]]:
        held = [p for p in record.passages if p.answer]
        assert len(record.passages) == 5 and len(held) == 3
        assert {p.answer for p in held} == set(record.answers)
        for passage in record.passages:
            count = len(TOKEN.findall(passage.text))
            assert 10 <= count <= 40
            lines = [line for line in passage.text.splitlines() if " : " in line]
            names = {name.strip("* ") for line in lines for name in line.split(" : ")[0].split(",")}
            assert (record.question in names) == bool(passage.answer) or not passage.text.startswith(tuple(lines))
            if passage.answer:
                assert f": {passage.answer}" in passage.text
                assert len(TOKEN.findall(passage.answer)) <= 9


def test_no_section_is_in_both_halves(questions: tuple[list[Record], list[Record]]) -> None:
    train, test = ({r.name for r in half} for half in questions)
    assert train and test and not train & test


def test_questions_repeat_and_depend_on_the_seed(questions: tuple[list[Record], list[Record]]) -> None:
    options = {"length": 40, "passages": 5, "longest": 9}
    assert parameters(LABELS, **options) == questions
    assert parameters(LABELS, **options, seed=1)[0] != questions[0]


def test_a_parameter_that_all_functions_have_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no passage without it; the search for one went on for ever."""
    section = "Parameters\\n----------\\nx : {}\\n    Of {}.\\n"
    (tmp_path / "planted_alike").mkdir()
    for name, kinds in (("one", ["int"]), ("many", [f"int{k}" for k in range(30)])):
        code = "\n".join(f'def f{k}():\n    "{section.format(k, name)}"' for k in kinds)
        (tmp_path / f"planted_alike/{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert parameters(["planted_alike.one"]) == parameters(["planted_alike.many"]) == ([], [])


@pytest.mark.parametrize("options", [{"length": 19}, {"passages": 1}, {"longest": 0}, {"length": 20, "longest": 16}])
def test_questions_refuse_sizes(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="parameters: "):
        parameters(LABELS, **options)


RECORD = Record("r", "a", (Passage("a b c", "c"),), ("c",))

# --- scores

short = st.text("ab 一，ＡB-.", max_size=6)


@given(short, st.lists(short, max_size=3))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_f1_counts_characters_with_repetition(prediction: str, accepted: list[str]) -> None:
    bare = lambda text: "".join(normalise(text).split()) or "".join(text.replace("，", ",").split())
    mine = bare(prediction)
    best = 0.0
    for a in map(bare, accepted):
        rest, common = list(a), 0
        for c in mine:
            if c in rest:
                rest.remove(c)
                common += 1
        if common:
            precision, recall = common / len(mine), common / len(a)
            best = max(best, 2 * precision * recall / (precision + recall))
    if not accepted:
        best = float(not normalise(prediction).split())
    assert f1(prediction, accepted) == pytest.approx(best)
    if mine and mine in map(bare, accepted):
        assert exact(prediction, accepted) == 1


def test_edge_cases_of_the_metric() -> None:
    assert normalise("　Ｆ１：ａ、b￥") == " f1 a b " and normalise("㎡①ﬁ½") == "m21fi1 2"
    for order in permutations(["ab", "cd", "e"]):
        assert exact("，".join(order), ["ab cd e"]) == 1
    assert exact("cd ab", ["x", "ab cd"]) == 0  # parts are those of the first answer
    assert exact("abcd", ["ab cd"]) == 1 and exact("abd", ["ab cd"]) == 0
    assert (exact("", ["a"]), f1("", ["a"]), exact("!", ["a"]), f1("!", ["a"])) == (0, 0, 0, 0)
    assert (exact("", []), f1("", []), exact("a", []), f1("a", [])) == (1, 1, 0, 0)
    assert exact("a", ["?"]) == 0 == f1("a", ["?"]) and exact("?", ["?"]) == 1
    assert (exact("?", []), f1("->", []), exact("?", ["!"]), f1("?", [""]), exact("a?", ["?"])) == (1, 1, 0, 0, 0)
    assert f1("listen", ["silent"]) == 1 and exact("listen", ["silent"]) == 0 and exact("35", ["3.5"]) == 1
    assert score(["a", "b"], [["a"], ["bc"]]) == (0.5, pytest.approx((1 + 2 / 3) / 2))
    assert score(["a", "b"], [["a"], ["bc"]]).final == pytest.approx((0.5 + 5 / 6) / 2)
    for predictions, accepted in (([], []), (["a"], [])):
        with pytest.raises(ValueError, match="score: predictions"):
            score(predictions, accepted)


def test_answers_of_signs_alone_are_compared_by_their_signs() -> None:
    for sign in ("$", "+", "😀", "°", "*", "->", "。"):
        assert exact(sign, [sign]) == f1(sign, [sign]) == 1 and exact(sign, ["a", sign]) == 1
        assert exact(sign, ["a"]) == f1(sign, ["a"]) == exact("a", [sign]) == 0
    assert exact("＋", ["+"]) == 1 and f1("->", ["-"]) == pytest.approx(2 / 3)


def test_marks_upon_signs_are_signs() -> None:
    """Emoji with a variation selector were all one: it alone was left of each."""
    for one, other in (("☀️", "❤️"), ("#️⃣", "*️⃣"), ("+\u0338", "-\u0338"), ("\u0301", "\u0302")):
        for function in (exact, f1):
            assert function(one, [other]) < 1 == function(one, [one]) and function(one, ["a"]) == 0
    assert exact("❤️", ["❤"]) == exact("❤", ["❤️"]) == exact("葛\U000e0100", ["葛"]) == f1("a❤️", ["a"]) == 1


def test_parts_are_counted() -> None:
    assert exact("b, a, b", ["a b b"]) == 1 and exact("a b", ["a b b"]) == exact("10, 10", ["10"]) == 0


def test_spellings_of_the_same_letters_score_alike() -> None:
    for one, other in (("café", "cafe\u0301"), ("㎡", "m2"), ("①", "1"), ("가", "\u1100\u1161"), ("a\u200bb", "ab")):
        assert exact(one, [other]) == exact(other, [one]) == f1(one, [other]) == 1
    assert exact("C++", ["C"]) == exact("-5", ["5"]) == exact("3.5", ["35"]) == 1  # what its docstring warns of


def test_a_text_in_place_of_a_list_is_refused() -> None:
    for function in (exact, f1):
        for accepted in ("float", b"float", None, 3, {"float"}):
            with pytest.raises(TypeError, match="accepted is"):
                function("float", cast(Any, accepted))
        with pytest.raises(TypeError, match="accepted has 3"):
            function("float", cast(Any, [3]))
        with pytest.raises(TypeError, match="prediction is None"):
            function(cast(Any, None), ["float"])
    for predictions, accepted in (("f", [["f"]]), (["f"], "f"), (["f"], ["f"]), ([None], [["f"]]), (["f"], [None])):
        with pytest.raises(TypeError, match="score: "):
            score(cast(Any, predictions), cast(Any, accepted))


# --- files

SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "Rome fell in 476.",
                    "qas": [
                        {
                            "id": "1",
                            "question": "When?",
                            "answers": [
                                {"text": "476", "answer_start": 13},
                                {"text": "476"},
                                {"text": "in 476"},
                            ],
                        },
                        {"id": "2", "question": "Why?", "is_impossible": True, "answers": [], "plausible_answers": []},
                    ],
                }
            ],
        },
        {
            "title": "u",
            "paragraphs": [
                {"context": "a b", "qas": [{"id": "3", "question": "c?", "answers": [{"text": "b"}]}]},
            ],
        },
    ],
}
CMRC = [
    {
        "context_id": "D",
        "context_text": "范廷颂是枢机",
        "title": "范",
        "qas": [
            {"query_id": "D_Q", "query_text": "谁?", "answers": ["范廷颂", "范廷颂是"]},
        ],
    }
]
SOGOU = [
    {
        "id": 7,
        "question": "哪两条?",
        "passages": [
            {"passage": "黄河、长江 和运河", "answer": "黄河 长江"},
            {"passage": "无", "answer": ""},
            {"passage": "长江", "answer": "长江"},
        ],
    },
    {"id": "8", "question": "q", "passages": [{"passage": "x", "answer": ""}]},
]
RECORDS = {
    "squad": [
        Record("1", "When?", (Passage("Rome fell in 476.", "476", 13),), ("476", "in 476")),
        Record("2", "Why?", (Passage("Rome fell in 476."),), ()),
        Record("3", "c?", (Passage("a b", "b"),), ("b",)),
    ],
    "cmrc": [Record("D_Q", "谁?", (Passage("范廷颂是枢机", "范廷颂"),), ("范廷颂", "范廷颂是"))],
    "sogou": [
        Record(
            "7",
            "哪两条?",
            (Passage("黄河,长江,和运河", "黄河,长江"), Passage("无"), Passage("长江", "长江")),
            ("黄河 长江", "长江"),
        ),
        Record("8", "q", (Passage("x"),), ()),
    ],
}
VALUES: dict[str, Any] = {"squad": SQUAD, "cmrc": CMRC, "sogou": SOGOU}


@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("kind", VALUES)
def test_every_layout_in_pieces(kind: str, indent: int | None, chunk: int, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(streaming, "_PIECE", chunk)
    file = tmp_path / "file.json"
    file.write_text("\ufeff \n" + json.dumps(VALUES[kind], indent=indent, ensure_ascii=indent is None) + "\n", "utf-8")
    assert list(load(file)) == RECORDS[kind]


@pytest.mark.parametrize("kind", ["cmrc", "sogou"])
def test_an_element_a_line(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "file.jsonl"
    file.write_text("\n\n".join(json.dumps(element) for element in VALUES[kind]), "utf-8")
    assert list(load(file)) == RECORDS[kind]


def test_malformed_records_are_reported_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    bad = [SOGOU[0], {"id": "9", "question": "q"}, 3, {"id": "9", "question": "", "passages": []}, SOGOU[1]]
    file.write_text("[\n" + ",\n".join(json.dumps(element) for element in bad) + "\n]", "utf-8")
    found = load(file)
    assert next(found) == RECORDS["sogou"][0]
    with pytest.raises(ValueError, match=r"file\.json, line 3: no 'paragraphs', 'context_text' or 'passages'"):
        next(found)
    skipped: list[str] = []
    assert list(load(file, skipped=skipped)) == RECORDS["sogou"]
    assert [report.split(", line ")[1][:1] for report in skipped] == ["3", "4", "5"]
    with pytest.raises(TypeError, match="skipped is bool"):
        load(file, skipped=True)  # pyright: ignore[reportArgumentType]  # the mistake that is tested


def test_lines_are_counted_where_records_take_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file.json"
    file.write_text(text := json.dumps([SOGOU[0], SOGOU[1], {"id": "9"}], indent=1), "utf-8")
    line = text[: text.index('"9"')].count("\n")
    for chunk in (5, 1 << 16):
        monkeypatch.setattr(streaming, "_PIECE", chunk)
        with pytest.raises(ValueError, match=rf"line {line}: no 'paragraphs'"):
            list(load(file))


def test_a_number_at_the_end_of_a_piece_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_PIECE", 1)
    file = tmp_path / "file.json"
    file.write_text("[12]", "utf-8")
    with pytest.raises(ValueError, match="int in place of an object"):
        list(load(file))


def test_an_answer_that_is_not_in_the_passage_is_malformed(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text(json.dumps(CMRC, ensure_ascii=False).replace('范廷颂是"]', 'nobody"]'), "utf-8")
    assert [record.answers for record in load(file)] == [("范廷颂", "nobody")]  # another wording is accepted
    file.write_text(json.dumps([CMRC[0] | {"context_text": "nothing"}]), "utf-8")
    with pytest.raises(ValueError, match="question D_Q: answer '范廷颂' does not stand in the passage"):
        list(load(file))


def test_a_damaged_line_is_skipped_on_request_only(tmp_path: Path) -> None:
    file = tmp_path / "file.jsonl"
    file.write_text("\n".join([json.dumps(SOGOU[0]), '{"id": ', json.dumps(SOGOU[1])]), "utf-8")
    with pytest.raises(ValueError, match=r"line 2: not JSON"):
        list(load(file))
    skipped: list[str] = []
    assert list(load(file, skipped=skipped)) == RECORDS["sogou"] and len(skipped) == 1


@pytest.mark.parametrize(
    "text",
    [
        '[{"id": 1, "quest',
        " \n ",
        "[1 2]",
        "[",
        "",
        "3",
        '{"version": 1, "data": 3}',
        '["a"; 1]',
        "[] 3",
        '{"version":\n 1}',
        '{"a": 1, "b" 2}',
    ],
)
def test_what_is_not_json_is_never_skipped(text: str, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"load: .*file\.json[,:]"):
        list(load(file, skipped=[] if "3}" not in text else None))


def test_a_file_is_read_as_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    for between in (",\n", ","):
        file.write_text("[" + between.join([json.dumps(SOGOU[1])] * 5000) + between + " {broken", "utf-8")
        found = load(file)
        assert [next(found) for _ in range(4000)] == [RECORDS["sogou"][1]] * 4000  # the damage lies behind them
        with pytest.raises(ValueError, match=rf"line {5001 if between[1:] else 1}: not JSON"):
            list(found)
    with pytest.raises(FileNotFoundError):
        next(load(tmp_path / "none.json"))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for count in (2_000, 20_000):
        file = tmp_path / f"{count}.json"
        file.write_text("[" + ",".join([json.dumps(SOGOU[1])] * count) + "]", "utf-8")
        next(load(file))
        tracemalloc.start()
        assert sum(1 for _ in load(file)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


# --- tokens


def bert(tmp_path: Path) -> Any:
    import transformers  # takes seconds, and most tests here need none of it

    file = tmp_path / "vocab.txt"
    file.write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "float", "##s", "int", "a", "b", ":", ","])
    )
    return transformers.BertTokenizerFast(str(file))  # pyright: ignore[reportAttributeAccessIssue]  # made when asked for


def test_sources_of_words_and_of_a_bert_tokenizer(tmp_path: Path) -> None:
    text = "a: floats, b : int"
    words = Words([text], least=1)
    read = source(words, text, "b")
    assert [words.words[t] for t in read.tokens] == ["[CLS]", *"a : floats , b : int".split(), "[SEP]", "b", "[SEP]"]
    assert [text[slice(*span)] for span in read.spans] == "a : floats , b : int".split()
    assert read.find(words("b: int")["input_ids"]) == (11, 18) and read.find([]) is None
    assert read.find(words(": int,")["input_ids"]) is None and read.find(words(":")["input_ids"]) == (1, 2)
    hugging = bert(tmp_path)
    read = source(hugging, text, "b")
    assert hugging.convert_ids_to_tokens(read.tokens) == [
        "[CLS]",
        "a",
        ":",
        "float",
        "##s",
        ",",
        "b",
        ":",
        "int",
        "[SEP]",
        "b",
        "[SEP]",
    ]
    found = read.find(hugging("floats", add_special_tokens=False)["input_ids"])
    assert found is not None and text[slice(*found)] == "floats"


def test_sources_are_cut_and_errors_say_what_to_do(tmp_path: Path) -> None:
    words = Words(["a b c d e"], least=1)
    read = source(words, "a b c d e", "a b c", length=5, question_length=2)
    assert [words.words[t] for t in read.tokens] == ["[CLS]", "a", "b", "c", "[SEP]", "a", "[SEP]"]
    for passage, question in ((" ", "a"), ("a", "")):
        with pytest.raises(ValueError, match="must have at least one token"):
            source(words, passage, question)
    with pytest.raises(TypeError, match=r"question is 3 \(int\)"):
        source(words, "a", 3)  # pyright: ignore[reportArgumentType]  # the mistake that is tested
    with pytest.raises(ValueError, match="length is 2"):
        source(words, "a", "b", length=2)
    hugging = bert(tmp_path)
    hugging.sep_token = None
    with pytest.raises(ValueError, match="sep_token_id None"):
        source(hugging, "a", "b")


def test_words_count_and_unknown() -> None:
    words = Words(["a a b", "b c"], least=2)
    assert words.words == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b"] and len(words) == 6
    assert words("c a?")["input_ids"] == [1, 4, 1] and words.decode([4, 1]) == "a [UNK]"
    assert Counter(words("n_x-1")["offset_mapping"]) == Counter([(0, 3), (3, 4), (4, 5)])
    with pytest.raises(ValueError, match="least is 0"):
        Words(["a"], least=0)


def test_targets() -> None:
    words = Words(["a b c d , e"], least=1)
    passages = (Passage("a b c", "b c"), Passage("d e"), Passage("b , c , e"))
    record = Record("r", "a", passages, ("c b", "e"))
    target = lambda number, **options: words.decode(
        (lambda pair: pair[0][pair[1] :])(sample(record, number, words, **options))
    )
    assert target(0) == "b c [SEP]" and target(1) == "[SEP]" and target(2) == "[SEP]"
    assert target(0, length=4) == "[SEP]"  # what is cut off cannot be asked for
    assert target(0, longest=1) == "b [SEP]"
    assert target(0, distant=True) == "c , b [SEP]"  # both parts stand there, in whatever order
    assert target(1, distant=True) == "e [SEP]" and target(2, distant=True) == "c , b [SEP]"
    assert target(2, distant=True, length=5) == "c , b [SEP]" and target(2, distant=True, length=4) == "[SEP]"
    with pytest.raises(ValueError, match="number is 3"):
        sample(record, 3, words)
    for number in ("0", 0.0, True):
        with pytest.raises(TypeError, match=f"number is {number!r}"):
            sample(record, cast(Any, number), words)
    assert sample(record, cast(int, np.int64(0)), words) == sample(record, 0, words)
    tokens, prefix, lengths = batch([sample(record, k, words) for k in (0, 1)], pad=0)
    assert tokens.shape == (2, 10) and prefix == [7, 6] and lengths == [10, 7] and (tokens[1, 7:] == 0).all()
    with pytest.raises(ValueError, match="samples is empty"):
        batch([])


@pytest.mark.parametrize("start", [0, 2, 99, -1])
def test_an_answer_that_does_not_begin_where_it_is_said_to_is_refused(start: int) -> None:
    """What stands there instead was the target."""
    record = lambda start: Record("r", "a", (Passage("a b c", "c", start),), ("c",))
    words = Words(["a b c"], least=1)
    assert sample(record(4), 0, words) == sample(record(None), 0, words)
    with pytest.raises(ValueError, match=rf"record 'r' has start {start} for the answer 'c'"):
        sample(record(start), 0, words)


def subwords(kind: str, texts: list[str]) -> Any:
    """A small tokenizer of RoBERTa's or of XLM-R's kind, whose tokens hold the blank before a word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<pad>", "<unk>"]
    if kind == "bytes":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.decoder = decoders.ByteLevel() if kind == "bytes" else decoders.Metaspace()
    names = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


@pytest.mark.parametrize("kind", ["bytes", "unigram"])
def test_targets_are_the_passages_own_tokens(kind: str) -> None:
    texts = ["the axis parameter is an int and the cat sat on the mat", "the axis is int . a float type 北京"] * 20
    tokenizer = subwords(kind, texts)
    differ = 0
    for passage, wanted in (
        ("the axis is an int . the cat sat", "int"),
        ("the axis is an int . the cat sat", "cat sat"),
        ("(int) or float", "int"),
        ("the float", "the float"),
        ("a 北京 .", "北京"),
    ):
        low = passage.index(wanted)
        for start in (None, low):
            tokens, at = sample(Record("x", "type", (Passage(passage, wanted, start),), (wanted,)), 0, tokenizer)
            target, read = tokens[at:-1], source(tokenizer, passage, "type")
            assert read.find(target) == (low, low + len(wanted))
            assert read.passage[slice(*(read.find(target) or ()))] == wanted
            differ += target != tokenizer(wanted, add_special_tokens=False)["input_ids"]
    assert differ  # an answer alone is cut otherwise


def test_a_character_cut_in_bytes_is_a_target_whole_or_not_at_all() -> None:
    tokenizer = subwords("bytes", ["a"])
    passage, dropped = "é北京", Counter()
    for length, whole in ((10, True), (9, False), (8, False)):  # é is two tokens, 北 and 京 are three each
        record = Record("x", "a", (Passage(passage, "北京"),), ("北京",))
        tokens, at = sample(record, 0, tokenizer, length=length, dropped=dropped)
        assert tokenizer.decode(tokens[at:-1]) == ("北京" if whole else "")
    assert dropped == {"cut off": 2}


@pytest.mark.parametrize("distant", [False, True])
def test_no_label_is_a_piece_of_a_word(distant: bool) -> None:
    dropped: Counter[str] = Counter()

    def target(passage: str, answer: str, start: int | None = None, **options: Any) -> str:
        words = Words([passage, answer], least=1)
        record = Record("x", "what", (Passage(passage, answer, start),), (answer,))
        tokens, at = sample(record, 0, words, distant=distant, dropped=dropped, **options)
        return words.decode(tokens[at:-1])

    text = "the party was at 5km . art"
    assert target(text, "art") == "art"
    assert target(text, "art", length=8) == "" and dropped == {"cut off": 1}
    assert target(text, "5") == "" and dropped == {"cut off": 1, "not whole words or tokens": 1}
    assert target("the cafe\u0301 .", "cafe") == "" and target("snake_case", "case") == ""
    assert target("北京是中国的首都。", "北京") == "北 京" and target("在4月5日", "5") == "5"
    assert target("x２０００年です", "年") == "年" and target("𠀀々〇", "々") == "々"
    assert target("art - art", "- art") == "- art" and target("a, (b)", "(b)") == "( b )"
    before = dropped.total()
    assert target("cat", "dog") == "" and dropped.total() - before == 1 - distant
    if not distant:
        assert target("a, 5km, 5 b", "5", 3) == ""  # its place is known, and is not at the next 5
        assert target("int, a : int", "int", 9) == "int"


def test_a_token_that_is_a_piece_of_a_word_is_a_label_only_where_it_is_said_to_stand(tmp_path: Path) -> None:
    tokenizer = bert(tmp_path)
    for start, label in ((None, []), (2, ["float"])):
        record = Record("x", "b", (Passage("a floats", "float", start),), ("float",))
        tokens, at = sample(record, 0, tokenizer)
        assert tokenizer.convert_ids_to_tokens(tokens[at:-1]) == label


def test_accents_of_their_own_are_of_the_word_and_the_same_word() -> None:
    words = Words(["café cafe\u0301"], least=2)
    assert words.words[4:] == ["café"]
    assert words("cafe\u0301 café") == {"input_ids": [4, 4], "offset_mapping": [(0, 5), (6, 10)]}


def test_every_label_of_the_docstrings_is_the_answer(questions: tuple[list[Record], list[Record]]) -> None:
    words, dropped = Words(p.text for r in questions[0] for p in r.passages), Counter()
    for record in [*questions[0], *questions[1]]:
        for k, passage in enumerate(record.passages):
            tokens, at = sample(record, k, words, dropped=dropped)
            assert tokens[at:] == [*words(passage.answer)["input_ids"], words.sep_token_id]
            assert (
                passage.start is None if not passage.answer else passage.text.startswith(passage.answer, passage.start)
            )
    assert not dropped


def test_tokenizers_and_words_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="texts is a str"):
        Words("hello hello")
    for number in (-1, 5):
        with pytest.raises(ValueError, match=f"tokens has {number}, must be from 0 to 4"):
            Words(["a"], least=1).decode([4, number])
    slow = bert(tmp_path)
    record = Record("r", "a", (Passage("a"),), ())
    with pytest.raises(ValueError, match="longest is 0"):
        sample(record, 0, slow, longest=0)

    class Slow(Words):
        is_fast = False

    with pytest.raises(ValueError, match="tokenizer is a slow one"):
        source(Slow(["a"]), "a", "b")


@pytest.mark.parametrize(
    ("records", "error", "words"),
    [
        ((one for one in [RECORD]), TypeError, r"records is .*\(generator\), must be a Sequence"),
        (RECORD, TypeError, "records is a Record, must be a list"),
        ("text", TypeError, "records is a str, must be a list"),
        ([RECORD, ("r", "q", (), ())], TypeError, r"one of records is .*\(tuple\), must be a Record"),
        (
            [RECORD._replace(passages=())],
            ValueError,
            "record 'r' has no passages, must have",
        ),
        (
            [RECORD._replace(passages=("a b",))],
            ValueError,
            r"record 'r' has the passages .*'a b'.* one Passage",
        ),
    ],
    ids=["generator", "one", "text", "tuple", "without", "passages of text"],
)
@pytest.mark.parametrize("function", [fit, answer], ids=lambda f: f.__name__)
def test_records_are_a_list_of_records(function: Any, records: Any, error: type[Exception], words: str) -> None:
    options = {"steps": 2, "length": 9} | ({"progress": False} if function is fit else {})
    tokenizer = Words(["a b c"], least=1)
    model = Transformer(Config(len(tokenizer), width=8, layers=1, heads=2))
    function(model, [RECORD], tokenizer, **options)
    with pytest.raises(error, match=f"{function.__name__}: {words}"):
        function(model, records, tokenizer, **options)


def test_other_bad_input_of_the_reader() -> None:
    tokenizer = Words(["a b c"], least=1)
    model = Transformer(Config(len(tokenizer), width=8, layers=1, heads=2))
    with pytest.raises(TypeError, match=r"answer: model is .*\(DataParallel\), must be a Transformer"):
        answer(cast(Any, nn.DataParallel(model)), [RECORD], tokenizer)
    with pytest.raises(TypeError, match=r"fit: model is .*\(Linear\), must be a Transformer"):
        fit(cast(Any, nn.Linear(2, 2)), [RECORD], tokenizer, steps=1)
    with pytest.raises(TypeError, match=r"fit: optimizers is \[\] \(list\), must be a Callable"):
        fit(model, [RECORD], tokenizer, steps=1, optimizers=cast(Any, []))
    for wrong, right in (("batchsize", "batch_size"), ("lenght", "length"), ("checkpoints", "checkpoint")):
        with pytest.raises(TypeError, match=rf"^fit: {wrong} is no argument, must be .*Do you mean {right}"):
            fit(model, [RECORD], tokenizer, steps=1, **cast(Any, {wrong: 2}))
    for texts in ([b"a"], ["a", 3]):
        with pytest.raises(TypeError, match=r"Words: one of texts is .*, must be a str"):
            Words(cast(Any, texts))
    with pytest.raises(TypeError, match=r"Words: text is \['a'\] \(list\), must be a str"):
        tokenizer(cast(Any, ["a"]))


def test_numpy_integers_are_seeds() -> None:
    assert parameters(["scipy.odr"], seed=cast(Any, np.int64(3))) == parameters(["scipy.odr"], seed=3)
    words, losses = Words(["a b"], least=1), []
    for seed in (np.int64(2), 2):
        torch.manual_seed(0)
        model = Transformer(Config(len(words), width=8, layers=1, heads=1))
        record = Record("r", "a", (Passage("a b", "b"), Passage("b")), ("b",))
        losses.append(fit(model, [record], words, steps=3, seed=cast(Any, seed), progress=False))
    assert losses[0] == losses[1]
    for function in (
        lambda seed: parameters(LABELS, seed=seed),
        lambda s: fit(model, [record], words, steps=1, seed=s),
    ):
        for seed in (0.5, None, True):
            with pytest.raises(TypeError, match="seed is "):
                function(cast(Any, seed))


def test_what_is_not_asked_for_is_counted_at_the_end() -> None:
    words = Words(["5km a b"], least=1)
    model = Transformer(Config(len(words), width=8, layers=1, heads=1))
    records = [Record("r", "a", (Passage("5km a", "5"),), ("5",)), Record("s", "a", (Passage("a b", "b"),), ("b",))]
    with pytest.warns(UserWarning, match="4 of 8 samples have an answer that was not asked for: 4 not whole words"):
        fit(model, records, words, steps=2, batch_size=4, progress=False)
    with pytest.raises(ValueError, match="record 'r7' has no passages"):
        fit(model, [Record("r7", "a", (), ())], words, steps=1, progress=False)


def test_gradients_are_clipped_to_norm_one() -> None:
    words = Words(["a b"], least=1)
    torch.manual_seed(0)
    model, norms = Transformer(Config(len(words), width=8, layers=1, heads=1)), []
    with torch.no_grad():
        model.bias[5] = 50.0  # surely wrong, so the gradient is large

    def optimizers(net: torch.nn.Module) -> list[torch.optim.Optimizer]:
        used = torch.optim.SGD(net.parameters(), 1e-9)
        grads = lambda: torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        used.register_step_pre_hook(lambda *_: norms.append(grads().norm().item()))
        return [used]

    record = Record("r", "a", (Passage("a b", "a"),), ("a",))
    fit(model, [record], words, steps=2, warmup=0, optimizers=optimizers, progress=False)
    assert norms == pytest.approx([1, 1], rel=1e-4)


# --- training and answering

NAMES, TYPES = "abcdefgh", ["int", "float", "str", "bool", "list of int"]


@pytest.mark.parametrize(("most", "advice"), [(5, "4 fit: pass batch_size=4"), (1, "1 fit"), (0, "not even one")])
def test_out_of_memory_says_which_batch_of_questions_fits(most: int, advice: str, monkeypatch: Any) -> None:
    records = toy(20, 0)
    words = Words(passage.text for record in records for passage in record.passages)
    model = Transformer(Config(len(words), width=16, layers=1, heads=2, positions=40))
    loss = model.loss

    def small(tokens: torch.Tensor, *given: Any) -> torch.Tensor:
        if len(tokens) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loss(tokens, *given)

    monkeypatch.setattr(model, "loss", small)
    message = rf"^fit: batches of 8 do not fit into the memory of cpu; {advice}"
    with pytest.raises(torch.OutOfMemoryError, match=message):
        fit(model, records, words, steps=1, batch_size=8, progress=False)
    monkeypatch.setattr(model, "loss", lambda *given: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):  # is no matter of memory
        fit(model, records, words, steps=1, batch_size=8, progress=False)


def toy(n: int, seed: int) -> list[Record]:
    """Two parameters a passage; the question is one of them, or in every third passage none."""
    rng, made = torch.Generator().manual_seed(seed), []
    draw = lambda k: int(torch.randint(k, (1,), generator=rng))
    for k in range(n):
        name = NAMES[draw(8)]
        kind, found = TYPES[draw(5)], []
        for number in range(3):
            others = [c for c in NAMES if c != name]
            lines = [f"{others[draw(7)]} : {TYPES[draw(5)]} ;" for _ in range(2)]
            if number < 2:
                lines[draw(2)] = f"{name} : {kind} ;"
            found.append(Passage(" ".join(lines), kind if number < 2 else ""))
        made.append(Record(str(k), name, tuple(found), (kind,)))
    return made


@pytest.fixture(scope="module")
def trained() -> tuple[Transformer, Words, list[float], list[Record]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train, test = toy(600, 0), toy(60, 1)
    words = Words(p.text for r in train for p in r.passages)
    torch.manual_seed(0)
    model = Transformer(Config(len(words), width=32, layers=2, heads=2, positions=32, shift=True))
    losses = fit(model, train, words, steps=300, batch_size=16, warmup=20, progress=False)
    torch.set_num_threads(threads)
    return model, words, losses, test


def test_reading_is_learned(trained: tuple[Transformer, Words, list[float], list[Record]]) -> None:
    model, words, losses, test = trained
    assert len(losses) == 300 and sum(losses[-20:]) / 20 < 0.3 < losses[0]
    read = answer(model, test, words, steps=6)
    found = score([r.text for r in read], [r.answers for r in test])
    assert found.em > 0.8
    decided = [
        bool(p.answer) == a
        for record, r in zip(test, read, strict=True)
        for p, a in zip(record.passages, r.alive, strict=True)
    ]
    assert sum(decided) > 0.9 * len(decided)
    assert (
        score([r.text for r in answer(model, test, words, steps=6, exclude=False)], [r.answers for r in test]).em
        <= found.em
    )
    for record, r in zip(test, read, strict=True):
        for passage, place, votes in zip(record.passages, r.places, r.alive, strict=True):
            if place and votes:
                assert passage.text[slice(*place)].lower() == r.text.lower()
        assert not r.text or any(r.text in p.text for p in record.passages)
        assert all((e > 0.5) <= (not a) for e, a in zip(r.empty, r.alive, strict=True))


def test_an_answer_does_not_depend_on_its_batch(trained: tuple[Transformer, Words, list[float], list[Record]]) -> None:
    model, words, _, test = trained
    some = [record._replace(passages=record.passages[: 1 + k % 3]) for k, record in enumerate(test[:9])]
    together = answer(model, some, words, steps=6)
    for size in (1, 4):
        apart = answer(model, some, words, steps=6, batch_size=size)
        assert [(r.text, r.places, r.alive) for r in apart] == [(r.text, r.places, r.alive) for r in together]
    assert [len(r.places) for r in together] == [len(r.passages) for r in some]


def test_answers_without_a_passage_that_knows(trained: tuple[Transformer, Words, list[float], list[Record]]) -> None:
    model, words, _, test = trained
    lonely = [record._replace(passages=record.passages[2:]) for record in test]
    read = answer(model, lonely, words, steps=6)
    silent = [r for r in read if not any(r.alive)]
    assert len(silent) > 0.8 * len(read)
    assert all(r.text == "" and r.tokens == [] and r.places == (None,) for r in silent)
    with pytest.raises(ValueError, match="record '0' has no passages"):
        answer(model, [test[0]._replace(passages=())], words)
    with pytest.raises(ValueError, match="batch_size is 0"):
        answer(model, test, words, batch_size=0)
    assert answer(model, [], words) == []


def test_the_text_is_that_of_a_passage_that_voted(
    trained: tuple[Transformer, Words, list[float], list[Record]],
) -> None:
    model, words = trained[:2]
    silent, speaks = Passage("b : list  of  int ; c : str ;"), Passage("c : bool ; a : list of int ;")
    (read,) = answer(model, [Record("x", "a", (silent, speaks), ())], words, steps=6)
    assert read.alive == (False, True) and None not in read.places and read.text == "list of int"


def test_only_the_passage_may_be_copied(
    trained: tuple[Transformer, Words, list[float], list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, words, _, test = trained
    seen: dict[str, Any] = {}
    search = decoding.beam_search
    monkeypatch.setattr(
        "gantext.qa.reader.beam_search", lambda *args, **more: search(*args, **(seen.update(more) or more))
    )
    record = Record("x", "a", (Passage("a : int ;"), Passage("b : float")), ())
    answer(model, [record], words, steps=3)
    assert seen["spans"].int().tolist() == [[[0, 1, 1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0, 0, 0]]]
    answer(model, [record, test[0]], words, steps=3)
    assert seen["valid"].tolist() == [[True, True, False], [True, True, True]]


def test_free_answers_are_spelled_by_the_tokenizer(
    trained: tuple[Transformer, Words, list[float], list[Record]],
) -> None:
    model, words, _, test = trained
    one = Record("x", "a", (Passage("a : list of int ;"),), ("",))
    (read,) = answer(model, [one], words, spans=False, exclude=False, steps=6, vote=decoding.largest)
    assert read.text in (words.decode(read.tokens), "list of int")
    (read,) = answer(model, [test[0]], words, steps=2)
    assert len(read.tokens) <= 2


def test_an_answer_can_be_demanded(trained: tuple[Transformer, Words, list[float], list[Record]]) -> None:
    model, words = trained[:2]
    one = Record("x", "a", (Passage("b : list of int ;"),), ("",))  # it does not say what a is
    found = [answer(model, [one], words, exclude=False, steps=6, beams=2, min_tokens=n)[0] for n in (0, 1, 2)]
    assert found[0].text == "" and [len(read.tokens) >= n for n, read in enumerate(found)] == [True] * 3
    assert found[1].places[0] is not None


def test_training_repeats_and_refuses(trained: tuple[Transformer, Words, list[float], list[Record]]) -> None:
    words, records = trained[1], toy(20, 2)
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        model = Transformer(Config(len(words), width=8, layers=1, heads=1, positions=32))
        losses.append(fit(model, records, words, steps=4, batch_size=8, seed=seed, progress=False))
        assert not model.training
    assert losses[0] == losses[1] != losses[2]
    with pytest.raises(ValueError, match="steps is 0"):
        fit(model, records, words, steps=0, progress=False)
    with pytest.raises(ValueError, match="warmup is -1"):
        fit(model, records, words, steps=1, warmup=-1, progress=False)
    with pytest.raises(ValueError, match="records is empty"):
        fit(model, [], words, steps=1, progress=False)
    with pytest.raises(ValueError, match="at most 8"):  # a passage longer than the model
        fit(
            Transformer(Config(len(words), width=8, layers=1, heads=1, positions=8)),
            records,
            words,
            steps=1,
            progress=False,
        )
    with torch.no_grad():
        model.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="step 1"):
        fit(model, records, words, steps=2, progress=False)


class Crash(Exception):
    pass


def test_a_stopped_training_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, file = toy(20, 2), tmp_path / "run.pt"
    words = Words(p.text for r in records for p in r.passages)

    def train(model: Transformer | None = None, **options: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
        torch.manual_seed(options.pop("start", 0))
        model = model or Transformer(Config(len(words), width=8, layers=1, heads=1, positions=32))
        options = cast(Any, {"steps": 9, "batch_size": 8, "warmup": 2, "progress": False} | options)
        return fit(model, records, words, **options), model.state_dict()

    losses, weights = train()
    calls = iter(range(9))

    def crash(*arguments: Any, **more: Any) -> torch.Tensor:
        if next(calls) == 7:
            raise Crash
        return plain(*arguments, **more)

    plain = Transformer.loss
    monkeypatch.setattr(Transformer, "loss", crash)
    with pytest.raises(Crash):
        train(checkpoint=file, save_every=3)
    assert torch.load(file, weights_only=True)["step"] == 6 and [p.name for p in tmp_path.iterdir()] == ["run.pt"]
    seen: list[int] = []
    monkeypatch.setattr(Transformer, "loss", lambda *a, **more: (seen.append(1), plain(*a, **more))[1])
    resumed, again = train(checkpoint=file, save_every=3, start=1)
    assert resumed == losses and len(seen) == 3
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    finished, again = train(checkpoint=str(file), start=2)  # nothing is left to do
    assert finished == losses and len(seen) == 3
    assert all(torch.equal(again[name], weights[name]) for name in weights)


@pytest.mark.parametrize("batches", [2, 3])
def test_accumulated_batches_of_questions_are_one_as_large(batches: int, tmp_path: Path) -> None:
    """To rounding, though their numbers of targets differ; a resumed run repeats an unbroken one to the bit."""
    from accelerate import Accelerator

    records = toy(20, 2)
    words = Words(p.text for r in records for p in r.passages)

    def train(batches: int, steps: int = 9, **options: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        model = Transformer(Config(len(words), width=8, layers=1, heads=1, positions=32)).double()
        sgd = lambda net: [torch.optim.SGD(net.parameters(), lr=2.0)]
        more: Any = {"optimizers": sgd, "progress": False, "warmup": 2} | options
        more |= {"batch_size": 6 // batches, "accelerator": Accelerator(gradient_accumulation_steps=batches)}
        return fit(model, records, words, steps=steps, **more), model.state_dict()

    (whole, weights), (losses, others) = train(1), train(batches)
    assert losses == pytest.approx(whole, rel=1e-9) and whole[-1] < whole[0] - 0.1
    torch.testing.assert_close(weights, others, rtol=1e-8, atol=1e-11)
    file = tmp_path / "run.pt"
    with pytest.raises(Crash):
        train(batches, checkpoint=file, save_every=4, optimizers=lambda net: [Stopping(net.parameters(), lr=2.0)])
    assert torch.load(file)["step"] == 4
    resumed, again = train(batches, checkpoint=file, optimizers=lambda net: [Stopping(net.parameters(), lr=2.0)])
    assert resumed == losses and all(torch.equal(again[name], others[name]) for name in others)
    with pytest.raises(ValueError, match="has another batch_size, optimizers, accumulated batches"):
        train(6, checkpoint=file)


class Stopping(torch.optim.SGD):
    """Stops at its sixth step."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        if self.steps == 6:
            raise Crash
        return super().step(closure)


def test_scaled_losses_train_alike() -> None:
    """As 16-bit training on a GPU has them: gradients are clipped, and each optimizer steps, by the true ones."""
    from accelerate import Accelerator

    records = toy(20, 2)
    words = Words(p.text for r in records for p in r.passages)

    def train(scaler: torch.amp.GradScaler | None) -> list[float]:
        torch.manual_seed(0)
        model = Transformer(Config(len(words), width=8, layers=1, heads=1, positions=32))
        accelerator = Accelerator()
        accelerator.scaler = scaler
        return fit(model, records, words, steps=8, batch_size=8, warmup=2, progress=False, accelerator=accelerator)

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=3)
    assert train(scaler) == pytest.approx(train(None), rel=1e-5)
    assert scaler.get_scale() == 2.0**14  # grew after steps 3 and 6, once for both optimizers


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"steps": 5}, "steps"),
        ({"batch_size": 3}, "batch_size"),
        ({"seed": 1}, "seed"),
        ({"warmup": 0}, "warmup"),
        ({"distant": True}, "distant"),
        ({"length": 20}, "lengths"),
        ({"optimizers": lambda net: [torch.optim.Adam(net.parameters())]}, "optimizers"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused(options: dict[str, Any], named: str, tmp_path: Path) -> None:
    records = toy(6, 2)
    words = Words(p.text for r in records for p in r.passages)
    model = Transformer(Config(len(words), width=8, layers=1, heads=1, positions=32))
    usual: Any = {"steps": 2, "batch_size": 2, "progress": False, "checkpoint": tmp_path / "run.pt"}
    fit(model, records, words, **usual)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=rf"has another {named}, must be of the same recipe"):
        fit(model, records, words, **usual | options)
    causal = Transformer(Config(len(words), width=8, layers=1, heads=1, positions=32, causal=True))
    with pytest.raises(ValueError, match="has another model, "):
        fit(causal, records, words, **usual)
    with pytest.raises(ValueError, match="has another records, "):
        fit(model, records[:-1], words, **usual)
    other = [*records[:-1], records[-1]._replace(question="w1 w0")]  # as many, of the same names
    with pytest.raises(ValueError, match="has another records, "):
        fit(model, other, words, **usual)
    renamed = Words((f"w{k} " for k in range(len(words) - 4)), least=1)
    assert len(renamed) == len(words)
    with pytest.raises(ValueError, match="has another tokenizer, "):
        fit(model, records, renamed, **usual)
    fit(model, tuple(records), words, **usual)  # finished: nothing is left to do
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    (tmp_path / "run.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match="is damaged"):
        fit(model, records, words, **usual)
    with pytest.raises(ValueError, match="save_every is 0"):
        fit(model, records, words, **usual | {"save_every": 0})


def test_every_record_is_seen_before_one_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    records, seen = toy(10, 3), []
    words = Words(p.text for r in records for p in r.passages)
    given_options: list[tuple[str, Any]] = []

    def watched(record: Record, *rest: Any, **more: Any) -> tuple[list[int], int]:
        seen.append(record.name)
        given_options.extend(more.items())
        return sample(record, *rest, **more)

    monkeypatch.setattr("gantext.qa.reader.sample", watched)
    model = Transformer(Config(len(words), width=8, layers=1, heads=1, positions=32))
    rates: list[float] = []

    def optimizers(net: torch.nn.Module) -> list[torch.optim.Optimizer]:
        used = torch.optim.SGD(net.parameters(), 1.0)
        used.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
        return [used]

    fit(model, records, words, steps=5, batch_size=4, warmup=2, optimizers=optimizers, progress=False)
    assert len(set(seen[:10])) == 10 and len(set(seen[10:20])) == 10 and seen[:10] != seen[10:20]
    assert rates == pytest.approx([0.5, 1, 1, 2 / 3, 1 / 3])
    assert {pair for pair in given_options if pair[0] != "dropped"} == {("distant", False)}
    given_options.clear()
    fit(model, records, words, steps=1, batch_size=4, distant=True, length=30, progress=False)
    assert {pair for pair in given_options if pair[0] != "dropped"} == {("distant", True), ("length", 30)}


def test_muon_takes_the_hidden_matrices_only() -> None:
    model = Transformer(Config(9, width=8, layers=2, heads=2, shift=True))
    hidden, others = ({id(p) for p in used.param_groups[0]["params"]} for used in muon(model, 1e-3))
    names = {name for name, p in model.named_parameters() if id(p) in hidden}
    assert len(hidden) == 10 and hidden | others == {id(p) for p in model.parameters()} and not hidden & others
    assert not {"tokens.weight", "positions.weight", "segments.weight"} & names
    with pytest.raises(ValueError, match="rate is 0"):
        muon(model, 0)
    for other in (nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)), nn.Sequential()):
        with pytest.raises(ValueError, match=r"^muon: model is a \w+ without matrices named 'blocks\.', must"):
            muon(other)
    with pytest.raises(ValueError, match=r"without parameters not named 'blocks\.'"):
        muon(nn.ModuleDict({"blocks": nn.Linear(2, 2, bias=False)}))
    with pytest.raises(TypeError, match=r"^muon: model is .* must be a Module"):
        muon(cast(Any, model.parameters()))


@pytest.mark.parametrize("able", [True, False])
def test_muon_takes_no_emulated_products(able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 as in bfloat16 the update has singular values near 1; a CPU without bfloat16 never multiplies it."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: able, raising=False)
    torch.manual_seed(0)
    model = Transformer(Config(9, width=32, layers=1, heads=2))
    hidden, _ = muon(model, rate=0.1)
    before = [p.detach().clone() for p in hidden.param_groups[0]["params"]]
    grads = [torch.randn_like(p) for p in before]
    for p, g in zip(hidden.param_groups[0]["params"], grads, strict=True):
        p.grad = g.clone()
    seen: list[torch.dtype] = []
    product = torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda *a, **k: (seen.append(a[0].dtype), product(*a, **k))[1])
    hidden.step()
    assert {*seen} == {torch.bfloat16 if able else torch.float32}
    for p, old, g in zip(hidden.param_groups[0]["params"], before, grads, strict=True):
        values = torch.linalg.svdvals((old - p.detach()) / 1.0)
        assert values.min() > 0.5 * values.max() > 0
        assert torch.equal(p.grad, g)  # is not worked upon


def test_a_bert_reads(tmp_path: Path) -> None:
    import transformers

    tokenizer = bert(tmp_path)
    torch.manual_seed(0)
    small = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    model = Transformer.from_bert(transformers.BertForMaskedLM(small))
    records = [Record("r", "a", (Passage("a : floats, b : int", "floats"), Passage("b : int")), ("floats",))] * 8
    adam = lambda model: [torch.optim.Adam(model.parameters(), 1e-2)]
    losses = fit(model, records, tokenizer, steps=60, batch_size=8, warmup=0, optimizers=adam, progress=False)
    assert losses[-1] < 0.1 < losses[0]
    (read, *_) = answer(model, records[:1], tokenizer, steps=4)
    assert read.text == "floats" and read.places == ((4, 10), None) and read.alive == (True, False)
