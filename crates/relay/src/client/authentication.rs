//! Who we are to the relay: the long-term mechanism of RFC 8489, section 9.2, with credentials that change.

use stunwire::IntegrityKey;

use super::config::Credential;

/// Realm and nonce are refused above this length (RFC 8489, sections 14.9 and 14.10: 763 bytes).
const TEXT_MAX: usize = 763;

/// What signs a request.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) username: String,
    pub(super) key: IntegrityKey,
}

/// What the relay told us to sign with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) realm: String,
    pub(super) nonce: String,
}

impl Challenge {
    /// Takes a challenge out of an answer; `None` when it is not a usable one.
    pub(super) fn new(realm: &str, nonce: &str) -> Option<Self> {
        let usable = !nonce.is_empty() && realm.len() <= TEXT_MAX && nonce.len() <= TEXT_MAX;
        usable.then(|| Self {
            realm: realm.to_owned(),
            nonce: nonce.to_owned(),
        })
    }
}

/// The newest credentials, the last challenge, and which identity owns the allocation.
///
/// Time-limited user names change with every renewal, but an allocation belongs to a user (441 otherwise).
/// Relays disagree on who that is: ours compares the part after the colon, others the whole name. So the
/// newest name is tried first, and after a 441 the one that made the allocation is used while it lives.
#[derive(Debug)]
pub(super) struct Authentication {
    username: String,
    credential: Credential,
    challenge: Option<Challenge>,
    newest: Option<Identity>,
    owner: Option<Identity>,
    as_owner: bool,
}

impl Authentication {
    pub(super) const fn new(username: String, credential: Credential) -> Self {
        Self {
            username,
            credential,
            challenge: None,
            newest: None,
            owner: None,
            as_owner: false,
        }
    }

    pub(super) fn set_credentials(&mut self, username: String, credential: Credential) {
        self.username = username;
        self.credential = credential;
        self.as_owner = false;
        self.derive();
    }

    pub(super) const fn challenge(&self) -> Option<&Challenge> {
        self.challenge.as_ref()
    }

    pub(super) fn adopt(&mut self, challenge: Challenge) {
        let same_realm = self
            .challenge
            .as_ref()
            .is_some_and(|old| old.realm == challenge.realm);
        self.challenge = Some(challenge);
        if !same_realm {
            self.owner = None;
            self.as_owner = false;
            self.derive();
        }
    }

    /// What to sign a request for a new allocation with; `None` before the first challenge.
    pub(super) const fn newest(&self) -> Option<&Identity> {
        self.newest.as_ref()
    }

    /// What to sign a request about the existing allocation with.
    pub(super) const fn current(&self) -> Option<&Identity> {
        match &self.owner {
            Some(owner) if self.as_owner => Some(owner),
            _ => self.newest.as_ref(),
        }
    }

    /// An allocation was made with the newest identity.
    pub(super) fn on_allocated(&mut self) {
        self.owner = self.newest.clone();
        self.as_owner = false;
    }

    /// The relay answered 441: speak as the owner from now on.
    pub(super) const fn fall_back_to_owner(&mut self) {
        self.as_owner = self.owner.is_some();
    }

    fn derive(&mut self) {
        self.newest = self.challenge.as_ref().map(|challenge| Identity {
            username: self.username.clone(),
            key: IntegrityKey::long_term(
                &self.username,
                &challenge.realm,
                self.credential.expose(),
            ),
        });
    }
}
