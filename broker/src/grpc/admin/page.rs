//! Lists come in pages.

/// Longest page.
pub(super) const MAX_PAGE: usize = 1000;

/// How many entries a page has.
pub(super) fn page_size(size: i32) -> usize {
    usize::try_from(size).ok().filter(|size| (1..=MAX_PAGE).contains(size)).unwrap_or(MAX_PAGE)
}

/// The entries behind the one that the token names, and the token of the next page.
pub(super) fn page<T>(all: Vec<(String, T)>, size: i32, token: &str) -> (Vec<T>, String) {
    let size = page_size(size);
    let begin = match all.iter().position(|(key, _)| key == token) {
        Some(last) => last + 1,
        None => 0,
    };
    let more = all.len() > begin + size;
    let (mut entries, mut next) = (Vec::new(), String::new());
    for (key, entry) in all.into_iter().skip(begin).take(size) {
        next = key;
        entries.push(entry);
    }
    (entries, if more { next } else { String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let all = || (0..5).map(|n| (format!("k{n}"), n)).collect::<Vec<_>>();
        assert_eq!(page(all(), 2, ""), (vec![0, 1], "k1".into()));
        assert_eq!(page(all(), 2, "k1"), (vec![2, 3], "k3".into()));
        assert_eq!(page(all(), 2, "k3"), (vec![4], String::new()));
        assert_eq!(page(all(), 0, ""), (vec![0, 1, 2, 3, 4], String::new()));
    }
}
