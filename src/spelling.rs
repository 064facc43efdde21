//! "Did you mean": the nearest known word to a misspelt one.

/// The known word that differs from `word` by the fewest edits, if few enough to be a slip.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let limit = (word.chars().count() / 3).clamp(2, 3);
    known.iter().map(|k| (strsim::levenshtein(word, k), *k)).filter(|(d, k)| *d <= limit && *d < k.len()).min().map(|(_, k)| k)
}
