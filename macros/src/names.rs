//! Names on the wire, and how Rust's become such.

/// The form of a contract's name, which is a service's name too.
pub(crate) const CONTRACT: &str = "1 to 128 of a-z 0-9 . _ - (not only dots)";

/// The form of a method's name.
pub(crate) const METHOD: &str = "1 to 128 of A-Z a-z 0-9 . _ - (not only dots)";

/// Whether `name` has the form [`CONTRACT`].
pub(crate) fn is_contract(name: &str) -> bool {
    is_method(name) && !name.bytes().any(|b| b.is_ascii_uppercase())
}

/// Whether `name` has the form [`METHOD`].
pub(crate) fn is_method(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=128).contains(&name.len()) && name.bytes().all(allowed) && name.bytes().any(|b| b != b'.')
}

/// Turns `OrderBook` into `order-book` and `HTTPProxy` into `http-proxy`.
pub(crate) fn kebab_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut kebab = String::new();
    for (i, c) in chars.iter().enumerate() {
        if c.is_uppercase() && i > 0 && starts_word(chars[i - 1], chars.get(i + 1)) {
            kebab.push('-');
        }
        kebab.extend(c.to_lowercase());
    }
    kebab
}

/// Whether an upper-case letter between these two begins a word.
fn starts_word(before: char, after: Option<&char>) -> bool {
    let ends_acronym = before.is_uppercase() && after.is_some_and(|c| c.is_lowercase());
    before.is_lowercase() || before.is_numeric() || ends_acronym
}

/// Turns `failed_precondition` into `FailedPrecondition`.
pub(crate) fn pascal_case(name: &str) -> String {
    name.split('_').map(capitalized).collect()
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words, acronyms and digits are separated where a reader would.
    #[test]
    fn kebab() {
        for (name, expected) in [
            ("Greeter", "greeter"),
            ("OrderBook", "order-book"),
            ("HTTPProxy", "http-proxy"),
            ("V2Api", "v2-api"),
            ("Order_Book", "order_book"),
            ("IO", "io"),
        ] {
            assert_eq!(kebab_case(name), expected);
        }
    }

    /// A code's name becomes its variant's.
    #[test]
    fn pascal() {
        assert_eq!(pascal_case("failed_precondition"), "FailedPrecondition");
        assert_eq!(pascal_case("aborted"), "Aborted");
    }

    /// Names the registry would refuse are refused here.
    #[test]
    fn forms() {
        assert!(is_contract("order-book.v2_x") && is_method("getUser"));
        let long = "a".repeat(129);
        for name in ["", ".", "..", "a b", "ä", "a/b", long.as_str()] {
            assert!(!is_contract(name) && !is_method(name), "{name}");
        }
        assert!(!is_contract("Greeter"));
    }
}
