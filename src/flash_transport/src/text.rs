//! Untrusted text in errors and log lines: short, and without control over a terminal.

use std::fmt::Write;

/// Most characters of an untrusted text that an error or a log line shows.
pub const SHOWN_CHARACTERS: usize = 200;

/// At most [`SHOWN_CHARACTERS`] characters of `text`, with control characters written as Python writes them (`\x1b`).
pub fn shown(text: &str) -> String {
    cut(text, SHOWN_CHARACTERS, |character| !is_control(character))
}

/// As [`shown`], for bytes that need not be UTF-8.
pub fn shown_bytes(bytes: &[u8]) -> String {
    // A character has at most four bytes.
    let head = &bytes[..bytes.len().min(4 * (SHOWN_CHARACTERS + 1))];
    let text = String::from_utf8_lossy(head);
    shown(&text)
}

/// At most `most` characters of a message of several lines, with control characters other than line
/// feeds escaped.
pub fn shown_lines(text: &str, most: usize) -> String {
    cut(text, most, |character| {
        character == '\n' || !is_control(character)
    })
}

/// How a control character is written.
pub fn escaped(character: char) -> String {
    match character {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        _ if u32::from(character) <= 0xff => format!("\\x{:02x}", u32::from(character)),
        _ => format!("\\u{:04x}", u32::from(character)),
    }
}

/// Whether a character is invisible or changes how others are shown: controls (Unicode Cc), line
/// separators, and marks of text direction (Unicode Standard Annex 9).
pub fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn cut(text: &str, most: usize, is_kept: impl Fn(char) -> bool) -> String {
    const MORE: &str = "...";
    let mut shown = String::new();
    let mut length = 0;
    // Where to cut if the text is too long.
    let mut end = 0;
    for character in text.chars() {
        let before = shown.len();
        if is_kept(character) {
            shown.push(character);
            length += 1;
        } else {
            let escape = escaped(character);
            length += escape.len();
            shown.push_str(&escape);
        }
        if length > most {
            shown.truncate(end);
            // Writing to a String never fails.
            let _ = shown.write_str(MORE);
            return shown;
        }
        if length + MORE.len() <= most {
            end = shown.len();
        }
        debug_assert!(shown.len() > before);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_reader_can_see_stays_as_it_is() {
        for text in ["", "pick up the fork", "größe 7 \\ \"quoted\"", "日本"] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn control_characters_are_written_out() {
        for (text, expected) in [
            ("\u{1b}[2Jgone", "\\x1b[2Jgone"),
            ("a\r\nb\tc\u{8}\0", "a\\r\\nb\\tc\\x08\\x00"),
            ("\u{7f}\u{85}\u{9b}", "\\x7f\\x85\\x9b"),
            (
                "\u{2028}\u{202e}\u{2066}\u{feff}",
                "\\u2028\\u202e\\u2066\\ufeff",
            ),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let exact = "x".repeat(SHOWN_CHARACTERS);
        assert_eq!(shown(&exact), exact);
        let cut = shown(&"é".repeat(SHOWN_CHARACTERS + 1));
        assert_eq!(cut, "é".repeat(SHOWN_CHARACTERS - 3) + "...");
        assert_eq!(shown(&"\0".repeat(100)), "\\x00".repeat(49) + "...");
    }

    #[test]
    fn lines_stay_lines_in_a_message() {
        assert_eq!(
            shown_lines("Traceback:\n  line\u{1b}", 100),
            "Traceback:\n  line\\x1b"
        );
        assert_eq!(shown_lines(&"y".repeat(20), 10), "yyyyyyy...");
    }

    #[test]
    fn bytes_that_are_no_utf8_are_shown_too() {
        assert_eq!(shown_bytes(b"ok\xff\x1b"), "ok\u{fffd}\\x1b");
        assert_eq!(
            shown_bytes(&[b'z'; 1 << 20]).chars().count(),
            SHOWN_CHARACTERS
        );
    }

    proptest! {
        #[test]
        fn whatever_comes_is_short_and_has_no_control_characters(text in any::<String>(), times in 0..50_usize) {
            let shown = shown(&text.repeat(times));
            prop_assert!(shown.chars().count() <= SHOWN_CHARACTERS);
            prop_assert!(!shown.chars().any(is_control));
        }
    }
}
