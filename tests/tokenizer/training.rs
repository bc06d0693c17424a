//! What is learnt: compared with a naive trainer, and by hand-made cases.

use gpu_tlm::data::tokenizer::Tokenizer;
use gpu_tlm::data::tokenizer::train::{SpecialIds, TrainOptions, train};
use proptest::prelude::*;

use super::{END_OF_TEXT, learn, options};

/// The learnt tokens, in order, as text.
fn learnt(tokenizer: &Tokenizer) -> Vec<String> {
    (257..)
        .map_while(|id| tokenizer.token_bytes(id))
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .collect()
}

/// The rule itself: counts all pairs anew for each merge. `words` are the pre-tokens.
fn learn_naively(words: &[&str], n_merges: usize) -> Vec<String> {
    let mut words: Vec<Vec<Vec<u8>>> = words
        .iter()
        .map(|word| word.bytes().map(|byte| vec![byte]).collect())
        .collect();
    let mut products = Vec::new();
    for _ in 0..n_merges {
        let mut counts = std::collections::BTreeMap::new();
        for pair in words.iter().flat_map(|word| word.windows(2)) {
            *counts
                .entry((pair[0].clone(), pair[1].clone()))
                .or_insert(0) += 1;
        }
        let best = counts
            .into_iter()
            .max_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        let Some(((left, right), _)) = best else {
            break;
        };
        for word in &mut words {
            let mut at = 0;
            while at + 1 < word.len() {
                if word[at] == left && word[at + 1] == right {
                    word[at] = [&left[..], &right].concat();
                    word.remove(at + 1);
                }
                at += 1;
            }
        }
        products.push(String::from_utf8([left, right].concat()).unwrap());
    }
    products
}

#[test]
fn training_equals_the_naive_trainer() {
    // Few letters, so that ties and overlapping pairs such as "aaa" abound. The learner gives a
    // product that two merges make one id; the naive one lists it twice.
    proptest!(|(words in prop::collection::vec("[ab]{1,7}|[abcde]{1,5}", 1..25))| {
        let text = words.join(" ");
        let pretokens: Vec<&str> = text
            .match_indices(' ')
            .map(|(at, _)| at)
            .chain([text.len()])
            .scan(0, |start, end| Some(&text[std::mem::replace(start, end)..end]))
            .collect();
        let mut wanted = learn_naively(&pretokens, usize::MAX);
        let mut seen = std::collections::BTreeSet::new();
        wanted.retain(|product| seen.insert(product.clone()));
        wanted.truncate(40);
        prop_assert_eq!(learnt(&learn(&text, 257 + 40)), wanted);
    });
}

#[test]
fn ties_go_to_the_greatest_pair_of_byte_strings() {
    for (text, wanted) in [
        ("ab cd", &["cd", "ab", " cd"][..]),
        ("xa xb", &["xb", "xa", " xb"]),
        // 0xC3 0xA9 is greater than any ASCII letter.
        ("zz é", &["é", "zz", " é"]),
    ] {
        assert_eq!(learnt(&learn(text, 260)), wanted, "{text:?}");
    }
}

#[test]
fn ids_are_special_tokens_then_bytes_then_merges() {
    let tokenizer = train(&["abab"], &options(260, &["<a>", "<b>"])).unwrap();
    let ids = ["<a>", "<b>", "!", "a", " ", "ab", "abab"].map(|text| tokenizer.token_id(text));
    assert_eq!(ids, [0, 1, 2, 66, 222, 258, 259].map(Some));
    assert_eq!(tokenizer.special_ids(), [0, 1]);
    assert_eq!(tokenizer.vocab_size(), 260);
}

#[test]
fn special_tokens_get_the_last_ids_where_asked() {
    let options = TrainOptions {
        special_ids: SpecialIds::Last,
        ..options(260, &["<a>", "<b>"])
    };
    let tokenizer = train(&["abab<a>"], &options).unwrap();
    let ids = ["!", "a", "ab", "abab", "<a>", "<b>"].map(|text| tokenizer.token_id(text));
    assert_eq!(ids, [0, 64, 256, 257, 258, 259].map(Some));
    assert_eq!(tokenizer.special_ids(), [258, 259]);
    assert_eq!(tokenizer.encode("ab<b>"), [256, 259]);
}

#[test]
fn training_stops_where_no_pair_is_left() {
    let tokenizer = learn("aaa", 1000);
    assert_eq!(learnt(&tokenizer), ["aa", "aaa"]);
    assert_eq!(learn("", 1000).vocab_size(), 257);
}

#[test]
fn special_tokens_split_texts_and_are_never_merged() {
    let text = "ab<|endoftext|>ab<|endoftext|>a<|b<|endoftext|>".repeat(3);
    let tokenizer = train(
        &[&text],
        &options(1000, &[END_OF_TEXT, "<|endoftext|><|endoftext|>"]),
    )
    .unwrap();
    for id in 258.. {
        let Some(token) = tokenizer.token_bytes(id) else {
            break;
        };
        assert!(b"ab<|a<|b".windows(token.len()).any(|part| part == token));
    }
    let ab = tokenizer.token_id("ab").unwrap();
    assert_eq!(tokenizer.encode("ab<|endoftext|>ab"), [ab, 0, ab]);
    assert_eq!(
        tokenizer.encode("<|endoftext|><|endoftext|><|endoftext|>"),
        [1, 0]
    );
}

#[test]
fn impossible_requests_are_usage_errors() {
    for (options, wanted) in [
        (
            options(256, &[END_OF_TEXT]),
            "a vocabulary of 256 tokens is not possible: ask for 257",
        ),
        (options(300, &[""]), "special token \"\" is empty"),
        (
            options(300, &["<a>", "<a>"]),
            "special token \"<a>\" is given twice",
        ),
        (options(300, &["a"]), "is the token of a byte"),
        (options(300, &["Ġ"]), "is the token of a byte"),
        (
            options(300, &["Ġx"]),
            "is written like a token learnt from the text",
        ),
    ] {
        let error = train(&[" x x"], &options).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
        assert!(error.is_usage(), "{error}");
    }
}
