//! The file that a relay's operator keeps: the names that it serves, and their tokens; and the one
//! that each end keeps: its token.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::token::{Name, Token, TokenError};
use crate::trust::files::read_regular_file;

/// Why a file of tokens cannot be used. Never holds a token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    #[error("{}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },

    #[error("{}: line {line}: {what}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        what: String,
    },

    #[error("{}: holds no token; {expected}", path.display())]
    Empty {
        path: PathBuf,
        expected: &'static str,
    },
}

const EXPECTED_LIST: &str = "write a name and its token on each line";
const EXPECTED_TOKEN: &str = "write the name's token into it";

/// The tokens of a relay, by name: a name and its token on each line; empty lines and those that
/// begin with `#` are left out.
///
/// # Errors
///
/// It cannot be read, or a line is something else, or a name is there twice.
pub fn read_tokens(path: &Path) -> Result<HashMap<Name, Token>, TokenFileError> {
    let mut tokens = HashMap::new();
    for (line, text) in lines(path)? {
        let wrong = |what| TokenFileError::Line {
            path: path.to_owned(),
            line,
            what,
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let [name, token] = words[..] else {
            let found = words.len();
            return Err(wrong(format!(
                "holds {found} words, expected a name and its token"
            )));
        };
        let read = |error: TokenError| wrong(error.to_string());
        let name = Name::new(name).map_err(read)?;
        let token = Token::new(token).map_err(read)?;
        if tokens.contains_key(&name) {
            return Err(wrong(format!("{name} has a token already, keep one")));
        }
        tokens.insert(name, token);
    }
    match tokens.is_empty() {
        true => Err(empty(path, EXPECTED_LIST)),
        false => Ok(tokens),
    }
}

/// The one token in a file.
///
/// # Errors
///
/// It cannot be read, or holds something else.
pub fn read_token(path: &Path) -> Result<Token, TokenFileError> {
    let mut found = lines(path)?.into_iter();
    let Some((line, text)) = found.next() else {
        return Err(empty(path, EXPECTED_TOKEN));
    };
    let wrong = |line, what: String| TokenFileError::Line {
        path: path.to_owned(),
        line,
        what,
    };
    if let Some((line, _)) = found.next() {
        return Err(wrong(line, "is a second token, keep one".to_owned()));
    }
    Token::new(&text).map_err(|error| wrong(line, error.to_string()))
}

/// What to say of a file that other users of this computer can read or write.
#[cfg(unix)]
pub fn access_warning(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = path.metadata().ok()?.permissions().mode() & 0o777;
    let shown = path.display();
    (mode & 0o077 != 0).then(|| {
        format!("{shown} has mode {mode:04o}: other users of this machine have access to its tokens; run `chmod 600 {shown}`")
    })
}

#[cfg(not(unix))]
pub fn access_warning(_path: &Path) -> Option<String> {
    None
}

/// Lines that say something, with their numbers.
fn lines(path: &Path) -> Result<Vec<(usize, String)>, TokenFileError> {
    let unreadable = |error| TokenFileError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let bytes = read_regular_file(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| unreadable(io::Error::other("it is no UTF-8 text")))?;
    let says = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let lines = text.lines().map(str::trim).enumerate();
    Ok(lines
        .filter(|(_, line)| says(line))
        .map(|(index, line)| (index + 1, line.to_owned()))
        .collect())
}

fn empty(path: &Path, expected: &'static str) -> TokenFileError {
    TokenFileError::Empty {
        path: path.to_owned(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::files::TestDirectory;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn file(directory: &TestDirectory, text: &str) -> PathBuf {
        std::fs::create_dir_all(&directory.0).unwrap();
        let path = directory.0.join("tokens");
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_list_gives_each_name_its_token() {
        let directory = TestDirectory::new();
        let path = file(
            &directory,
            &format!("# ours\n\nlab1 {TOKEN}\n lab2\t{TOKEN}2 \r\n"),
        );
        let tokens = read_tokens(&path).unwrap();
        assert_eq!(tokens.len(), 2);
        assert_eq!(
            tokens[&Name::new("lab1").unwrap()],
            Token::new(TOKEN).unwrap()
        );
    }

    #[test]
    fn a_file_of_one_token_may_end_in_a_line_feed() {
        let directory = TestDirectory::new();
        let path = file(&directory, &format!("{TOKEN}\n"));
        assert_eq!(read_token(&path).unwrap(), Token::new(TOKEN).unwrap());
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_by_line_and_no_token_is_shown() {
        let directory = TestDirectory::new();
        for (text, what) in [
            (String::new(), "holds no token; write a name"),
            (TOKEN.to_owned(), "line 1: holds 1 words, expected a name"),
            (format!("\nlab1 {TOKEN} x"), "line 2: holds 3 words"),
            ("lab1 0123short".to_owned(), "has 9 characters"),
            (format!("l/b {TOKEN}"), "relay name"),
            (
                format!("lab1 {TOKEN}\nlab1 {TOKEN}"),
                "line 2: lab1 has a token already",
            ),
        ] {
            let error = read_tokens(&file(&directory, &text))
                .unwrap_err()
                .to_string();
            assert!(error.contains(what), "{error}");
            assert!(!error.contains("0123"), "{error}");
        }
        for (text, what) in [
            (String::new(), "holds no token; write the name's"),
            (format!("{TOKEN}\n{TOKEN}\n"), "line 2: is a second token"),
            (format!("lab1 {TOKEN}"), "line 1: relay token holds a space"),
        ] {
            let error = read_token(&file(&directory, &text))
                .unwrap_err()
                .to_string();
            assert!(error.contains(what), "{error}");
        }
        let absent = read_token(Path::new("/nowhere/token"))
            .unwrap_err()
            .to_string();
        assert!(
            absent.starts_with("/nowhere/token: No such file"),
            "{absent}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_worth_a_word() {
        use std::os::unix::fs::PermissionsExt;
        let directory = TestDirectory::new();
        let path = file(&directory, TOKEN);
        let set =
            |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        set(0o600);
        assert_eq!(access_warning(&path), None);
        set(0o644);
        assert!(access_warning(&path).unwrap().contains("mode 0644"));
    }
}
