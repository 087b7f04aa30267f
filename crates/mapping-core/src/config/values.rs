//! What single values mean: durations, URLs.

use std::time::Duration;

use crate::{GrammarError, HostPort, grammar_error::shown};

/// Units of a duration in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// A number of years that no clock has.
const TOO_LONG: &str = "is longer than can be counted: write a shorter time";

/// Parses `25s`, `1h30m`, `500ms`.
///
/// # Errors
/// Says what would be right when it is no time, has no unit, or is too long for 64 bits of milliseconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    const RIGHT: &str = "write a number with its unit (ms, s, m, h, d), for example 1h or 90s";
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(format!("is empty: {RIGHT}"));
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..]
            .bytes()
            .take_while(u8::is_ascii_alphabetic)
            .count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        if digits > 0 && letters == 0 && digits == text.trim().len() {
            return Err(format!("has no unit: write {}s", shown(number)));
        }
        let factor = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| factor);
        let (Some(factor), false) = (factor, digits == 0) else {
            return Err(format!("is not a duration: {RIGHT}"));
        };
        let part = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(*factor));
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| TOO_LONG.to_owned())?;
        rest = &rest[digits + letters..];
    }
    Ok(Duration::from_millis(total))
}

/// Prints a duration the way [`duration`] reads it.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (unit, factor) = UNITS
        .into_iter()
        .rev()
        .find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor))
        .unwrap_or(("s", 1000));
    format!("{}{unit}", millis / factor)
}

/// Returns a URL as a message may show it: passwords and keys stand before an `@` or after a `?`.
pub(super) fn shown_url(text: &str) -> String {
    let (start, hidden) = match text.find(['?', '#']) {
        Some(at) => (&text[..at], "…"),
        None => (text, ""),
    };
    let scheme = start.find("://").map_or(0, |at| at + 3);
    match start.rfind('@') {
        Some(at) if at >= scheme => format!("{}…{}{hidden}", &start[..scheme], &start[at..]),
        _ => format!("{start}{hidden}"),
    }
}

/// Checks the URL of a signaling server and returns it without a slash at its end.
pub(super) fn signaling_url(text: &str) -> Result<String, String> {
    const RIGHT: &str = "write for example https://signal.example.org or http://192.0.2.1:8080";
    let text = text.trim();
    let strip = |scheme: &str| {
        let start = text.get(..scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme)
            .then(|| &text[scheme.len()..])
    };
    let Some((scheme, rest)) = strip("http://")
        .map(|rest| ("http", rest))
        .or_else(|| strip("https://").map(|rest| ("https", rest)))
    else {
        return Err(format!("is not an http:// or https:// URL: {RIGHT}"));
    };
    if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("contains white space: {RIGHT}"));
    }
    if rest.is_empty() {
        return Err(format!("has no host: {RIGHT}"));
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("must not hold a user name or password: use accessToken".to_owned());
    }
    if path.contains(['?', '#']) {
        return Err(format!(
            "must end with its path, without `?` or `#`: {RIGHT}"
        ));
    }
    check_authority(authority).map_err(|error| format!("{error}: {RIGHT}"))?;
    Ok(format!(
        "{scheme}://{authority}{}",
        path.trim_end_matches('/')
    ))
}

fn check_authority(authority: &str) -> Result<(), GrammarError> {
    // Any port serves to check the host alone.
    match authority.parse::<HostPort>() {
        Err(GrammarError::HostWithoutPort)
            if !authority.is_empty() && !authority.ends_with(':') =>
        {
            Ok(())
        }
        Err(GrammarError::HostWithoutPort) => Err(GrammarError::NotAHost(authority.to_owned())),
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units() {
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration(" 1h30m "), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(duration("3600"), Err("has no unit: write 3600s".to_owned()));
        for wrong in ["", "h", "1x", "1h30", "1.5h", "-1s", "1 h", "1H", "ü"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration("999999999999999999d"), Err(TOO_LONG.to_owned()));
        for text in ["1h", "90s", "250ms", "2d", "0s"] {
            assert_eq!(duration_text(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn what_a_url_hides_is_not_shown() {
        for (text, shown) in [
            ("ftp://host", "ftp://host"),
            ("http://u:p@host/x", "http://…@host/x"),
            ("u:p@host", "…@host"),
            ("http://host/?key=p@x", "http://host/…"),
            ("http://host#p", "http://host…"),
            ("p@://host", "p@://host"),
            ("", ""),
        ] {
            assert_eq!(shown_url(text), shown);
        }
    }

    #[test]
    fn signaling_urls_are_checked_before_anything_is_started() {
        for (text, url) in [
            ("http://192.0.2.1:8080", "http://192.0.2.1:8080"),
            ("HTTPS://signal.example.org/", "https://signal.example.org"),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
            ("https://[2001:db8::1]", "https://[2001:db8::1]"),
            (
                "https://example.org/stunfwd/",
                "https://example.org/stunfwd",
            ),
            (
                "https://example.org/stun/Signaling.PHP",
                "https://example.org/stun/Signaling.PHP",
            ),
        ] {
            assert_eq!(signaling_url(text), Ok(url.to_owned()));
        }
        for wrong in [
            "",
            "signal.example.org",
            "ftp://x",
            "http://",
            "http://:80",
            "http://host:",
            "http://host:99999",
            "http://bad host",
            "http://user:password@host",
            "http://host/?room=1",
            "http://host#x",
            "http://2001:db8::1/",
        ] {
            assert!(signaling_url(wrong).is_err(), "{wrong}");
        }
    }
}
