//! From options as written to options as meant.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use mapping_core::{RelayUrl, RelayUrlError, Secret, config::parse_duration, shown};

use super::file::place;
use super::{
    Config, ConfigError, LATER_KEYS, LogLevel, Problem, Setting, Source, TURN_TTL_RANGE,
    TURN_URLS_MAX,
};

/// What to say when there are relays without the secret.
const NO_TURN_SECRET: &str = "needs turn-secret too: the static-auth-secret of that relay, from which its \
     credentials are made";

/// Checks the settings; `problems` is what is known to be wrong already.
pub(super) fn resolve(settings: &[Setting], problems: Vec<Problem>) -> Result<Config, ConfigError> {
    let mut resolver = Resolver { settings, problems };
    let config = resolver.resolve();
    let mut problems = resolver.problems;
    if problems.is_empty() {
        return Ok(config);
    }
    problems.sort_by_key(|problem| problem.line);
    Err(ConfigError {
        problems: problems.into_iter().map(|problem| problem.text).collect(),
    })
}

struct Resolver<'a> {
    settings: &'a [Setting],
    problems: Vec<Problem>,
}

impl Resolver<'_> {
    fn resolve(&mut self) -> Config {
        for setting in self
            .settings
            .iter()
            .filter(|setting| LATER_KEYS.contains(&setting.key))
        {
            self.problem(setting, "not yet in this version: leave it out");
        }
        let defaults = Config::default();
        let stun = self.stun(&defaults);
        self.store();
        let turn_urls = self.turn_urls();
        Config {
            listen: self
                .one(
                    "listen",
                    "must be an IP address and a port such as 0.0.0.0:8080",
                    parse,
                )
                .unwrap_or(defaults.listen),
            stun,
            external_ip: self.one(
                "external-ip",
                "must be the IP address at which clients reach this machine",
                |text| parse(text).filter(|ip: &IpAddr| !ip.is_unspecified()),
            ),
            relay: !self
                .one("no-relay", "must be true or false", |text| {
                    parse(&text.to_ascii_lowercase())
                })
                .unwrap_or(false),
            relay_ports: self
                .one(
                    "relay-ports",
                    "must be LO-HI with 1 ≤ LO ≤ HI ≤ 65535, such as 50000-50999",
                    parse_ports,
                )
                .unwrap_or(defaults.relay_ports),
            relay_allow: self.all(
                "relay-allow",
                "must be an address or a network such as 10.1.0.0/16",
                parse_net,
            ),
            turn_secret: self.secret("turn-secret"),
            turn_urls,
            turn_ttl: self
                .one(
                    "turn-ttl",
                    "must be a time from 1s to 30d such as 12h",
                    |text| {
                        parse_duration(text)
                            .ok()
                            .filter(|ttl| TURN_TTL_RANGE.contains(ttl))
                    },
                )
                .unwrap_or(defaults.turn_ttl),
            access_token: self.secret("access-token"),
            log: self.one(
                "log",
                "must be off, error, warn, info, debug or trace",
                LogLevel::parse,
            ),
            log_json: self
                .one("log-format", "must be text or json", |text| match text {
                    "text" => Some(false),
                    "json" => Some(true),
                    _ => None,
                })
                .unwrap_or(false),
        }
    }

    fn stun(&mut self, defaults: &Config) -> Vec<SocketAddr> {
        let wrong = "must be an IP address and a port such as 0.0.0.0:3478";
        let stun: Vec<SocketAddr> = self.all("stun", wrong, parse);
        let settings = self.settings;
        let Some(last) = settings.iter().rfind(|setting| setting.key == "stun") else {
            return defaults.stun.clone();
        };
        match stun.as_slice() {
            [] | [_] => {}
            [one, two] => {
                if one.ip().is_unspecified() || two.ip().is_unspecified() {
                    self.problem(
                        last,
                        "two addresses must be two of this machine: neither can be all of them",
                    );
                } else if one.ip() == two.ip() {
                    self.problem(last, "two addresses must have two different IP addresses");
                } else if one.is_ipv4() != two.is_ipv4() || one.port() != two.port() {
                    self.problem(
                        last,
                        "two addresses must be of one family and have the same port",
                    );
                } else if one.port() == u16::MAX {
                    self.problem(last, "the port after it must exist as the alternate port");
                }
            }
            _ => self.problem(last, "one or two addresses can be given"),
        }
        stun
    }

    fn turn_urls(&mut self) -> Vec<RelayUrl> {
        let settings = self.settings;
        let given = || settings.iter().filter(|setting| setting.key == "turn-url");
        let mut urls = Vec::new();
        for setting in given() {
            match setting.value.parse::<RelayUrl>() {
                Ok(url) => urls.push(url),
                // A text with a password by mistake is not repeated.
                Err(error @ RelayUrlError::UserInfo) => {
                    self.unshown(
                        setting,
                        &format!("{error}: credentials are made from turn-secret"),
                    );
                }
                Err(error) => self.problem(setting, &error.to_string()),
            }
        }
        if let Some(last) = given().nth(TURN_URLS_MAX) {
            self.problem(last, &format!("at most {TURN_URLS_MAX} can be given"));
        }
        if let Some(first) = given().next()
            && !settings.iter().any(|setting| setting.key == "turn-secret")
        {
            self.problem(first, NO_TURN_SECRET);
        }
        urls
    }

    fn store(&mut self) {
        let settings = self.settings;
        for setting in settings.iter().filter(|setting| setting.key == "store") {
            if setting.value.starts_with("redis:") || setting.value.starts_with("rediss:") {
                self.problem(
                    setting,
                    "not yet in this version: write memory, or leave it out",
                );
            } else if setting.value != "memory" {
                self.problem(setting, "must be memory, all that this version has");
            }
        }
    }

    /// A secret's value is never part of a message.
    fn secret(&mut self, key: &'static str) -> Option<Secret> {
        let settings = self.settings;
        let setting = settings.iter().rfind(|setting| setting.key == key)?;
        let printable = setting
            .value
            .bytes()
            .all(|byte| (0x21..0x7f).contains(&byte));
        if setting.value.is_empty() || !printable {
            self.unshown(
                setting,
                "must be one or more printable ASCII characters without spaces",
            );
        }
        Some(Secret::new(setting.value.clone()))
    }

    fn one<T>(
        &mut self,
        key: &'static str,
        wrong: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let settings = self.settings;
        let mut given = settings.iter().filter(|setting| setting.key == key);
        let setting = given.next()?;
        if let Some(second) = given.next() {
            self.problem(second, "can be given once");
        }
        let parsed = parse(&setting.value);
        if parsed.is_none() {
            self.problem(setting, wrong);
        }
        parsed
    }

    fn all<T>(
        &mut self,
        key: &'static str,
        wrong: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let settings = self.settings;
        let mut all = Vec::new();
        for setting in settings.iter().filter(|setting| setting.key == key) {
            match parse(&setting.value) {
                Some(value) => all.push(value),
                None => self.problem(setting, wrong),
            }
        }
        all
    }

    /// Reports a setting without its value.
    fn unshown(&mut self, setting: &Setting, wrong: &str) {
        self.problems.push(Problem {
            line: setting.line(),
            text: format!("{}: {wrong}", setting.place()),
        });
    }

    fn problem(&mut self, setting: &Setting, wrong: &str) {
        let Setting { key, value, source } = setting;
        let value = shown(value);
        let text = match source {
            Source::Flag => format!("--{key} `{value}`: {wrong}"),
            Source::File { file, line } => {
                format!("{}: `{key}: {value}`: {wrong}", place(file, *line))
            }
        };
        self.problems.push(Problem {
            line: setting.line(),
            text,
        });
    }
}

impl Setting {
    fn line(&self) -> usize {
        match &self.source {
            Source::Flag => 0,
            Source::File { line, .. } => *line,
        }
    }

    fn place(&self) -> String {
        match &self.source {
            Source::Flag => format!("--{}", self.key),
            Source::File { file, line } => format!("{}: `{}`", place(file, *line), self.key),
        }
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn parse_net(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (low, high) = text.split_once('-')?;
    let (low, high): (u16, u16) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
    (low >= 1 && low <= high).then_some(low..=high)
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use std::time::Duration;

    fn flags(flags: &[(&'static str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (key, value) in flags {
            settings.flag(key, *value);
        }
        settings
    }

    fn problems(given: &[(&'static str, &str)]) -> Vec<String> {
        flags(given)
            .resolve()
            .map_or_else(|error| error.problems, |_| Vec::new())
    }

    #[test]
    fn nothing_said_gives_the_defaults_of_the_contract() {
        let config = Settings::default().resolve().unwrap();
        assert_eq!(config.listen, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(config.stun, ["0.0.0.0:3478".parse().unwrap()]);
        assert_eq!(config.relay_ports, 49152..=65535);
        assert!(config.relay && config.access_token.is_none());
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let found = problems(&[
            ("listen", "8080"),
            ("relay-ports", "9-1"),
            ("relay-allow", "10.0.0.0/8"),
            ("relay-allow", "home"),
            ("log-format", "xml"),
        ]);
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(
            found.contains(
                &"--relay-ports `9-1`: must be LO-HI with 1 ≤ LO ≤ HI ≤ 65535, such as 50000-50999"
                    .to_owned()
            )
        );
    }

    #[test]
    fn later_options_say_that_they_are_later() {
        for (key, value) in [("tls-cert", "x.pem"), ("metrics", "127.0.0.1:9")] {
            assert_eq!(
                problems(&[(key, value)]),
                [format!(
                    "--{key} `{value}`: not yet in this version: leave it out"
                )]
            );
        }
    }

    #[test]
    fn relays_of_others_need_their_secret() {
        assert_eq!(
            problems(&[("turn-url", "turn:x")]),
            [format!("--turn-url `turn:x`: {}", super::NO_TURN_SECRET)]
        );
        assert_eq!(
            problems(&[("turn-secret", "s"), ("turn-url", "turn:user:hunter2@x")]),
            [
                "--turn-url: must not hold a user name or password: credentials are made from turn-secret"
            ]
        );
        let given = [
            ("turn-secret", "s"),
            ("turn-url", "turn:x"),
            ("turn-url", "turns:y:443"),
        ];
        let config = flags(&given).resolve().unwrap();
        let urls: Vec<_> = config.turn_urls.iter().map(ToString::to_string).collect();
        assert_eq!(urls, ["turn:x:3478?transport=udp", "turns:y:443"]);
        let many = vec![("turn-url", "turn:x"); super::TURN_URLS_MAX + 1];
        assert_eq!(
            problems(&[&[("turn-secret", "s")], &many[..]].concat()),
            ["--turn-url `turn:x`: at most 16 can be given"]
        );
    }

    #[test]
    fn credentials_hold_from_a_second_to_a_month() {
        let ttl = |text: &str| Some(flags(&[("turn-ttl", text)]).resolve().ok()?.turn_ttl);
        assert_eq!(ttl("90s"), Some(Duration::from_secs(90)));
        for wrong in ["0s", "999ms", "31d", "90", "soon"] {
            assert_eq!(ttl(wrong), None, "{wrong}");
        }
        assert_eq!(flags(&[]).resolve().unwrap().turn_ttl.as_secs(), 43_200);
    }

    #[test]
    fn two_stun_addresses_must_fit_together() {
        let fits = |one, two| problems(&[("stun", one), ("stun", two)]).is_empty();
        assert!(fits("192.0.2.1:3478", "192.0.2.2:3478"));
        assert!(!fits("192.0.2.1:3478", "192.0.2.1:3479"), "one IP address");
        assert!(!fits("0.0.0.0:3478", "192.0.2.2:3478"), "a wildcard");
        assert!(
            !fits("192.0.2.1:3478", "[2001:db8::1]:3478"),
            "two families"
        );
        assert!(!fits("192.0.2.1:3478", "192.0.2.2:3480"), "two ports");
    }

    #[test]
    fn a_wrong_secret_is_not_repeated() {
        assert_eq!(
            problems(&[("access-token", "hunter two")]),
            ["--access-token: must be one or more printable ASCII characters without spaces"]
        );
    }
}
