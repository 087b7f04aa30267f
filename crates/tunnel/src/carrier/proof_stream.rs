//! A carrier's first stream: it runs the proof over quinn, and the notices after it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::time::{Instant, timeout_at};
use tracing::debug;
use zeroize::Zeroizing;

use super::carrier::Carrier;
use super::endpoint::{CarrierConfig, Side};
use super::error::{CarrierClosed, CarrierClosedInTls, CarrierError};
use super::failures::Failures;
use super::frame::{FrameDecoder, FrameError};
use super::hello::{CarrierToken, Hello, InstanceId, PROTOCOL_VERSION};
use super::identity::{PublicKey, key_of_spki};
use super::notice::Notice;
use super::pair_keys::PairKeys;
use super::proof::{Channel, Credentials, Output, Proof};
use super::proof_outcome::{ProofError, ProofOutcome};
use super::secrets::EXPORTER_LABEL;
use super::settings::HANDSHAKE_LIMIT;
use super::socket::DemuxSocket;
use super::virtual_addr::VirtualAddr;

/// How long an unproven carrier may stay on the egress: the ingress lets its carriers wait for the first proof.
const UNPROVEN_LIMIT: Duration = Duration::from_secs(30);

/// How long one SPAKE2 run keeps the other carriers to the same peer waiting. The path has just been validated, so that
/// no answer within this means that it was lost meanwhile, and the others must not wait for that to be certain.
const TURN_LIMIT: Duration = Duration::from_secs(1);

/// Notices that wait in either direction. A carrier has a few in its life.
const NOTICES: usize = 32;

/// What is read of the first stream at once.
const READ_BYTES: usize = 4096;

/// Close code: the proof failed.
pub(super) const CLOSE_PROOF: u32 = 1;
/// Close code: the first stream broke its protocol.
const CLOSE_PROTOCOL: u32 = 2;

/// What all proofs of one process share.
pub(super) struct Prover {
    hello: Hello,
    own_key: PublicKey,
    password: Zeroizing<[u8; 32]>,
    tables: Mutex<Tables>,
    turns: Mutex<BTreeMap<PublicKey, Arc<tokio::sync::Mutex<()>>>>,
}

struct Tables {
    pairs: PairKeys,
    failures: Failures,
    rng: StdRng,
}

impl Prover {
    pub(super) fn new(config: &CarrierConfig, own_key: PublicKey) -> Self {
        Self {
            hello: Hello {
                side: config.side,
                version_min: PROTOCOL_VERSION,
                version_max: PROTOCOL_VERSION,
                features: config.features,
                instance: config.instance,
                resume: config.resume,
                token: CarrierToken(0),
            },
            own_key,
            password: Zeroizing::new(config.proof_password),
            tables: Mutex::new(Tables {
                pairs: PairKeys::new(config.instance),
                failures: Failures::default(),
                rng: StdRng::from_seed(config.seed),
            }),
            turns: Mutex::default(),
        }
    }

    pub(super) fn failed_proofs(&self) -> u64 {
        self.lock().failures.total()
    }

    /// The ingress' half, on a connection whose TLS is done.
    pub(super) async fn prove_dialed(
        &self,
        connection: Connection,
        socket: Arc<DemuxSocket>,
        addr: VirtualAddr,
        expected: Option<InstanceId>,
    ) -> Result<Carrier, CarrierError> {
        let channel = self.channel(&connection)?;
        let (send, recv) = connection.open_bi().await.map_err(closed_in_tls)?;
        self.prove(connection, socket, addr, channel, expected, send, recv)
            .await
    }

    /// The egress' half, on a connection whose TLS is done.
    pub(super) async fn prove_accepted(
        &self,
        connection: Connection,
        socket: Arc<DemuxSocket>,
        addr: VirtualAddr,
    ) -> Result<Carrier, CarrierError> {
        let channel = self.channel(&connection)?;
        let proven = tokio::time::timeout(UNPROVEN_LIMIT, async {
            let (send, recv) = connection.accept_bi().await.map_err(closed_in_tls)?;
            self.prove(connection.clone(), socket, addr, channel, None, send, recv)
                .await
        })
        .await;
        proven.unwrap_or(Err(CarrierError::ProofTimeout))
    }

    async fn prove(
        &self,
        connection: Connection,
        socket: Arc<DemuxSocket>,
        addr: VirtualAddr,
        channel: Channel,
        expected: Option<InstanceId>,
        mut send: SendStream,
        mut recv: RecvStream,
    ) -> Result<Carrier, CarrierError> {
        let peer_key = channel.peer_key;
        let mut proof = self.begin(channel, expected);
        let outcome = self
            .run(&connection, peer_key, &mut proof, &mut send, &mut recv)
            .await?;
        let (notice_tx, outgoing) = mpsc::channel(NOTICES);
        let (incoming, notice_rx) = mpsc::channel(NOTICES);
        let decoder = proof.into_decoder();
        tokio::spawn(run_outgoing(send, outgoing));
        tokio::spawn(run_incoming(connection.clone(), recv, decoder, incoming));
        Ok(Carrier::new(
            connection, socket, addr, peer_key, outcome, notice_tx, notice_rx,
        ))
    }

    async fn run(
        &self,
        connection: &Connection,
        peer_key: PublicKey,
        proof: &mut Proof,
        send: &mut SendStream,
        recv: &mut RecvStream,
    ) -> Result<ProofOutcome, CarrierError> {
        // Held until this proof has ended, whichever way, or has taken too long for the others.
        let mut turn: Option<OwnedMutexGuard<()>> = None;
        let mut turn_ends = Instant::now();
        let mut deadline = Instant::now() + self.answer_limit();
        loop {
            let bytes = proof.poll_transmit();
            if !bytes.is_empty() {
                send.write_all(&bytes).await.map_err(write_failed)?;
            }
            match proof.output() {
                Output::Done(outcome) => return Ok(outcome),
                Output::Turn => {
                    if turn.is_none() {
                        turn = Some(tokio::select! {
                            guard = self.turn_of(peer_key).lock_owned() => guard,
                            error = connection.closed() => return Err(closed_in_tls(error)),
                        });
                    }
                    turn_ends = Instant::now() + TURN_LIMIT;
                    deadline = Instant::now() + self.answer_limit();
                    proof.take_turn(&self.lock().pairs);
                }
                Output::Read => {
                    let until = if turn.is_some() {
                        deadline.min(turn_ends)
                    } else {
                        deadline
                    };
                    let read = timeout_at(until, recv.read_chunk(READ_BYTES, true)).await;
                    if read.is_err() && until < deadline {
                        turn = None;
                        continue;
                    }
                    let chunk = read
                        .map_err(|_| CarrierError::ProofTimeout)?
                        .map_err(read_failed)?;
                    let Some(chunk) = chunk else {
                        return Err(ProofError::Frame(FrameError::Unexpected(0)).into());
                    };
                    let now = super::socket::now();
                    let mut tables = self.lock();
                    let Tables {
                        pairs, failures, ..
                    } = &mut *tables;
                    proof.handle_bytes(&chunk.bytes, pairs, failures, now)?;
                }
            }
        }
    }

    fn begin(&self, channel: Channel, expected: Option<InstanceId>) -> Proof {
        let mut tables = self.lock();
        let mut seed = [0; 32];
        tables.rng.fill_bytes(&mut seed);
        let token = match self.hello.side {
            Side::Ingress => CarrierToken(tables.rng.next_u64()),
            Side::Egress => CarrierToken(0),
        };
        let credentials = Credentials {
            hello: Hello {
                token,
                ..self.hello
            },
            password: self.password.clone(),
        };
        Proof::new(credentials, channel, expected, &tables.pairs, seed)
    }

    /// How long one answer may take. The egress waits longer in all, see [`UNPROVEN_LIMIT`].
    fn answer_limit(&self) -> Duration {
        match self.hello.side {
            Side::Ingress => HANDSHAKE_LIMIT,
            Side::Egress => UNPROVEN_LIMIT,
        }
    }

    fn channel(&self, connection: &Connection) -> Result<Channel, CarrierError> {
        let mut exporter = [0; 32];
        let exported = connection.export_keying_material(&mut exporter, EXPORTER_LABEL, b"");
        let peer_key = peer_key(connection);
        match (exported, peer_key) {
            (Ok(()), Some(peer_key)) => Ok(Channel {
                exporter,
                own_key: self.own_key,
                peer_key,
            }),
            _ => Err(CarrierError::Closed(
                connection
                    .close_reason()
                    .map_or(CarrierClosed::Local, CarrierClosed::from),
            )),
        }
    }

    fn turn_of(&self, peer: PublicKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody waits for the ones that only the table holds.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(peer).or_default().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key that TLS verified.
pub(super) fn peer_key(connection: &Connection) -> Option<PublicKey> {
    let identity = connection.peer_identity()?;
    let certs = identity
        .downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>()
        .ok()?;
    key_of_spki(certs.first()?)
}

async fn run_outgoing(mut send: SendStream, mut notices: mpsc::Receiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        if send.write_all(&notice.encode()).await.is_err() {
            return;
        }
    }
}

async fn run_incoming(
    connection: Connection,
    mut recv: RecvStream,
    mut decoder: FrameDecoder,
    notices: mpsc::Sender<Notice>,
) {
    loop {
        loop {
            let notice = match decoder.next() {
                Ok(Some(frame)) => Notice::decode(&frame),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            match notice {
                Ok(Some(notice)) => {
                    if notices.send(notice).await.is_err() {
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    debug!(%error, "the first stream broke its protocol");
                    connection.close(
                        VarInt::from_u32(CLOSE_PROTOCOL),
                        error.to_string().as_bytes(),
                    );
                    return;
                }
            }
        }
        match recv.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => decoder.push(&chunk.bytes),
            Ok(None) | Err(_) => return,
        }
    }
}

fn closed_in_tls(error: ConnectionError) -> CarrierError {
    CarrierClosedInTls(error.into()).into()
}

fn write_failed(error: WriteError) -> CarrierError {
    match error {
        WriteError::ConnectionLost(error) => closed_in_tls(error),
        WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
            ProofError::Frame(FrameError::Unexpected(0)).into()
        }
    }
}

fn read_failed(error: ReadError) -> CarrierError {
    match error {
        ReadError::ConnectionLost(error) => closed_in_tls(error),
        ReadError::Reset(_)
        | ReadError::ClosedStream
        | ReadError::IllegalOrderedRead
        | ReadError::ZeroRttRejected => ProofError::Frame(FrameError::Unexpected(0)).into(),
    }
}
