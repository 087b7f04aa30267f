//! One socket's mapping: made, renewed, made again, given back.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::choice::{self, Step};
use crate::igd::{Igd, any_port};
use crate::lease::{Lease, Wish};
use crate::port_control::Nonce;
use crate::presence::{self, Probed};
use crate::route::{Gateway, Gateways};
use crate::standing::{Standing, Verdict};
use crate::timing::Timing;
use crate::view::{Mapping, Presence, Protocol};

/// How often a renewal may fail in a row before the mapping counts as lost.
const RENEWALS_FAILED_MAX: u32 = 3;

/// What the outside has to say about a mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    /// Somebody looked, and it does not work.
    Refuted(SocketAddr),
    /// Addresses or routes are different ones now.
    NetworkChanged,
}

/// What a keeper has to say.
#[derive(Debug)]
pub(crate) enum Report {
    /// What its gateway speaks.
    Presence(Presence),
    /// What it holds.
    Mapping(Option<Mapping>),
    /// It stops trying in this network.
    GaveUp(Mapping),
}

/// Keeps the mapping of one socket.
pub(crate) struct Keeper {
    pub(crate) index: usize,
    pub(crate) base: SocketAddr,
    pub(crate) gateways: Gateways,
    pub(crate) timing: Timing,
    pub(crate) commands_rx: mpsc::Receiver<Command>,
    pub(crate) reports_tx: mpsc::Sender<(usize, Report)>,
    pub(crate) stop: CancellationToken,
}

/// How the holding of a lease ended.
enum Ended {
    Stopped,
    /// The gateway is another one, or keeps nothing for us.
    Lost,
    Refuted(Verdict),
}

/// Why a wait was over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    Stopped,
    News,
    Time,
}

impl Keeper {
    /// Runs until it is told to stop; what it holds is given back then.
    pub(crate) async fn run(self) {
        Run {
            nonce: rand::random(),
            presence: Presence::default(),
            standing: Standing::default(),
            probes: JoinSet::new(),
            keeper: self,
        }
        .run()
        .await;
    }
}

struct Run {
    keeper: Keeper,
    nonce: Nonce,
    presence: Presence,
    standing: Standing,
    /// Answers that were not waited for.
    probes: JoinSet<Probed>,
}

impl Run {
    async fn run(mut self) {
        let mut known = None;
        loop {
            let found = self.find_gateway().await;
            if found != known {
                debug!(base = %self.keeper.base, ?found, "gateway");
                self.standing = Standing::default();
                self.presence = found.as_ref().map_or_else(Presence::absent, before_asking);
                known = found;
            }
            let Some(gateway) = found else {
                self.report(Report::Presence(Presence::absent())).await;
                if self.pause(self.keeper.timing.look).await == Woken::Stopped {
                    return;
                }
                continue;
            };
            let ended = match self.take(&gateway).await {
                Some(lease) => self.hold(&gateway, lease).await,
                None => Ended::Refuted(Verdict::Again(self.keeper.timing.retry)),
            };
            let woken = match ended {
                Ended::Stopped => Woken::Stopped,
                Ended::Lost => Woken::Time,
                Ended::Refuted(Verdict::Again(wait)) => self.wait(&gateway, Some(wait)).await,
                Ended::Refuted(Verdict::GiveUp) => self.wait(&gateway, None).await,
            };
            match woken {
                Woken::Stopped => return,
                Woken::News => self.standing = Standing::default(),
                Woken::Time => {}
            }
        }
    }

    /// Asks the gateway by what it speaks, the preferred protocol first; `None` when nothing came of it.
    async fn take(&mut self, gateway: &Gateway) -> Option<Lease> {
        let grace_end = Instant::now() + self.keeper.timing.grace;
        let mut presence = before_asking(gateway);
        let mut tried = BTreeSet::new();
        let mut igd = None;
        self.probes = presence::probe(gateway, &self.keeper.timing);
        loop {
            let grace_over = Instant::now() >= grace_end;
            match choice::next(&presence, &tried, self.standing.avoided(), grace_over) {
                Step::Ask(protocol) => {
                    tried.insert(protocol);
                    if let Some(lease) = self.ask(protocol, gateway, &igd).await {
                        return Some(lease);
                    }
                    if self.keeper.stop.is_cancelled() {
                        return None;
                    }
                }
                Step::Nothing => {
                    debug!(%gateway, ?presence, "the gateway makes no port mapping");
                    return None;
                }
                Step::Wait => tokio::select! {
                    () = self.keeper.stop.cancelled() => return None,
                    () = sleep_until(grace_end), if !grace_over => {}
                    Some(probed) = self.probes.join_next() => {
                        let Ok(probed) = probed else { return None };
                        probed.note(&mut presence);
                        self.report_probed(&probed).await;
                        igd = probed.igd.or(igd);
                    }
                    else => return None,
                },
            }
        }
    }

    async fn ask(
        &mut self,
        protocol: Protocol,
        gateway: &Gateway,
        igd: &Option<Igd>,
    ) -> Option<Lease> {
        let internal_port = self.keeper.base.port();
        let wish = Wish {
            internal_port,
            external_port: if self.standing.wants_another_port() {
                any_port()
            } else {
                internal_port
            },
            nonce: self.nonce,
        };
        let timing = self.keeper.timing.clone();
        let asking = Lease::take(protocol, gateway, igd.clone(), wish, &timing);
        let stop = self.keeper.stop.clone();
        let overdue = async {
            stop.cancelled().await;
            // What was asked for may be granted: half of the time to find out, half to give it back.
            sleep(timing.release / 2).await;
        };
        tokio::select! {
            asked = asking => match asked {
                Ok(lease) => Some(lease),
                Err(error) => {
                    debug!(%gateway, %protocol, %error, "no port mapping");
                    None
                }
            },
            () = overdue => None,
        }
    }

    /// Renews a lease until something ends it.
    async fn hold(&mut self, gateway: &Gateway, mut lease: Lease) -> Ended {
        let timing = self.keeper.timing.clone();
        let since = Instant::now();
        let mut failed = 0;
        let mut renew_at = since + lease.renew_after(&timing);
        let mut watch = interval_at(since + timing.watch, timing.watch);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.keeper.stop.clone();
        self.report_lease(&lease).await;
        loop {
            let renews = tokio::select! {
                biased;
                () = stop.cancelled() => false,
                Some(command) = self.keeper.commands_rx.recv() => match command {
                    Command::Refuted(external) if external == lease.external => {
                        return self.refuted(gateway, &lease, since.elapsed()).await;
                    }
                    Command::Refuted(_) => continue,
                    Command::NetworkChanged => {
                        self.standing = Standing::default();
                        true
                    }
                },
                () = sleep_until(renew_at) => true,
                Some(probed) = self.probes.join_next() => {
                    if let Ok(probed) = probed {
                        self.report_probed(&probed).await;
                    }
                    continue;
                }
                _ = watch.tick() => {
                    let remembered = stop.run_until_cancelled(lease.is_remembered(gateway, &timing)).await;
                    let is_there = self.find_gateway().await == Some(*gateway);
                    if is_there && remembered == Some(true) {
                        continue;
                    }
                    remembered.is_some()
                }
            };
            if !renews || stop.is_cancelled() {
                self.report(Report::Mapping(None)).await;
                lease.delete(gateway, &timing).await;
                return Ended::Stopped;
            }
            if self.find_gateway().await != Some(*gateway) {
                return self
                    .lost(gateway, &lease, "the gateway is another one")
                    .await;
            }
            let renewed = stop
                .run_until_cancelled(lease.renew(gateway, &timing))
                .await;
            match renewed {
                // Told to stop: the loop sees it.
                None => {}
                Some(Ok(())) => {
                    failed = 0;
                    renew_at = Instant::now() + lease.renew_after(&timing);
                    self.report_lease(&lease).await;
                }
                Some(Err(error)) => {
                    failed += 1;
                    debug!(%gateway, %error, failed, "the port mapping was not renewed");
                    if failed == RENEWALS_FAILED_MAX {
                        return self
                            .lost(gateway, &lease, "the gateway does not renew it")
                            .await;
                    }
                    // Three tries fit into what is left of the lease.
                    let wait = lease.renew_after(&timing) / 4;
                    renew_at = Instant::now() + wait.max(timing.renew_min);
                }
            }
        }
    }

    async fn lost(&mut self, gateway: &Gateway, lease: &Lease, why: &str) -> Ended {
        info!(external = %lease.external, why, "port mapping lost");
        self.report(Report::Mapping(None)).await;
        self.give_back(gateway, lease).await;
        Ended::Lost
    }

    async fn refuted(&mut self, gateway: &Gateway, lease: &Lease, held: Duration) -> Ended {
        let ip = lease.external.ip();
        let verdict = self
            .standing
            .refute(lease.protocol, ip, held, &self.keeper.timing);
        debug!(external = %lease.external, ?verdict, "port mapping refuted");
        self.report(Report::Mapping(None)).await;
        self.give_back(gateway, lease).await;
        if verdict == Verdict::GiveUp {
            self.report(Report::GaveUp(self.mapping(lease))).await;
        }
        Ended::Refuted(verdict)
    }

    async fn give_back(&self, gateway: &Gateway, lease: &Lease) {
        let timing = &self.keeper.timing;
        let _ = timeout(timing.release, lease.delete(gateway, timing)).await;
    }

    /// Waits for a time, or for ever, or until the network is another one.
    async fn wait(&mut self, gateway: &Gateway, time: Option<Duration>) -> Woken {
        let end = time.map(|time| Instant::now() + time);
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let look = self.keeper.timing.look;
            match self.pause(left.map_or(look, |left| left.min(look))).await {
                Woken::Time if left.is_some_and(|left| left <= look) => return Woken::Time,
                Woken::Time => {
                    if self.find_gateway().await != Some(*gateway) {
                        return Woken::News;
                    }
                }
                woken @ (Woken::Stopped | Woken::News) => return woken,
            }
        }
    }

    /// Sleeps, but for what cannot wait.
    async fn pause(&mut self, time: Duration) -> Woken {
        let end = Instant::now() + time;
        loop {
            tokio::select! {
                biased;
                () = self.keeper.stop.cancelled() => return Woken::Stopped,
                Some(command) = self.keeper.commands_rx.recv() => {
                    if matches!(command, Command::NetworkChanged) {
                        return Woken::News;
                    }
                }
                Some(probed) = self.probes.join_next() => {
                    if let Ok(probed) = probed {
                        self.report_probed(&probed).await;
                    }
                }
                () = sleep_until(end) => return Woken::Time,
            }
        }
    }

    async fn find_gateway(&self) -> Option<Gateway> {
        self.keeper.gateways.for_base(self.keeper.base).await
    }

    fn mapping(&self, lease: &Lease) -> Mapping {
        Mapping {
            base: self.keeper.base,
            external: lease.external,
            protocol: lease.protocol,
        }
    }

    async fn report_lease(&mut self, lease: &Lease) {
        let lifetime = lease.lifetime;
        let mapping = self.mapping(lease);
        debug!(?mapping, ?lifetime, "the gateway claims a port mapping");
        self.report(Report::Mapping(Some(mapping))).await;
        let presence = Presence {
            external_ip: Some(lease.external.ip()),
            ..self.presence
        };
        self.report_presence(presence).await;
    }

    async fn report_probed(&mut self, probed: &Probed) {
        let mut presence = self.presence;
        probed.note(&mut presence);
        self.report_presence(presence).await;
    }

    async fn report_presence(&mut self, presence: Presence) {
        if self.presence != presence {
            self.presence = presence;
            self.report(Report::Presence(presence)).await;
        }
    }

    async fn report(&self, report: Report) {
        // Nobody listens any more when everything ends.
        let _ = self
            .keeper
            .reports_tx
            .send((self.keeper.index, report))
            .await;
    }
}

/// What is known of a gateway that was not asked yet: NAT-PMP and UPnP are for IPv4.
fn before_asking(gateway: &Gateway) -> Presence {
    if gateway.local.is_ipv4() {
        return Presence::default();
    }
    Presence {
        pcp: None,
        ..Presence::absent()
    }
}
