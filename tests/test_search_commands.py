"""The commands embed and search, and how good the search of real embeddings is."""

import json

import numpy as np
import pytest

from pyint8dot import __main__ as command_line
from pyint8dot.cli import demo
from pyint8dot.models import MiniLM
from pyint8dot.search import Index, IndexFileError

FOOD, MONEY = demo.SENTENCES[:3], demo.SENTENCES[6:9]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An index of two texts, one added to the other."""
    place = tmp_path_factory.mktemp("search")
    for name, lines in (("one.txt", demo.SENTENCES[:6]), ("two.txt", demo.SENTENCES[6:])):
        (place / name).write_text("\n".join(["", *lines, "  ", ""]), encoding="utf-8")
        assert command_line.main(["embed", str(place / name), "-o", str(place / "index")]) == 0
    return place / "index"


def test_lines_are_found(folder, capsys):
    assert command_line.main(["search", str(folder), "loans and interest", "cooking", "-k", "3", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["query"] for each in found] == ["loans and interest", "cooking"]
    for each, wanted in zip(found, (MONEY, FOOD), strict=True):
        assert {result["text"] for result in each["results"]} == set(wanted)
        assert all(demo.SENTENCES[result["line"]] == result["text"] for result in each["results"])


def test_they_are_shown(folder, capsys):
    assert command_line.main(["search", str(folder), "pets", "-k", "2"]) == 0
    shown = capsys.readouterr().out
    assert demo.SENTENCES[9] in shown
    assert "score" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["embed", "nowhere.txt", "-o", "x"], "nowhere.txt"),
        (["search", "nowhere", "query"], "there is no index"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert command_line.main(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "marked.txt").write_text("Cats purr.\n", encoding="utf-8-sig")
    assert command_line.main(["embed", str(tmp_path / "marked.txt"), "-o", str(tmp_path / "x")]) == 0
    assert (tmp_path / "x" / "lines.txt").read_bytes() == b"Cats purr.\n"


def test_an_empty_text(tmp_path, capsys):
    (tmp_path / "empty.txt").write_text(" \n\n")
    assert command_line.main(["embed", str(tmp_path / "empty.txt"), "-o", str(tmp_path / "x")]) == 2
    assert "has no lines" in capsys.readouterr().err


def test_a_text_of_another_encoding(tmp_path, capsys):
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    assert command_line.main(["embed", str(tmp_path / "latin.txt"), "-o", str(tmp_path / "x")]) == 2
    assert "latin.txt must be UTF-8" in capsys.readouterr().err


def test_fewer_lines_than_vectors(folder, tmp_path, capsys):
    index = Index.open(folder)
    index.save(tmp_path)
    (tmp_path / "lines.txt").write_text("one\n")
    assert command_line.main(["search", str(tmp_path), "query"]) == 2
    assert "has 1 lines for 12 vectors" in capsys.readouterr().err


def test_a_damaged_index(folder, tmp_path, capsys):
    (tmp_path / "index.json").write_text("{}")
    assert command_line.main(["search", str(tmp_path), "query"]) == 2
    assert "not the header of an index" in capsys.readouterr().err
    with pytest.raises(IndexFileError):
        Index.open(tmp_path)


def sentences(count):
    """Sentences of many words and topics, made of a seed."""
    rng = np.random.default_rng(7)
    parts = [[word.strip(".,") for word in sentence.split()] for sentence in demo.SENTENCES]
    words = sorted({word for part in parts for word in part})
    return [" ".join(rng.choice(words, rng.integers(3, 12))) for _ in range(count)]


@pytest.mark.static  # every processor gets the same bits
def test_recall_on_embeddings():
    """Made-up sentences lie closer together than real ones do, which makes it harder."""
    vectors = MiniLM.load().encode(sentences(260))
    corpus, queries = vectors[:220], vectors[220:]
    exact = np.argsort(-(queries.astype(np.float64) @ corpus.T.astype(np.float64)), axis=1)[:, :10]

    def recall(**options):
        keep = options.pop("keep")
        _, ids = Index(corpus, keep=keep).search(queries, 10, **options)
        return np.mean([len(set(a) & set(b)) for a, b in zip(ids.tolist(), exact.tolist(), strict=True)]) / 10

    assert recall(keep=None) >= 0.97
    assert recall(keep="float32", rescore=True) >= 0.999
    assert recall(keep="int8", rescore=True) >= 0.999
