//! Texts of device trees and command lines, divided at an ASCII byte. The standard library's
//! search for any pattern is a hundred times as long.

/// What stands before and after the first `at` of a text.
#[inline(never)]
pub fn divide(text: &str, at: u8) -> Option<(&str, &str)> {
    let place = text.bytes().position(|byte| byte == at)?;
    Some((text.get(..place)?, text.get(place.wrapping_add(1)..)?))
}

/// What stands before the first `at` of a text; all of it where there is none.
pub fn before(text: &str, at: u8) -> &str {
    divide(text, at).map_or(text, |(before, _)| before)
}

#[cfg(test)]
mod tests {
    use super::{before, divide};

    #[test]
    fn it_divides_as_the_standard_library_does() {
        for text in ["", "=", "a=b", "a=", "=b", "a=b=c", "äö=ü", "none", "ä"] {
            assert_eq!(divide(text, b'='), text.split_once('='), "{text}");
            assert_eq!(Some(before(text, b'=')), text.split('=').next(), "{text}");
        }
    }
}
