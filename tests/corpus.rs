//! The built-in corpus: its probabilities are exact, and its stories are what the grammar says.

use std::collections::BTreeSet;

use gpu_tlm::data::corpus::{END_OF_STORY, Grammar, GrammarError, StoryCorpus};

#[test]
fn every_story_has_one_derivation_with_the_generators_probability() {
    let corpus = StoryCorpus::new(1);
    for index in 0..5_000 {
        let story = corpus.story(index);
        let derivations = corpus.grammar().derivations(&story.text);
        assert_eq!(derivations.len(), 1, "story {index}: {}", story.text);
        let difference = (derivations[0] - story.log_probability).abs();
        // Both add some 50 logarithms, in the same order.
        assert!(difference <= 1e-9, "story {index}: off by {difference}");
        assert_eq!(corpus.log_probability(&story.text), Some(derivations[0]));
    }
}

#[test]
fn no_text_has_two_derivations() {
    assert_eq!(StoryCorpus::new(0).grammar().ambiguity(), None);
}

#[test]
fn ambiguous_grammars_are_found() {
    for source in [
        "rule a\n  1 | x\n  2 | x",
        "rule a\n  1 | <b> <c> y\nrule b\n  1 | x\n  1 |\nrule c\n  1 | x\n  1 |",
        "rule a\n  1 | <b>c\n  1 | a<b>\nrule b\n  1 | ab\n  1 | bc",
        "table t (s): name\n  ab\n  a\nrule a\n  1 | {s.name}<b>\nrule b\n  1 | b\n  1 |",
        "table t (s): name\n  ab\n  a\nrule a\n  1 | {s.name}bc\n  1 | abbc",
    ] {
        let grammar = Grammar::parse(source).expect("well formed");
        assert!(grammar.ambiguity().is_some(), "{source}");
    }
}

#[test]
fn unambiguous_grammars_are_accepted() {
    for source in [
        "rule a\n  1 | x\n  2 | xy\n  3 |",
        "rule a\n  1 | <b> <c> y\nrule b\n  1 | x\n  1 |\nrule c\n  1 | z\n  1 |",
        "rule a\n  1 | one / two\n  1 | one two",
        "table t (s): name\n  ab\n  a\nrule a\n  1 | {s.name} b",
    ] {
        let grammar = Grammar::parse(source).expect("well formed");
        assert_eq!(grammar.ambiguity(), None, "{source}");
    }
}

#[test]
fn entropy_is_the_mean_of_minus_log_p() {
    for seed in [0, 1] {
        let corpus = StoryCorpus::new(seed);
        let n = 20_000;
        let nats: Vec<f64> = (0..n).map(|i| -corpus.story(i).log_probability).collect();
        let mean = nats.iter().sum::<f64>() / n as f64;
        let variance = nats.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        let standard_error = (variance / n as f64).sqrt();
        let difference = mean - corpus.entropy_per_story();
        assert!(
            difference.abs() <= 4.0 * standard_error,
            "seed {seed}: off by {difference}, standard error {standard_error}"
        );
        assert_eq!(corpus.floor_nats(0..n), nats.iter().sum::<f64>());
    }
}

#[test]
fn entropy_of_small_grammars_is_that_of_their_texts() {
    let table = "table t (s, u): name, kind\n  A, x\n  B, x\n  C, y\n";
    for (rules, want) in [
        ("rule a\n  1 | only", 0.0),
        ("rule a\n  1 | x\n  1 | y", 2f64.ln()),
        ("rule a\n  1 | <b> <b>\nrule b\n  1 | x\n  1 | y", 4f64.ln()),
        ("rule a\n  1 | {s.kind} {s.name} {s.Kind}", 3f64.ln()),
        ("rule a\n  1 | {s.name} {u.name}", 6f64.ln()),
        (
            "rule a\n  1 | {s.name}\n  1 | {u.name} {s.name}",
            2f64.ln() + 0.5 * (3f64.ln() + 6f64.ln()),
        ),
    ] {
        let grammar = Grammar::parse(&format!("{table}{rules}")).expect("well formed");
        let difference = (grammar.entropy() - want).abs();
        assert!(difference <= 1e-12, "{rules}: {}", grammar.entropy());
    }
}

#[test]
fn parser_sums_over_derivations() {
    let grammar = Grammar::parse("rule a\n  1 | x\n  2 | x\n  1 | y").expect("well formed");
    assert_eq!(grammar.derivations("x").len(), 2);
    let probability = grammar.log_probability("x").map(f64::exp);
    assert!(probability.is_some_and(|p| (p - 0.75).abs() <= 1e-12));
}

#[test]
fn other_texts_have_no_probability() {
    let corpus = StoryCorpus::new(3);
    let story = corpus.story(0).text;
    let name = story.split(' ').find(|word| is_name(word)).expect("a name");
    for text in [
        String::new(),
        "Once upon a time".to_owned(),
        format!("{story} The end. The end."),
        format!(" {story}"),
        format!("{story}{END_OF_STORY}"),
        story.replacen(' ', "  ", 1),
        story.replacen(name, "Zeus", 1),
    ] {
        assert_eq!(corpus.log_probability(&text), None, "{text}");
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase()) && !["Once", "Far"].contains(&word)
}

#[test]
fn slots_keep_what_they_hold_and_differ_within_a_table() {
    let source = "table t (s, u): name\n  A\n  B\n  C\nrule a\n  1 | {s.name} {u.name} {s.name}";
    let grammar = Grammar::parse(source).expect("well formed");
    assert!(grammar.log_probability("A B A").is_some());
    assert_eq!(grammar.log_probability("A B B"), None);
    assert_eq!(grammar.log_probability("A A A"), None);
}

#[test]
fn malformed_grammars_are_refused_with_their_line() {
    let table = "table t (s): name, kind\n  A, x\n  B, x\n";
    for (source, want) in [
        ("rule a\n  x", "line 2: expected `WEIGHT | TEXT`"),
        ("rule a\n  0 | x", "line 2: expected a whole number"),
        ("rule a", "line 1: expected an alternative"),
        ("rule a\n  1 | <a>", "line 2: no rule named `a`"),
        ("rule a\n  1 | {s.name}", "line 2: no slot named `s`"),
        ("rule a\n  1 | {s", "line 2: expected a closing bracket"),
        ("roll a\n  1 | x", "line 1: expected `table"),
        ("  1 | x", "line 1: expected `table` or `rule` before"),
        ("table t (s): a, b\n  x", "line 2: expected as many values"),
        (
            "table t (s, u): a\n  x\nrule a\n  1 | x",
            "table `t` has 1 rows",
        ),
        ("table t: a\n  x", "line 1: expected `NAME (SLOTS): FIELDS`"),
        ("# nothing", "a grammar has at least one rule"),
        (
            &format!("{table}rule a\n  1 | {{s.age}}"),
            "line 5: no field",
        ),
        (
            &format!("{table}rule a\n  1 | {{s.kind}}"),
            "slot `s` can be",
        ),
    ] {
        let error = Grammar::parse(source).expect_err(source);
        assert!(error.to_string().starts_with(want), "{source}: {error}");
    }
    let error = Grammar::parse("rule a\n  x").expect_err("no weight");
    assert!(matches!(error, GrammarError::Syntax { line: 2, .. }));
}

#[test]
fn stories_are_a_function_of_seed_and_index() {
    let (corpus, again) = (StoryCorpus::new(7), StoryCorpus::new(7));
    assert_eq!(corpus.story(1_000_000), again.story(1_000_000));
    assert_ne!(corpus.story(0), corpus.story(1));
    assert_ne!(corpus.story(0), StoryCorpus::new(8).story(0));
}

#[test]
fn stories_are_clean_and_of_moderate_length() {
    let corpus = StoryCorpus::new(5);
    let mut words = BTreeSet::new();
    for index in 0..3_000 {
        let text = corpus.story(index).text;
        let n_words = text.split_whitespace().count();
        assert!((40..=170).contains(&n_words), "{n_words} words: {text}");
        assert!(
            text.is_ascii() && text.ends_with(['.', '!', '?', '"']),
            "{text}"
        );
        assert_eq!(text.matches('"').count() % 2, 0, "{text}");
        for wrong in [
            "  ", " \n", "\n ", " .", " ,", "..", " a a", " a e", " a i", " a o", " an b",
        ] {
            assert!(!text.contains(wrong), "`{wrong}` in: {text}");
        }
        let letters = |c: char| !c.is_ascii_alphabetic();
        words.extend(text.split(letters).map(str::to_lowercase));
    }
    assert!((400..=800).contains(&words.len()), "{} words", words.len());
}

#[test]
fn written_text_is_the_stories_with_their_endings() {
    let corpus = StoryCorpus::new(2);
    let mut written = Vec::new();
    let summary = corpus
        .write_text(10..13, &mut written)
        .expect("a vector takes it");
    let want: String = (10..13)
        .map(|index| format!("{}<|endoftext|>\n", corpus.story(index).text))
        .collect();
    assert_eq!(String::from_utf8(written).expect("text"), want);
    assert_eq!(summary.stories, 3);
    assert_eq!(summary.size_bytes, want.len() as u64);
    assert_eq!(summary.nats, corpus.floor_nats(10..13));
}

#[test]
fn text_for_bytes_stops_at_the_first_story_that_is_enough() {
    let corpus = StoryCorpus::new(2);
    let (text, stories) = corpus.text_for_bytes(100, 10_000);
    assert!(text.len() >= 10_000);
    assert_eq!(text, corpus.text(stories.clone()));
    assert!(corpus.text(stories.start..stories.end - 1).len() < 10_000);
    assert_eq!(corpus.text_for_bytes(5, 0), (String::new(), 5..5));
}
