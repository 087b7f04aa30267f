//! From the bytes of a file to its text.

use std::path::Path;

use super::{ConfigError, FILE_BYTES_MAX, Problem};

/// Returns the text of a file of which at least one byte more than [`FILE_BYTES_MAX`] was read if it has that
/// many.
///
/// # Errors
/// [`ConfigError`] when it is too large or not in UTF-8.
pub fn decode(file: &Path, bytes: Vec<u8>) -> Result<String, ConfigError> {
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!(
            "is larger than {FILE_BYTES_MAX} bytes: it can hold the configuration alone, so name another file"
        );
        return Err(ConfigError::of_file(file, message));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(ConfigError::of_file(
            file,
            "is text in UTF-16: save it in UTF-8",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = error.as_bytes().iter().take(good);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        let problem =
            Problem::of_file(file, "is not text in UTF-8: save the file in that encoding");
        ConfigError {
            problems: vec![Problem {
                line: Some(line),
                ..problem
            }],
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_text_in_utf_8_is_read() {
        let error = |bytes: &[u8]| {
            let error = decode(Path::new("x.yml"), bytes.to_vec()).unwrap_err();
            error.to_string()
        };
        assert_eq!(
            error(b"a: b\n\xfc: c\n"),
            "x.yml:2: is not text in UTF-8: save the file in that encoding"
        );
        assert_eq!(
            error(b"\xff\xfea\0"),
            "x.yml: is text in UTF-16: save it in UTF-8"
        );
        assert!(error(&vec![b'x'; FILE_BYTES_MAX + 1]).contains("is larger than 65536 bytes"));
        assert_eq!(decode(Path::new("x"), "ü".into()), Ok("ü".to_owned()));
    }
}
