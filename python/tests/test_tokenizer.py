import json
import pickle

import pytest

import gpu_tlm
import reference
from conftest import END, TEXT


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return gpu_tlm.train_bpe(path, 300, [END])


def test_training_learns_the_merges_of_the_plain_algorithm(trained):
    vocab, merges = trained
    assert merges == reference.train_bpe(TEXT, 300, [END])
    assert len(vocab) == 300
    assert vocab[0] == END.encode()
    assert [vocab[257 + i] for i in range(len(merges))] == [a + b for a, b in merges]


def test_special_tokens_may_come_last(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    vocab, _ = gpu_tlm.train_bpe(path, 270, [END], special_ids="last")
    assert vocab[269] == END.encode()
    with pytest.raises(ValueError, match="special_ids"):
        gpu_tlm.train_bpe(path, 270, [END], special_ids="middle")


def test_encoding_gives_the_ids_of_the_plain_algorithm(trained):
    vocab, merges = trained
    tokenizer = gpu_tlm.Tokenizer(vocab, merges, [END])
    ids = tokenizer.encode(TEXT)
    assert ids == reference.encode(TEXT, vocab, merges, [END])
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.vocab == vocab
    assert tokenizer.merges == merges
    assert tokenizer.special_tokens == {END: 0}
    assert tokenizer.vocab_size == len(tokenizer) == 300
    assert tokenizer.token_id(END) == 0


@pytest.mark.parametrize("text", ["", "a", "é🙂 naïve\n", "s"])
def test_texts_come_back(trained, text):
    tokenizer = gpu_tlm.Tokenizer(*trained, [END])
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_half_a_character_is_decoded_to_a_replacement(trained):
    tokenizer = gpu_tlm.Tokenizer(*trained, [END])
    ids = tokenizer.encode("🙂")
    assert tokenizer.decode(ids[:1]) == "\ufffd"
    assert tokenizer.decode_bytes(ids) == "🙂".encode()


def test_an_iterable_is_read_as_ids_are_taken(trained):
    tokenizer = gpu_tlm.Tokenizer(*trained, [END])
    taken = []

    def lines():
        for line in TEXT.splitlines(keepends=True):
            taken.append(line)
            yield line

    ids = tokenizer.encode_iterable(lines())
    assert taken == []
    first = next(ids)
    assert len(taken) == 1
    rest = [first, *ids]
    assert rest == [i for line in taken for i in tokenizer.encode(line)]
    assert tokenizer.decode(iter(rest)) == TEXT
    assert tokenizer.decode(dict.fromkeys(rest[:2]).keys()) == tokenizer.decode(rest[:2])
    with pytest.raises(TypeError, match="texts, not int"):
        next(tokenizer.encode_iterable([1]))


def test_special_tokens_that_the_vocabulary_lacks_come_behind_it(trained):
    vocab, merges = trained
    tokenizer = gpu_tlm.Tokenizer(vocab, merges, [END, "<|pad|>"])
    assert tokenizer.special_tokens == {END: 0, "<|pad|>": 300}
    assert tokenizer.encode("a<|pad|>")[-1] == 300


def test_files_of_any_name_are_read(trained, tmp_path):
    vocab, merges = trained
    tokenizer = gpu_tlm.Tokenizer(vocab, merges, [END])
    tokenizer.save(tmp_path / "ours")
    ids = tokenizer.encode(TEXT)
    assert gpu_tlm.Tokenizer.from_files(tmp_path / "ours").encode(TEXT) == ids
    pair = (str(tmp_path / "ours/vocab.json"), str(tmp_path / "ours/merges.txt"))
    assert gpu_tlm.Tokenizer.from_files(*pair, [END]).encode(TEXT) == ids
    (tmp_path / "v.json").write_text(json.dumps({i: t.hex() for i, t in vocab.items()}))
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(merges))
    pickled = gpu_tlm.Tokenizer.from_files(tmp_path / "v.json", tmp_path / "m.pkl", [END])
    assert pickled.encode(TEXT) == ids


def test_errors_say_what_is_wrong(trained, tmp_path):
    vocab, merges = trained
    tokenizer = gpu_tlm.Tokenizer(vocab, merges, [END])
    with pytest.raises(ValueError, match="id 300 at position 1 is outside of 0 to 299"):
        tokenizer.decode([1, 300])
    with pytest.raises(TypeError, match="integers"):
        tokenizer.decode([0.5])
    with pytest.raises(FileNotFoundError) as raised:
        gpu_tlm.Tokenizer.from_files(tmp_path / "none")
    assert raised.value.filename == str(tmp_path / "none")
    with pytest.raises(gpu_tlm.GpuTlmError, match="does not hold a tokenizer"):
        gpu_tlm.Tokenizer.from_files(tmp_path)
    with pytest.raises(TypeError, match="ids and bytes"):
        gpu_tlm.Tokenizer({0: "a"}, [])
    with pytest.raises(TypeError, match="pairs of bytes"):
        gpu_tlm.Tokenizer(vocab, [("a", "b")])
    with pytest.raises(ValueError, match="merge [0-9]+ .*neither a byte nor made by an earlier merge"):
        gpu_tlm.Tokenizer(vocab, merges[::-1])
    with pytest.raises(ValueError, match="byte"):
        gpu_tlm.Tokenizer({0: b"a"}, [])
    with pytest.raises(ValueError, match="a vocabulary of 10 tokens"):
        gpu_tlm.train_bpe(__file__, 10, [])
    with pytest.raises(FileNotFoundError):
        gpu_tlm.train_bpe(tmp_path / "none", 300, [])
