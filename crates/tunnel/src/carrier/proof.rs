//! The proof that both ends know the room: bytes in, bytes out. PROTOCOL-carrier.md has the wire form.
//!
//! The ingress speaks first and sends all it can, so that a proof costs one round trip after TLS:
//!
//! ```text
//! first carrier of an instance pair          later carriers
//! HELLO SPAKE      ──►                       HELLO MAC ──►
//!       ◄── HELLO SPAKE CONFIRM                        ◄── HELLO MAC      (or UNKNOWN: then SPAKE, as on the left)
//! CONFIRM          ──►
//! ```

use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;
use spake2::{Ed25519Group, Identity, Password, Spake2};
use zeroize::Zeroizing;

use super::endpoint::Side;
use super::failures::Failures;
use super::frame::{self, Frame, FrameDecoder, FrameError, kind};
use super::hello::{Hello, InstanceId};
use super::identity::PublicKey;
use super::pair_keys::PairKeys;
use super::proof_outcome::{ProofError, ProofOutcome};
use super::secrets::{MAC_LEN, PairKey, SpakeKeys, bytes_of, transcript};
use super::spake_rng::SpakeRng;
use hmac::Mac;

const IDENTITY_INGRESS: &[u8] = b"stunfwd ingress";
const IDENTITY_EGRESS: &[u8] = b"stunfwd egress";

/// Times that UNKNOWN may be said in one proof: the pair was forgotten, and once more if a key that was made
/// meanwhile is gone too.
const UNKNOWN_MAX: u8 = 2;

/// The TLS session that the proof is about.
#[derive(Clone)]
pub struct Channel {
    /// `EXPORTER-stunfwd-room` of this session.
    pub exporter: [u8; 32],
    /// Our own key in it.
    pub own_key: PublicKey,
    /// The peer's key in it, as TLS verified it.
    pub peer_key: PublicKey,
}

/// What one end brings along.
pub struct Credentials {
    /// What it says about itself.
    pub hello: Hello,
    /// What the room's key gave for this purpose (`signal_client::RoomKeys::proof_password`).
    pub password: Zeroizing<[u8; 32]>,
}

/// What the machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// More bytes from the peer.
    Read,
    /// Leave to run SPAKE2: [`Proof::take_turn`]. One ingress runs one at a time with a peer.
    Turn,
    /// Nothing: it is proven.
    Done(ProofOutcome),
}

/// One proof on one carrier.
pub struct Proof {
    credentials: Credentials,
    channel: Channel,
    own_hello: Vec<u8>,
    peer_hello: Option<(Hello, Vec<u8>, u16)>,
    hello_sent: bool,
    expected: Option<InstanceId>,
    /// The key that the egress did not know.
    refused: Option<PairKey>,
    unknowns: u8,
    state: State,
    decoder: FrameDecoder,
    out: Vec<u8>,
    rng: StdRng,
}

enum State {
    /// Ingress: SPAKE2 is needed, and leave for it.
    Turn,
    /// Ingress: our MAC is out.
    MacSent {
        key: PairKey,
        mac: [u8; MAC_LEN],
    },
    /// Ingress: our SPAKE message is out.
    SpakeSent {
        spake: Spake2<Ed25519Group>,
        message: Vec<u8>,
    },
    /// Ingress: the peer's SPAKE message is in, its confirmation is not.
    Unconfirmed {
        keys: SpakeKeys,
        transcript: [u8; 32],
    },
    /// Egress: nothing was claimed yet.
    AwaitClaim,
    /// Egress: our confirmation is out, the peer's is not in.
    AwaitConfirm {
        keys: SpakeKeys,
        transcript: [u8; 32],
    },
    Done(ProofOutcome),
    Failed,
}

impl Proof {
    /// Begins a proof as `credentials.hello.side`. The ingress may say which run of the peer it `expected` (otherwise
    /// the one that last proved the room), and proves by MAC when it knows that pair.
    pub fn new(
        credentials: Credentials,
        channel: Channel,
        expected: Option<InstanceId>,
        pairs: &PairKeys,
        seed: [u8; 32],
    ) -> Self {
        let side = credentials.hello.side;
        let own_hello = credentials.hello.encode();
        let mut proof = Self {
            own_hello,
            peer_hello: None,
            hello_sent: false,
            expected,
            refused: None,
            unknowns: 0,
            state: State::AwaitClaim,
            decoder: FrameDecoder::default(),
            out: Vec::new(),
            rng: StdRng::from_seed(seed),
            credentials,
            channel,
        };
        if side == Side::Ingress {
            proof.state = State::Turn;
            proof.claim_by_mac(pairs);
        }
        proof
    }

    /// Takes bytes from the peer. After an error the carrier is to be closed, and nothing else will help.
    ///
    /// # Errors
    /// See [`ProofError`].
    pub fn handle_bytes(
        &mut self,
        bytes: &[u8],
        pairs: &mut PairKeys,
        failures: &mut Failures,
        now: Instant,
    ) -> Result<(), ProofError> {
        self.decoder.push(bytes);
        // What follows the last frame of the proof belongs to whoever reads the stream next.
        while !matches!(self.state, State::Done(_)) {
            if matches!(self.state, State::Failed) {
                return Err(ProofError::Frame(FrameError::Unexpected(0)));
            }
            let handled = match self.decoder.next() {
                Ok(Some(frame)) => self.handle_frame(&frame, pairs, failures, now),
                Ok(None) => return Ok(()),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = handled {
                self.state = State::Failed;
                return Err(error);
            }
        }
        Ok(())
    }

    /// The bytes to send now; empty when there are none.
    pub fn poll_transmit(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// What it waits for, after everything was sent.
    pub fn output(&self) -> Output {
        match &self.state {
            State::Turn => Output::Turn,
            State::Done(outcome) => Output::Done(*outcome),
            State::MacSent { .. }
            | State::SpakeSent { .. }
            | State::Unconfirmed { .. }
            | State::AwaitClaim
            | State::AwaitConfirm { .. }
            | State::Failed => Output::Read,
        }
    }

    /// Runs SPAKE2, or proves by MAC if another carrier's proof has ended well meanwhile.
    pub fn take_turn(&mut self, pairs: &PairKeys) {
        if !matches!(self.state, State::Turn) {
            return;
        }
        if self.unknowns < UNKNOWN_MAX && self.claim_by_mac(pairs) {
            return;
        }
        let (spake, message) = self.start_spake();
        self.send_hello();
        frame::encode(&mut self.out, kind::SPAKE, &message);
        self.state = State::SpakeSent { spake, message };
    }

    /// The bytes that came after the proof, with what reads them.
    pub(super) fn into_decoder(self) -> FrameDecoder {
        self.decoder
    }

    fn handle_frame(
        &mut self,
        frame: &Frame,
        pairs: &mut PairKeys,
        failures: &mut Failures,
        now: Instant,
    ) -> Result<(), ProofError> {
        let unexpected = ProofError::Frame(FrameError::Unexpected(frame.kind));
        match (
            frame.kind,
            std::mem::replace(&mut self.state, State::Failed),
        ) {
            (kind::HELLO, state) => {
                self.state = state;
                self.handle_hello(&frame.body)
            }
            (_, state) if frame.is_skippable() => {
                self.state = state;
                Ok(())
            }
            _ if self.peer_hello.is_none() => Err(unexpected),
            (kind::MAC, State::MacSent { key, mac }) => {
                self.verify_mac_of_egress(&frame.body, &key, &mac)
            }
            (kind::UNKNOWN, State::MacSent { key, .. }) => {
                self.handle_unknown(key);
                Ok(())
            }
            (kind::SPAKE, State::SpakeSent { spake, message }) => {
                self.finish_spake(&frame.body, spake, &message)
            }
            (kind::CONFIRM, State::Unconfirmed { keys, transcript }) => {
                self.verify_confirmation(&frame.body, &keys, &transcript, pairs)?;
                self.send_confirmation(&keys, &transcript);
                Ok(())
            }
            (kind::MAC, State::AwaitClaim) => self.answer_mac(&frame.body, pairs),
            (kind::SPAKE, State::AwaitClaim) => self.answer_spake(&frame.body, failures, now),
            (kind::CONFIRM, State::AwaitConfirm { keys, transcript }) => {
                self.verify_confirmation(&frame.body, &keys, &transcript, pairs)?;
                failures.succeeded(&self.channel.peer_key);
                Ok(())
            }
            _ => Err(unexpected),
        }
    }

    fn handle_hello(&mut self, body: &[u8]) -> Result<(), ProofError> {
        if self.peer_hello.is_some() {
            return Err(FrameError::Unexpected(kind::HELLO).into());
        }
        let (own, peer) = (&self.credentials.hello, Hello::decode(body)?);
        if peer.side == own.side || peer.instance == own.instance {
            return Err(ProofError::Reflected);
        }
        let Some(version) = own.common_version(&peer) else {
            return Err(ProofError::Version {
                own_min: own.version_min,
                own_max: own.version_max,
                peer_min: peer.version_min,
                peer_max: peer.version_max,
            });
        };
        self.peer_hello = Some((peer, body.to_vec(), version));
        Ok(())
    }

    // The ingress.

    fn claim_by_mac(&mut self, pairs: &PairKeys) -> bool {
        let peer_key = &self.channel.peer_key;
        let said = self.peer_hello.as_ref().map(|(peer, ..)| peer.instance);
        let instance = said
            .or(self.expected)
            .or_else(|| pairs.latest_instance(peer_key));
        let key = instance.and_then(|instance| pairs.get(peer_key, &instance));
        let Some(key) = key.filter(|key| self.refused.as_ref() != Some(key)) else {
            return false;
        };
        self.send_hello();
        let mac = bytes_of(key.mac(Side::Ingress, &self.transcript(&[&self.own_hello])));
        frame::encode(&mut self.out, kind::MAC, &mac);
        self.expected = instance;
        self.state = State::MacSent { key, mac };
        true
    }

    fn verify_mac_of_egress(
        &mut self,
        body: &[u8],
        key: &PairKey,
        mac: &[u8; MAC_LEN],
    ) -> Result<(), ProofError> {
        let (peer, hello, version) = self.peer()?;
        let transcript = self.transcript(&[&self.own_hello, hello, mac, &version.to_be_bytes()]);
        if self.expected != Some(peer.instance) {
            return Err(ProofError::WrongRoom);
        }
        key.mac(Side::Egress, &transcript)
            .verify_slice(body)
            .map_err(|_| ProofError::WrongRoom)?;
        self.done(false)
    }

    fn handle_unknown(&mut self, key: PairKey) {
        self.unknowns += 1;
        self.refused = Some(key);
        self.state = State::Turn;
    }

    fn finish_spake(
        &mut self,
        body: &[u8],
        spake: Spake2<Ed25519Group>,
        message: &[u8],
    ) -> Result<(), ProofError> {
        let key = Zeroizing::new(spake.finish(body).map_err(|_| ProofError::BadSpake)?);
        let (_, hello, version) = self.peer()?;
        let transcript = self.transcript(&[
            &self.own_hello,
            hello,
            message,
            body,
            &version.to_be_bytes(),
        ]);
        self.state = State::Unconfirmed {
            keys: SpakeKeys::derive(&key, &self.channel.exporter),
            transcript,
        };
        Ok(())
    }

    // The egress.

    /// A MAC that does not verify is answered like one of a pair that we forgot. The ends may hold different keys of one
    /// pair (two carriers ran SPAKE2, and their confirmations overtook each other), and only SPAKE2 makes them one
    /// again. It gives nothing away: the key has 256 bits, and SPAKE2 counts the guess.
    fn answer_mac(&mut self, body: &[u8], pairs: &PairKeys) -> Result<(), ProofError> {
        let (peer, hello, version) = self.peer()?;
        let claimed = self.transcript(&[hello]);
        let key = pairs
            .get(&self.channel.peer_key, &peer.instance)
            .filter(|key| key.mac(Side::Ingress, &claimed).verify_slice(body).is_ok());
        let Some(key) = key else {
            self.unknowns += 1;
            if self.unknowns > UNKNOWN_MAX {
                return Err(FrameError::Unexpected(kind::MAC).into());
            }
            self.send_hello();
            frame::encode(&mut self.out, kind::UNKNOWN, &[]);
            self.state = State::AwaitClaim;
            return Ok(());
        };
        let transcript = self.transcript(&[hello, &self.own_hello, body, &version.to_be_bytes()]);
        let answer = bytes_of(key.mac(Side::Egress, &transcript));
        self.send_hello();
        frame::encode(&mut self.out, kind::MAC, &answer);
        self.done(false)
    }

    fn answer_spake(
        &mut self,
        body: &[u8],
        failures: &mut Failures,
        now: Instant,
    ) -> Result<(), ProofError> {
        if !failures.begin(&self.channel.peer_key, now) {
            return Err(ProofError::BackOff);
        }
        let (spake, message) = self.start_spake();
        let key = Zeroizing::new(spake.finish(body).map_err(|_| ProofError::BadSpake)?);
        let (_, hello, version) = self.peer()?;
        let transcript = self.transcript(&[
            hello,
            &self.own_hello,
            body,
            &message,
            &version.to_be_bytes(),
        ]);
        let keys = SpakeKeys::derive(&key, &self.channel.exporter);
        self.send_hello();
        frame::encode(&mut self.out, kind::SPAKE, &message);
        self.send_confirmation(&keys, &transcript);
        self.state = State::AwaitConfirm { keys, transcript };
        Ok(())
    }

    // Both.

    fn start_spake(&mut self) -> (Spake2<Ed25519Group>, Vec<u8>) {
        let password = Password::new(self.credentials.password.as_slice());
        let (ingress, egress) = (
            Identity::new(IDENTITY_INGRESS),
            Identity::new(IDENTITY_EGRESS),
        );
        let rng = SpakeRng(&mut self.rng);
        match self.credentials.hello.side {
            Side::Ingress => Spake2::start_a_with_rng(&password, &ingress, &egress, rng),
            Side::Egress => Spake2::start_b_with_rng(&password, &ingress, &egress, rng),
        }
    }

    fn send_confirmation(&mut self, keys: &SpakeKeys, transcript: &[u8; 32]) {
        let confirmation = bytes_of(keys.confirmation(self.credentials.hello.side, transcript));
        frame::encode(&mut self.out, kind::CONFIRM, &confirmation);
    }

    fn verify_confirmation(
        &mut self,
        body: &[u8],
        keys: &SpakeKeys,
        transcript: &[u8; 32],
        pairs: &mut PairKeys,
    ) -> Result<(), ProofError> {
        let peer_side = self.credentials.hello.side.other();
        keys.confirmation(peer_side, transcript)
            .verify_slice(body)
            .map_err(|_| ProofError::WrongRoom)?;
        let (peer, ..) = self.peer()?;
        pairs.insert(self.channel.peer_key, peer.instance, keys.pair.clone());
        self.done(true)
    }

    fn done(&mut self, first_of_pair: bool) -> Result<(), ProofError> {
        let (peer, _, version) = self.peer()?;
        let own = &self.credentials.hello;
        let token = if own.side == Side::Ingress {
            own.token
        } else {
            peer.token
        };
        let features = own.features & peer.features;
        self.state = State::Done(ProofOutcome {
            peer: *peer,
            version,
            features,
            token,
            first_of_pair,
        });
        Ok(())
    }

    fn peer(&self) -> Result<(&Hello, &[u8], u16), ProofError> {
        match &self.peer_hello {
            Some((hello, bytes, version)) => Ok((hello, bytes, *version)),
            None => Err(FrameError::Unexpected(kind::HELLO).into()),
        }
    }

    fn send_hello(&mut self) {
        if !self.hello_sent {
            frame::encode(&mut self.out, kind::HELLO, &self.own_hello);
            self.hello_sent = true;
        }
    }

    fn transcript(&self, parts: &[&[u8]]) -> [u8; 32] {
        let Channel {
            exporter,
            own_key,
            peer_key,
        } = &self.channel;
        match self.credentials.hello.side {
            Side::Ingress => transcript(exporter, own_key, peer_key, parts),
            Side::Egress => transcript(exporter, peer_key, own_key, parts),
        }
    }
}
