//! Where the pieces are cut makes no difference, and nothing of a stop string ever shows.

use proptest::prelude::*;

use super::*;

/// What comes of a text in pieces: the output and the stop string.
fn run(stops: &[String], include: bool, pieces: &[&str]) -> (String, Option<usize>) {
    let mut watcher = StopStrings::new(stops.to_vec(), include).unwrap();
    let mut output = String::new();
    for piece in pieces {
        match watcher.push(piece) {
            StopMatch::Text(text) => output += &text,
            StopMatch::Stopped { text, stop } => return (output + &text, Some(stop)),
        }
    }
    (output + &watcher.flush(), None)
}

fn strings(stops: &[&str]) -> Vec<String> {
    stops.iter().map(|&stop| stop.to_owned()).collect()
}

/// The text cut before each character whose flag is set.
fn cut<'a>(text: &'a str, flags: &[bool]) -> Vec<&'a str> {
    let places = text.char_indices().zip(flags).filter(|&(_, &flag)| flag).map(|((at, _), _)| at);
    let bounds: Vec<usize> = std::iter::once(0).chain(places).chain([text.len()]).collect();
    bounds.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn any_cut_gives_the_same(
        text in "[abé]{0,24}",
        stops in prop::collection::vec("[abé]{1,4}", 0..4),
        flags in prop::collection::vec(any::<bool>(), 24),
        include in any::<bool>(),
    ) {
        let by_character: Vec<String> = text.chars().map(String::from).collect();
        let by_character: Vec<&str> = by_character.iter().map(String::as_str).collect();
        let expected = run(&stops, include, &by_character);
        prop_assert_eq!(run(&stops, include, &[&text]), expected.clone());
        prop_assert_eq!(run(&stops, include, &cut(&text, &flags)), expected.clone());
        let (output, stop) = expected;
        match stop {
            None => prop_assert_eq!(output, text),
            Some(stop) if include => prop_assert!(output.ends_with(&stops[stop])),
            Some(_) => prop_assert!(stops.iter().all(|stop| !output.contains(stop.as_str()))),
        }
    }
}

#[test]
fn a_stop_string_across_pieces_never_shows() {
    let mut watcher = StopStrings::new(strings(&["\n\nUser:"]), false).unwrap();
    assert_eq!(watcher.push("yes\n"), StopMatch::Text("yes".into()));
    assert_eq!(watcher.push("\nUs"), StopMatch::Text(String::new()));
    assert_eq!(watcher.push("er: no"), StopMatch::Stopped { text: String::new(), stop: 0 });
}

#[test]
fn what_did_not_become_a_stop_string_is_given_out() {
    let mut watcher = StopStrings::new(strings(&["END"]), false).unwrap();
    assert_eq!(watcher.push("the EN"), StopMatch::Text("the ".into()));
    assert_eq!(watcher.push("EM"), StopMatch::Text("ENEM".into()));
    assert_eq!(watcher.push("E"), StopMatch::Text(String::new()));
    assert_eq!(watcher.flush(), "E");
}

#[test]
fn of_two_that_end_together_the_longer_wins() {
    assert_eq!(run(&strings(&["b", "ab"]), false, &["xab"]), ("x".into(), Some(1)));
    assert_eq!(run(&strings(&["b", "ab"]), true, &["xab"]), ("xab".into(), Some(1)));
}

#[test]
fn the_one_that_completes_first_wins_even_if_it_begins_later() {
    assert_eq!(run(&strings(&["abcd", "c"]), false, &["abcd"]), ("ab".into(), Some(1)));
}

#[test]
fn empty_stop_strings_are_refused() {
    assert_eq!(StopStrings::new(strings(&["a", ""]), false).err(), Some(StopError::Empty));
}
