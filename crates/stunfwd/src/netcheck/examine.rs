//! One address family: which NAT, which ports, how long.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use natprobe::{
    Event, LifetimeEvent, LifetimeReport, LifetimeSearch, ProbeConfig, Prober, Report, Sampler,
    SamplerEvent,
};

use super::Step;
use super::drive::drive;
use super::sockets::Sockets;
use crate::clock::now;
use crate::interfaces;
use crate::randomness::random_seed;

/// A network that blocks UDP is known after 3 s; with much loss a verdict may take more.
const PROBE_PATIENCE: Duration = Duration::from_millis(4200);

/// How long both together may take.
const EXAMINE_PATIENCE: Duration = Duration::from_millis(4900);

/// Fresh sockets for the pattern of the ports: a block is known after sixteen samples.
const SAMPLES: usize = 16;

/// They are taken in 0.3 s; one that is lost comes later, and the pattern shows without it.
const SAMPLE_PATIENCE: Duration = Duration::from_millis(1200);

/// The longest silence that is tried. RFC 4787, REQ-5, asks a NAT for two minutes; the kernel's conntrack gives a
/// stream three.
const LONGEST_IDLE: Duration = Duration::from_secs(190);

/// Beyond the longest silence: repeated questions.
const LIFETIME_MARGIN: Duration = Duration::from_secs(15);

/// How often progress is told of while nothing happens.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What was found out about one address family.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// Whether there was a server to ask.
    asked: bool,
    /// Whether the system knows a way there.
    routed: bool,
    pub(super) report: Option<Report>,
}

impl Examined {
    /// Says whether the family leads to the internet; `None` when nobody could be asked.
    pub(super) fn works(&self) -> Option<bool> {
        if !self.routed {
            return Some(false);
        }
        self.asked
            .then(|| self.report.as_ref().is_some_and(|report| report.udp))
    }

    /// Returns the servers that have answered.
    pub(super) fn answering(&self) -> Vec<SocketAddr> {
        let servers = self.report.iter().flat_map(|report| &report.servers);
        servers
            .filter(|it| it.reflexive.is_some())
            .map(|it| it.server)
            .collect()
    }
}

/// Examines one address family with the servers given, which are all of it.
pub(super) async fn examine((ipv6, servers): (bool, Vec<SocketAddr>)) -> Examined {
    let target = servers.first().copied();
    let mut examined = Examined {
        asked: target.is_some(),
        routed: has_route(ipv6, target),
        report: None,
    };
    // Without a server nothing can be asked, and without a route to any nobody is there to answer; only IPv4
    // has to be waited for, since a network without it is remarkable.
    if !examined.asked || (ipv6 && !examined.routed) {
        return examined;
    }
    let Ok(mut sockets) = Sockets::open(ipv6, 1) else {
        return examined;
    };
    let begun = now();
    let config = ProbeConfig {
        servers,
        local_addresses: interfaces::list().iter().map(|it| it.net.addr()).collect(),
        ..ProbeConfig::default()
    };
    let local = sockets.locals()[0];
    let mut prober = Prober::new(config, local, random_seed(), begun);
    let mut report = None;
    drive(&mut prober, &mut sockets, begun + PROBE_PATIENCE, |event| {
        if let Event::Classified(classified) = event {
            report = Some(classified);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })
    .await;
    // What is known by then is better than nothing.
    examined.report = report.or_else(|| prober.report().cloned());
    examined.report.get_or_insert_default();
    sample(ipv6, &mut examined, begun + EXAMINE_PATIENCE).await;
    examined
}

/// Looks at the ports that fresh sockets are given. Afterwards, since each of them takes one from the pattern that the
/// first socket shows.
async fn sample(ipv6: bool, examined: &mut Examined, end: Instant) {
    let answering = examined.answering();
    let Some(report) = examined.report.as_mut() else {
        return;
    };
    if answering.is_empty() || report.behind_nat == Some(false) {
        return;
    }
    let Ok(mut sockets) = Sockets::open(ipv6, SAMPLES) else {
        return;
    };
    let mut sampler = Sampler::new(answering, sockets.locals(), random_seed(), now());
    drive(
        &mut sampler,
        &mut sockets,
        end.min(now() + SAMPLE_PATIENCE),
        |event| {
            if event == SamplerEvent::Finished {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        },
    )
    .await;
    let mappings: Vec<_> = sampler.mappings().collect();
    report.add_samples(&mappings);
}

/// Finds out how long a binding lives.
pub(super) async fn lifetime(
    servers: &[SocketAddr],
    progress: &impl Fn(Step),
) -> Option<LifetimeReport> {
    let ipv6 = servers.first()?.is_ipv6();
    let mut sockets = Sockets::open(ipv6, LifetimeSearch::SOCKETS).ok()?;
    let locals = sockets.locals();
    let begun = now();
    let mut search =
        LifetimeSearch::new(servers.to_vec(), locals, LONGEST_IDLE, random_seed(), begun);
    let mut report = None;
    let end = begun + LONGEST_IDLE + LIFETIME_MARGIN;
    let searching = drive(&mut search, &mut sockets, end, |event| {
        if let LifetimeEvent::Finished(finished) = event {
            report = Some(finished);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    let telling = async {
        let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
        loop {
            ticks.tick().await;
            progress(Step::WaitingForBindings {
                waited: now().saturating_duration_since(begun),
                longest: LONGEST_IDLE,
            });
        }
    };
    tokio::select! {
        () = searching => {}
        () = telling => {}
    }
    report
}

/// Says whether the system knows a way to the internet over this family. Nothing is sent.
fn has_route(ipv6: bool, target: Option<SocketAddr>) -> bool {
    let Some(target) = target else {
        // Whom to ask is not known, but an address that the internet can reach is a good sign.
        return interfaces::list().iter().any(|it| match it.net.addr() {
            std::net::IpAddr::V6(ip) => ipv6 && ip.segments()[0] & 0xe000 == 0x2000,
            std::net::IpAddr::V4(ip) => !ipv6 && !ip.is_loopback(),
        });
    };
    let local: SocketAddr = if ipv6 {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    };
    std::net::UdpSocket::bind(local).is_ok_and(|socket| socket.connect(target).is_ok())
}
