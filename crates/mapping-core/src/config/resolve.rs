//! From keys and values to the types that the program runs on.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    ADDRESSES_MAX, CONNECTIONS_DEFAULT, CONNECTIONS_MAX, CONTROL_FOLDER_BYTES_MAX,
    CONTROL_PATH_BYTES_MAX, ClientConfig, CommonConfig, ConfigError, DirectPolicy,
    RELAY_CREDENTIAL_BYTES_MAX, RELAY_USERNAME_BYTES_MAX, RESUME_DEFAULT, RESUME_MAX, RESUME_MIN,
    RelayConfig, ServerConfig,
    keys::{MAPPING_KEYS, RELAY_KEYS},
    reader::{Document, Field, Reader},
    tree::Node,
    values,
};
use crate::{
    ALLOW_ENTRIES_MAX, AllowList, GrammarError, HostPort, MappingTable, PortMapping, PortRange,
    Protocol, RelayUrl, RelayUrlError, RoomId, Secret, Side, TableError,
};

/// A line for whoever wrote no keys.
const EXAMPLE: &str = "roomId: …";

/// Resolves the client's file.
pub(super) fn client(file: &Path, text: &str) -> Result<ClientConfig, ConfigError> {
    let document = Document::parse(file, text, EXAMPLE)?;
    let mut reader = Reader::new(&document, Side::Ingress);
    let common = common(&mut reader, file, Side::Ingress);
    let mappings = mappings(&mut reader);
    if mappings.is_empty() {
        reader
            .warnings
            .push("there are no `mappings`: nothing will be forwarded".to_owned());
    }
    let common = finish(reader, file, common)?;
    Ok(ClientConfig { common, mappings })
}

/// Resolves the server's file.
pub(super) fn server(file: &Path, text: &str) -> Result<ServerConfig, ConfigError> {
    let document = Document::parse(file, text, EXAMPLE)?;
    let mut reader = Reader::new(&document, Side::Egress);
    let common = common(&mut reader, file, Side::Egress);
    let allow = allow(&mut reader);
    let common = finish(reader, file, common)?;
    Ok(ServerConfig { common, allow })
}

fn finish(
    reader: Reader<'_>,
    file: &Path,
    common: Option<CommonConfig>,
) -> Result<CommonConfig, ConfigError> {
    let warnings = reader.finish()?;
    // Without problems there is a common part; said as an error rather than assumed.
    let common = common.ok_or_else(|| ConfigError::of_file(file, "is incomplete"))?;
    Ok(CommonConfig { warnings, ..common })
}

/// Reads what both sides have; `None` when a required key is missing or wrong, which was reported.
fn common(reader: &mut Reader<'_>, file: &Path, side: Side) -> Option<CommonConfig> {
    mode(reader, side);
    let room = room(reader);
    let signaling_urls = signaling_urls(reader);
    let access_token = reader
        .get("accessToken")
        .and_then(|field| reader.parsed(&field, access_token));
    let stun_servers = stun_servers(reader);
    let relays = relays(reader);
    let direct = direct(reader);
    if direct == Some(DirectPolicy::Required) && !relays.is_empty() {
        let warning = "`relay` is not used: `direct: require` never relays";
        reader.warnings.push(warning.to_owned());
    }
    let port_mapping = reader
        .get("portMapping")
        .and_then(|field| reader.parsed(&field, port_mapping));
    let resume = reader
        .get("resume")
        .and_then(|field| reader.parsed(&field, resume));
    let max_connections = reader
        .get("maxConnections")
        .and_then(|field| reader.parsed(&field, max_connections));
    let control = reader
        .get("control")
        .and_then(|field| reader.parsed(&field, |text| control(file, text)));
    Some(CommonConfig {
        room: room?,
        signaling_urls,
        access_token,
        stun_servers,
        relays,
        direct: direct.unwrap_or_default(),
        port_mapping: port_mapping.unwrap_or(true),
        resume: resume.unwrap_or(RESUME_DEFAULT),
        max_connections: max_connections.unwrap_or(CONNECTIONS_DEFAULT),
        control,
        warnings: Vec::new(),
    })
}

fn mode(reader: &mut Reader<'_>, side: Side) {
    let Some(field) = reader.get("mode") else {
        return;
    };
    reader.parsed(&field, |text| {
        if text == side.role() {
            Ok(())
        } else if text == side.other().role() {
            Err(format!(
                "this is stunfwd-{side}: use stunfwd-{text}, or write `mode: {side}`"
            ))
        } else {
            Err(format!("must be `{side}` here, or be left out"))
        }
    });
}

fn room(reader: &mut Reader<'_>) -> Option<RoomId> {
    let field = reader.required("roomId", "write the secret text that both sides share")?;
    let room = reader.parsed(&field, |text| RoomId::new(text.to_owned()))?;
    if room.expose().trim() != room.expose() {
        let warning = "roomId begins or ends with white space: the other side must write it too";
        reader.warnings.push(warning.to_owned());
    }
    reader.warnings.extend(room.weakness());
    Some(room)
}

fn signaling_urls(reader: &mut Reader<'_>) -> Vec<String> {
    let what = "write the http(s)://host[:port] of stunfwd-signaling";
    let Some(field) = reader.required("signalingUrl", what) else {
        return Vec::new();
    };
    addresses(reader, field, values::signaling_url, values::shown_url)
}

fn stun_servers(reader: &mut Reader<'_>) -> Vec<HostPort> {
    let Some(field) = reader.get("stunServer") else {
        return Vec::new();
    };
    addresses(reader, field, str::parse::<HostPort>, str::to_owned)
}

/// Reads the TURN servers.
fn relays(reader: &mut Reader<'_>) -> Vec<RelayConfig> {
    let Some(field) = reader.get("relay") else {
        return Vec::new();
    };
    let items = reader.items(&field);
    // An empty list is not what signaling offers, and nobody means it: `direct: require` says "no relay".
    if matches!(field.node, Node::List(_)) && !(1..=ADDRESSES_MAX).contains(&items.len()) {
        reader.fault(&field, entries_message(&field.name, items.len()));
        return Vec::new();
    }
    items
        .iter()
        .filter_map(|item| relay(reader, item))
        .collect()
}

fn relay<'a>(reader: &mut Reader<'a>, item: &Field<'a>) -> Option<RelayConfig> {
    if !matches!(item.node, Node::Map(_)) {
        reader.wrong_kind(item, "keys and values: `url`, `username` and `credential`");
        return None;
    }
    let (mut url, mut username, mut credential) = (None, None, None);
    let entries = reader.entries(item, RELAY_KEYS);
    for (key, field) in &entries {
        match *key {
            "url" => url = relay_url(reader, field),
            "username" => username = reader.parsed(field, relay_username),
            _ => credential = reader.parsed(field, relay_credential),
        }
    }
    lacking(reader, item, RELAY_KEYS, &entries);
    Some(RelayConfig {
        url: url?,
        username: username?,
        credential: credential?,
    })
}

fn relay_url<'a>(reader: &mut Reader<'a>, field: &Field<'a>) -> Option<RelayUrl> {
    let text = reader.text(field)?;
    match text.parse() {
        Ok(url) => Some(url),
        // What stands before the `@` may be a password, so the value is not repeated.
        Err(error @ RelayUrlError::UserInfo) => {
            let message = format!("{error}: write them under `username` and `credential`");
            reader.fault(field, message);
            None
        }
        Err(error) => {
            reader.bad_value(field, &text, error.to_string());
            None
        }
    }
}

fn relay_username(text: &str) -> Result<String, String> {
    relay_text(text, RELAY_USERNAME_BYTES_MAX).map(str::to_owned)
}

fn relay_credential(text: &str) -> Result<Secret, String> {
    relay_text(text, RELAY_CREDENTIAL_BYTES_MAX).map(|text| Secret::new(text.to_owned()))
}

/// RFC 8489 takes no control characters in either (OpaqueString of RFC 8265).
fn relay_text(text: &str, bytes_max: usize) -> Result<&str, String> {
    if text.is_empty() {
        return Err("is empty: write what the relay's operator gave you".to_owned());
    }
    if text.len() > bytes_max {
        let length = text.len();
        return Err(format!(
            "is {length} bytes long, at most {bytes_max} are allowed"
        ));
    }
    if text.chars().any(char::is_control) {
        return Err("must be one line without control characters".to_owned());
    }
    Ok(text)
}

/// Reads one address or a list of them.
fn addresses<'a, T, E: ToString>(
    reader: &mut Reader<'a>,
    field: Field<'a>,
    parse: impl Fn(&str) -> Result<T, E>,
    shown: impl Fn(&str) -> String,
) -> Vec<T> {
    if let Node::List(items) = field.node
        && !(1..=ADDRESSES_MAX).contains(&items.len())
    {
        reader.fault(&field, entries_message(&field.name, items.len()));
        return Vec::new();
    }
    let fields = reader.one_or_more(field);
    let mut parsed = Vec::new();
    for field in &fields {
        let Some(text) = reader.text(field) else {
            continue;
        };
        match parse(&text) {
            Ok(value) => parsed.push(value),
            Err(error) => reader.bad_value(field, &shown(&text), error.to_string()),
        }
    }
    parsed
}

fn entries_message(key: &str, entries: usize) -> String {
    if entries == 0 {
        let out = if key == "signalingUrl" {
            ""
        } else {
            ", or leave the key out"
        };
        format!("is an empty list: write an entry{out}")
    } else {
        format!("has {entries} entries, at most {ADDRESSES_MAX} are allowed")
    }
}

/// A token travels in an HTTP header.
fn access_token(text: &str) -> Result<Secret, &'static str> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be one or more visible ASCII characters without spaces");
    }
    Ok(Secret::new(text.to_owned()))
}

fn direct(reader: &mut Reader<'_>) -> Option<DirectPolicy> {
    let field = reader.get("direct")?;
    reader.parsed(&field, |text| match text {
        "true" | "True" | "TRUE" => Ok(DirectPolicy::Preferred),
        "false" | "False" | "FALSE" => Ok(DirectPolicy::Never),
        "require" => Ok(DirectPolicy::Required),
        _ => Err("must be true, false or \"require\""),
    })
}

fn port_mapping(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" | "True" | "TRUE" => Ok(true),
        "false" | "False" | "FALSE" => Ok(false),
        _ => Err("must be true or false"),
    }
}

fn resume(text: &str) -> Result<Duration, String> {
    let resume = values::duration(text)?;
    if resume > RESUME_MAX {
        return Err(format!(
            "is too long: at most {}",
            values::duration_text(RESUME_MAX)
        ));
    }
    if resume < RESUME_MIN {
        return Err(format!(
            "is too short: at least {}, or every change of path would reset connections",
            values::duration_text(RESUME_MIN)
        ));
    }
    Ok(resume)
}

fn max_connections(text: &str) -> Result<u32, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=CONNECTIONS_MAX).contains(number));
    number.ok_or_else(|| format!("must be a whole number from 1 to {CONNECTIONS_MAX}"))
}

/// A relative path begins in the folder of the file.
fn control(file: &Path, text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err("must be the path of a socket, such as /run/stunfwd.sock".to_owned());
    }
    let path = file.parent().unwrap_or_else(|| Path::new("")).join(text);
    let folder = path.parent().map_or(0, |folder| folder.as_os_str().len());
    let length = path.as_os_str().len();
    if length > CONTROL_PATH_BYTES_MAX || folder > CONTROL_FOLDER_BYTES_MAX {
        return Err(format!(
            "is {length} bytes long with its folder: a socket's path may have {CONTROL_PATH_BYTES_MAX}, \
             {CONTROL_FOLDER_BYTES_MAX} of them in its folder: write a shorter one"
        ));
    }
    Ok(PathBuf::from(text))
}

fn mappings(reader: &mut Reader<'_>) -> Vec<PortMapping> {
    let Some(field) = reader.get("mappings") else {
        return Vec::new();
    };
    // A list whose entries are all commented out reads as nothing.
    if matches!(field.node, Node::Null) {
        return Vec::new();
    }
    let mut draft = MappingTable::new().draft();
    for item in reader.items(&field) {
        let Some((mapping, text)) = mapping(reader, &item) else {
            continue;
        };
        if let Err(error) = draft.add(mapping) {
            reader.bad_value(&item, &text, format!("{error}{}", remedy(&error)));
        }
    }
    draft
        .finish()
        .iter()
        .map(|(_, mapping)| mapping.clone())
        .collect()
}

const fn remedy(error: &TableError) -> &'static str {
    match error {
        TableError::LocalTaken { .. } => ": give one of them another local port, or leave it out",
        TableError::Full | TableError::TooManySockets(_) => "",
    }
}

/// Reads a mapping in either form; with it the text that a message shows.
fn mapping<'a>(reader: &mut Reader<'a>, item: &Field<'a>) -> Option<(PortMapping, String)> {
    match item.node {
        Node::Map(_) => mapping_object(reader, item),
        Node::Text(_) | Node::Number(_) | Node::Bool(_) => {
            let text = reader.text(item)?;
            let mapping = reader.parsed(item, str::parse)?;
            Some((mapping, text))
        }
        Node::Null | Node::List(_) => {
            reader.wrong_kind(item, "a text such as `tcp:8080:80`");
            None
        }
    }
}

fn mapping_object<'a>(reader: &mut Reader<'a>, item: &Field<'a>) -> Option<(PortMapping, String)> {
    let mut protocol: Option<Protocol> = None;
    let mut local: Option<PortRange> = None;
    let mut remote: Option<PortRange> = None;
    let entries = reader.entries(item, MAPPING_KEYS);
    for (key, field) in &entries {
        match *key {
            "protocol" => protocol = reader.parsed(field, str::parse),
            "localPort" => local = reader.parsed(field, port_range),
            _ => remote = reader.parsed(field, port_range),
        }
    }
    lacking(reader, item, MAPPING_KEYS, &entries);
    let (protocol, local, remote) = (protocol?, local?, remote?);
    match PortMapping::new(protocol, None, local, None, remote) {
        Ok(mapping) => {
            let text = mapping.to_string();
            Some((mapping, text))
        }
        Err(error) => {
            reader.fault(item, error.to_string());
            None
        }
    }
}

/// Reports the keys that an object should have and does not.
fn lacking<'a>(
    reader: &mut Reader<'a>,
    item: &Field<'a>,
    wanted: &[&'static str],
    entries: &[(&'static str, Field<'a>)],
) {
    let missing = wanted
        .iter()
        .filter(|key| entries.iter().all(|(have, _)| have != *key));
    let missing: Vec<_> = missing.map(|key| format!("`{key}`")).collect();
    if !missing.is_empty() {
        reader.fault(item, format!("lacks {}", missing.join(", ")));
    }
}

fn port_range(text: &str) -> Result<PortRange, GrammarError> {
    text.trim().parse()
}

fn allow(reader: &mut Reader<'_>) -> AllowList {
    let Some(field) = reader.get("allow") else {
        return AllowList::default();
    };
    let items = reader.items(&field);
    if items.len() > ALLOW_ENTRIES_MAX {
        let message = format!(
            "has {} entries, at most {ALLOW_ENTRIES_MAX} are allowed",
            items.len()
        );
        reader.fault(&field, message);
        return AllowList::default();
    }
    AllowList::new(
        items
            .iter()
            .filter_map(|item| reader.parsed(item, str::parse))
            .collect(),
    )
}
